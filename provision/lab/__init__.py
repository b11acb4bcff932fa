"""Throwaway container targets that boot systemd and answer SSH like a bare box."""

from provision.lab.images import IMAGES
from provision.lab.mirrors import controller_mirrors
from provision.lab.paths import inventory_file as inventory_path
from provision.lab.system import faults, require
from provision.lab.targets import LabHost, down, hosts, ssh_argv, up

__all__ = [
    "IMAGES",
    "LabHost",
    "controller_mirrors",
    "down",
    "faults",
    "hosts",
    "inventory_path",
    "require",
    "ssh_argv",
    "up",
]
