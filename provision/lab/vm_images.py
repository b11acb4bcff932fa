"""Images of virtual machines: a Debian disk with its own boot loader, and the memory of its first boot, made once.

Every target is a thin copy of the disk that goes on from that memory: up in seconds, though a boot under emulation
takes half a minute.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ProvisionError, refuse
from provision.lab import files, images, paths, record, roots, scripts, vm_disk, vm_scripts
from provision.lab.qemu import DISK_GIB, Qemu, disk_order, fingerprint
from provision.lab.steps import step
from provision.lab.system import locked, run

PACKAGES = ("linux-image-amd64", "grub-pc", "initramfs-tools", "zstd", "e2fsprogs", "util-linux-extra")
# What Ubuntu's server installer leaves, and two more: apt takes minutes for them under emulation. Not where drivers are
# built: with these an initramfs takes minutes too, and there each build of a driver makes one.
SERVER_PACKAGES = (
    "ethtool", "iputils-ping", "irqbalance", "nftables", "lvm2", "mdadm", "xfsprogs", "iperf3", "nvme-cli",
)  # fmt: skip
BUILD_PACKAGES = ("linux-headers-amd64", "dkms", "build-essential")
BOOTABLE = roots.Root(
    "vm-debian-12-bootable", images.CODENAME, PACKAGES, images.root(images.CODENAME),
    {"essential": vm_scripts.PREPARE, "customize": scripts.FINISH + vm_scripts.FINISH},
)  # fmt: skip
MORE = {"customize": vm_scripts.CLEAN + vm_scripts.LISTS}
PLAIN = roots.Root("vm-debian-12", images.CODENAME, SERVER_PACKAGES, BOOTABLE, MORE, lists=True)
BUILD = roots.Root("vm-debian-12-build", images.CODENAME, BUILD_PACKAGES, BOOTABLE, MORE, lists=True)
BOOT_SECONDS = 600  # 20 on an idle machine, but twelve times that on one with ten busy processes


@dataclass(frozen=True)
class VmImage:
    """One kind of virtual machine."""

    name: str
    summary: str
    root: roots.Root = PLAIN

    @property
    def codename(self) -> str:
        """The release whose packages it has."""
        return self.root.codename


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
            BUILD,
        ),
    )
}


def root() -> Path:
    """The folder of the images."""
    return paths.cache_root() / "vm"


def home(image: VmImage) -> Path:
    """The folder of the image that today's recipe makes."""
    return root() / f"{_label(image)}-{_recipe(image)}"


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
            with step(f"image {_label(image)}"):
                _build(image, draft)
            draft.rename(folder)
        finally:
            discard_draft(image)
        for older in root().glob(f"{_label(image)}-{'?' * 12}"):
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


def _label(image: VmImage) -> str:
    """What tells images apart: of each there may be one for each order of the disks."""
    return image.name if disk_order() == "usual" else f"{image.name}-{disk_order()}"


def _recipe(image: VmImage) -> str:
    """Twelve hexadecimal digits that change whenever anything that goes into the image changes."""
    texts = [vm_scripts.WRITE_DISK, vm_scripts.SETTLE, *sorted(vm_scripts.FILES.items())]
    recipe = [image.name, roots.recipe(image.root), DISK_GIB, fingerprint(), texts]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def _machine(image: VmImage) -> str:
    return f"provision-{paths.storage_id()}-{image.name}"


def _build(image: VmImage, folder: Path) -> None:
    """Make the disk, boot the machine from it and save that."""
    raw = folder / "disk.raw"
    machine = Qemu(_machine(image), folder)
    login_key = files.make_key(folder / "id_ed25519", "provision-lab-image")
    host_key = files.make_key(folder / "ssh_host_ed25519_key", image.name)
    identity = files.identity_archive(host_key, login_key, vm_scripts.FILES)
    archive = roots.ensure(image.root)
    with step(f"disk of {image.name}"):
        vm_disk.write(archive, identity, raw)
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(machine.disk)], timeout=300)
    raw.unlink()
    machine.blank_disks()
    with step(f"first boot of {image.name}"):
        machine.start()
        _wait_booted(machine, login_key, host_key, image.name)
        machine.save(folder / "memory")
    for name in ("hdd.raw", "nvme.raw", "console.log"):
        (folder / name).unlink(missing_ok=True)


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
