"""The disk of a virtual machine's image: partition table, boot loader and file system, written without starting it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from provision.lab import vm_scripts
from provision.lab.qemu import DISK_GIB
from provision.lab.system import run

SECTOR = 512
FIRST_SECTOR = 2048
BOOT_CODE = 440  # what a master boot record has room for before the disk's signature


def write(archive: Path, identity: bytes, raw: Path) -> None:
    """Write a bootable disk that holds the archive's files. Needs no mount and no loop device."""
    sectors = (DISK_GIB << 30) // SECTOR
    with raw.open("wb") as disk:
        disk.truncate(DISK_GIB << 30)
    # An ordinary user has to own the files of many users, as in the container that he would start.
    helper = [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]
    boot, core = raw.with_name("boot.img"), raw.with_name("core.img")
    arguments = (archive, raw, FIRST_SECTOR * SECTOR, f"{(sectors - FIRST_SECTOR) // 2}k")
    argv = [*helper, "sh", "-euc", vm_scripts.WRITE_DISK, "sh", *map(str, arguments)]
    run(argv, timeout=300, stdin=identity)
    with raw.open("r+b") as disk:
        disk.write(first_sectors(boot.read_bytes(), core.read_bytes(), sectors))
    boot.unlink()
    core.unlink()


def first_sectors(boot: bytes, core: bytes, sectors: int) -> bytes:
    """The master boot record, and behind it GRUB's core image, as grub-bios-setup lays them before the partition.

    Both images look for their next part just there unless they are told otherwise.
    """
    if len(core) > (FIRST_SECTOR - 1) * SECTOR:
        raise ValueError(f"GRUB's core image takes {len(core)} bytes, more than there are before the partition")
    # One bootable Linux partition up to the end, by sector numbers: a master boot record's first entry.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_SECTOR, sectors - FIRST_SECTOR)
    record = boot[:BOOT_CODE] + bytes(6) + entry + bytes(48) + b"\x55\xaa"
    return record + core
