"""Throwaway targets, containers and virtual machines, that boot systemd and answer SSH like a bare box."""

from provision.lab.mirrors import controller_mirrors
from provision.lab.paths import inventory_file as inventory_path
from provision.lab.qemu import has_kvm
from provision.lab.record import LabHost
from provision.lab.system import faults, lacking, require
from provision.lab.targets import DEFAULT_IMAGE, DEFAULT_VM_IMAGE, IMAGES, down, hosts, is_virtual, ssh_argv, up

__all__ = [
    "DEFAULT_IMAGE",
    "DEFAULT_VM_IMAGE",
    "IMAGES",
    "LabHost",
    "controller_mirrors",
    "down",
    "faults",
    "has_kvm",
    "hosts",
    "inventory_path",
    "is_virtual",
    "lacking",
    "require",
    "ssh_argv",
    "up",
]
