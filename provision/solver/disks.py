"""How a disk is called, what is on it, and why it must not be touched. Pure."""

from __future__ import annotations

import re

from provision.model import Disk
from provision.solver.box import Box

# The system's own places, and swap. What is mounted elsewhere is somebody's data.
_SYSTEM = ("/", "/boot", "/boot/efi", "/usr", "/var", "/home", "[SWAP]")
# The most telling kinds first: a model and a serial number are printed on the disk's label.
_KINDS = ("nvme-", "ata-", "scsi-S", "scsi-0", "scsi-", "virtio-", "usb-", "wwn-")
_NUMBERS = re.compile(r"nvme-(eui|nvme|uuid|ng)[.-]")


def by_id(disk: Disk) -> str:
    """Its most telling stable name, the same one every time; empty where it has none."""

    def rank(name: str) -> tuple[int, int, str]:
        telling = next((place for place, kind in enumerate(_KINDS) if name.startswith(kind)), len(_KINDS))
        return (len(_KINDS) + 1 if _NUMBERS.match(name) else telling, len(name), name)

    return min(disk.by_id, key=rank, default="")


def named(box: Box, name: str) -> Disk | None:
    """The disk that has this stable name."""
    return next((disk for disk in box.hardware.disks if name.rpartition("/")[2] in disk.by_id), None)


def label(disk: Disk) -> str:
    """`nvme-X`, or where a disk has no stable name its kernel's."""
    return by_id(disk) or f"/dev/{disk.name}"


def what_is_on(disk: Disk) -> str:
    """What was found on it, as one clause."""
    return ", ".join(disk.contents) or "nothing"


def guard(disk: Disk) -> str:
    """Why it is never written to, whoever names it: a clause with what is on it; empty where it may be."""
    if set(disk.mounts) & set(_SYSTEM):
        return f"the disk this system runs from (on it: {what_is_on(disk)})"
    return f"which is in use (on it: {what_is_on(disk)})" if disk.mounts else ""


def known(box: Box) -> str:
    """A hint with the names there are."""
    names = [name for disk in box.hardware.disks if (name := by_id(disk))]
    return f"use {', '.join(names)}" if names else "this box shows no disk with a stable name"
