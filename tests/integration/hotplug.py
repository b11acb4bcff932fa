"""Disks that are plugged into a lab's virtual machine and out of it, and what is on them seen from outside."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from provision.errors import ProvisionError
from provision.lab.qemu import SLOTS, Qemu

CONTROLLER = "scsi"
SIZE, BLOCK = 1 << 30, 1 << 16


class Drives:
    """Hard disks of 1 GiB behind one SCSI controller, by serial number."""

    def __init__(self, machine: Qemu, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        machine.tell("device_add", driver="virtio-scsi-pci", id=CONTROLLER, bus=f"slot{SLOTS - 1}")

    def file(self, serial: str) -> Path:
        return self.folder / f"{serial}.raw"

    def make(self, serial: str) -> Path:
        """An empty disk, which takes no space until something is written."""
        file = self.file(serial)
        file.touch()
        os.truncate(file, SIZE)
        return file

    def plug(self, serial: str) -> None:
        """The kernel names disks in the order in which they come."""
        storage = {"driver": "file", "filename": str(self.file(serial)), "discard": "unmap"}
        node = {"driver": "raw", "node-name": serial, "discard": "unmap", "file": storage}
        self.machine.tell("blockdev-add", **node)
        self.machine.tell(
            "device_add", driver="scsi-hd", id=f"disk-{serial}", bus=f"{CONTROLLER}.0", drive=serial, serial=serial,
            rotation_rate=7200,
        )  # fmt: skip

    def unplug(self, serial: str) -> None:
        self.machine.tell("device_del", id=f"disk-{serial}")
        deadline = time.monotonic() + 60
        while True:  # the node is in use until the machine has let go of its disk
            try:
                self.machine.tell("blockdev-del", **{"node-name": serial})
                return
            except ProvisionError:
                assert time.monotonic() < deadline
                time.sleep(0.5)


def by_id(serial: str) -> str:
    return f"scsi-0QEMU_QEMU_HARDDISK_{serial}"


def fingerprint(file: Path) -> str:
    """A hash of everything on a raw disk but its zeros; holes are not read."""
    found, at, end = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as stream:
        while at < end:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                break  # nothing but a hole is left
            stream.seek(at)
            block = stream.read(BLOCK)
            if block.strip(b"\0"):
                found.update(b"%d:" % at + block)
            at += BLOCK
    return found.hexdigest()
