"""Images of virtual machines: a Debian disk with its own boot loader, and the memory of its first boot, made once.

Every target is a thin copy of the disk that goes on from that memory: up in seconds, though a boot under emulation
takes half a minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ProvisionError, refuse
from provision.lab import files, images, paths, record, scripts, vm_scripts
from provision.lab.qemu import DISK_GIB, Qemu, fingerprint
from provision.lab.system import locked, run

PACKAGES = (
    *images.PACKAGES, "linux-image-amd64", "grub-pc", "initramfs-tools", "zstd", "e2fsprogs", "util-linux-extra",
)  # fmt: skip
BUILD_PACKAGES = ("linux-headers-amd64", "dkms", "build-essential")
FIRST_SECTOR = 2048
BOOT_SECONDS = 600  # 20 on an idle machine, but twelve times that on one with ten busy processes


@dataclass(frozen=True)
class VmImage:
    """One kind of virtual machine."""

    name: str
    summary: str
    packages: tuple[str, ...] = PACKAGES
    codename: str = images.CODENAME


@dataclass(frozen=True)
class Template:
    """A ready image: its disk, its memory, and the keys with which the saved machine is met."""

    disk: Path
    memory: Path
    login_key: Path
    host_key: Path


IMAGES: Mapping[str, VmImage] = {
    image.name: image
    for image in (
        VmImage("vm-debian-12", "a virtual machine with Debian 12: kernel, boot loader and disks of its own"),
        VmImage(
            "vm-debian-12-build",
            "the same with kernel headers, compiler and DKMS, which take minutes to install under emulation",
            (*PACKAGES, *BUILD_PACKAGES),
        ),
    )
}


def root() -> Path:
    """The folder of the images."""
    return paths.cache_root() / "vm"


def home(image: VmImage) -> Path:
    """The folder of the image that today's recipe makes."""
    return root() / f"{image.name}-{_recipe(image)}"


def lock(image: VmImage) -> Path:
    """The lock of whoever makes this image or starts a target from it."""
    return root() / f"{image.name}.lock"


def ensure(image: VmImage) -> Template:
    """The ready image, made (some minutes) when the cache lacks it. The caller holds the lock."""
    folder = home(image)
    template = Template(*(folder / name for name in ("disk.qcow2", "memory", "id_ed25519", "ssh_host_ed25519_key")))
    if not folder.exists():
        draft = root() / f".{image.name}"
        discard_draft(image)
        draft.mkdir(parents=True, mode=0o700)
        try:
            _build(image, draft)
            draft.rename(folder)
        finally:
            discard_draft(image)
        for older in root().glob(f"{image.name}-{'?' * 12}"):
            # A running target keeps its open disk.
            if older != folder and older.is_dir():
                shutil.rmtree(older)
    return template


def discard_draft(image: VmImage) -> None:
    """Remove what a build left that did not end, its machine included. The caller holds the lock."""
    draft = root() / f".{image.name}"
    if draft.exists():
        Qemu(_machine(image), draft).kill()
        shutil.rmtree(draft)


def discard_drafts() -> None:
    """Remove what builds left that did not end, unless one goes on now."""
    for image in IMAGES.values():
        with suppress(ProvisionError), locked(lock(image), timeout=0):
            discard_draft(image)


def _recipe(image: VmImage) -> str:
    """Twelve hexadecimal digits that change whenever anything that goes into the image changes."""
    texts = [
        scripts.FINISH,
        vm_scripts.PREPARE,
        vm_scripts.FINISH,
        vm_scripts.WRITE_DISK,
        vm_scripts.SETTLE,
        *sorted(vm_scripts.FILES.items()),
    ]
    recipe = [image.name, image.packages, image.codename, DISK_GIB, fingerprint(), texts]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def _machine(image: VmImage) -> str:
    return f"provision-{paths.storage_id()}-{image.name}"


def _build(image: VmImage, folder: Path) -> None:
    """Make the disk, let the machine install its boot loader, boot it with that and save it."""
    archive, raw = folder / "root.tar", folder / "disk.raw"
    machine = Qemu(_machine(image), folder)
    login_key = files.make_key(folder / "id_ed25519", "provision-lab-image")
    host_key = files.make_key(folder / "ssh_host_ed25519_key", image.name)
    identity = files.identity_archive(host_key, login_key, vm_scripts.FILES)
    stages = {"essential": vm_scripts.PREPARE, "customize": scripts.FINISH + vm_scripts.FINISH}
    images.debootstrap(archive, image.codename, image.packages, stages)
    _write_disk(archive, identity, raw)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(machine.disk)], timeout=300)
    machine.blank_disks()
    machine.run_once(folder / "vmlinuz", folder / "initrd.img", vm_scripts.BOOT_LOADER_PATH, timeout=BOOT_SECONDS)
    if vm_scripts.BOOT_LOADER_DONE not in machine.console.read_text(errors="replace"):
        kept = root() / f"{image.name}.log"
        machine.console.replace(kept)
        raise refuse(f"lab image {image.name}", "could not install its boot loader", f"see what it wrote: {kept}")
    machine.start()
    _wait_booted(machine, login_key, host_key, image.name)
    machine.save(folder / "memory")
    for name in ("root.tar", "disk.raw", "vmlinuz", "initrd.img", "hdd.raw", "nvme.raw", "console.log"):
        (folder / name).unlink(missing_ok=True)


def _write_disk(archive: Path, identity: bytes, raw: Path) -> None:
    """Write a partition table and one file system that holds the archive's files. Needs no mount and no loop device."""
    sectors = (DISK_GIB << 30) // 512
    with raw.open("wb") as disk:
        disk.truncate(DISK_GIB << 30)
        disk.seek(446)
        # One bootable Linux partition up to the end, by sector numbers: a master boot record's first entry.
        entry = struct.pack(
            "<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_SECTOR, sectors - FIRST_SECTOR
        )
        disk.write(entry + bytes(48) + b"\x55\xaa")
    # An ordinary user has to own the files of many users, as in the container that he would start.
    helper = [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]
    arguments = (archive, raw, FIRST_SECTOR * 512, f"{(sectors - FIRST_SECTOR) // 2}k")
    argv = [*helper, "sh", "-euc", vm_scripts.WRITE_DISK, "sh", *map(str, arguments)]
    run(argv, timeout=300, stdin=identity)


def _wait_booted(machine: Qemu, login_key: Path, host_key: Path, image: str) -> None:
    """Wait until the machine has booted by itself and everything in it rests."""
    deadline = time.monotonic() + BOOT_SECONDS
    host = meet(machine, login_key, host_key, image)
    while not record.greets(host.address, host.port):
        if machine.pid() is None or time.monotonic() > deadline:
            raise refuse(f"lab image {image}", "does not boot from its disk", f"see what it wrote: {machine.console}")
        time.sleep(0.5)
    run([*record.ssh(host), vm_scripts.SETTLE], timeout=BOOT_SECONDS)


def meet(machine: Qemu, login_key: Path, host_key: Path, image: str) -> record.LabHost:
    """How a machine is reached that has the image's own keys still."""
    port = machine.port()
    known_hosts = machine.disk.with_name("known_hosts")
    files.write_private(known_hosts, files.known_hosts_line("127.0.0.1", port, host_key))
    return record.LabHost(image, "127.0.0.1", port, "admin", image, str(login_key), str(known_hosts), "", kind="vm")
