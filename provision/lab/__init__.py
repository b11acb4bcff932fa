"""Throwaway targets, containers and virtual machines, that boot systemd and answer SSH like a bare box."""

from provision.lab.building import build
from provision.lab.mirrors import controller_mirrors
from provision.lab.paths import inventory_file as inventory_path
from provision.lab.paths import state_root as state_folder
from provision.lab.qemu import has_kvm
from provision.lab.record import LabHost
from provision.lab.steps import told_to
from provision.lab.system import faults, lacking, needs_root, require
from provision.lab.targets import DEFAULT_IMAGE, DEFAULT_VM_IMAGE, IMAGES, down, hosts, is_virtual, ssh_argv, up

__all__ = [
    "DEFAULT_IMAGE",
    "DEFAULT_VM_IMAGE",
    "IMAGES",
    "LabHost",
    "build",
    "controller_mirrors",
    "down",
    "faults",
    "has_kvm",
    "hosts",
    "inventory_path",
    "is_virtual",
    "lacking",
    "needs_root",
    "require",
    "ssh_argv",
    "state_folder",
    "told_to",
    "up",
]
