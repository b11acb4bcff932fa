"""Targets that are virtual machines: a thin copy of an image's disk, going on from the image's saved memory."""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path
from typing import Any

from provision.errors import refuse
from provision.lab import files, mirrors, paths, record, vm_images, vm_scripts
from provision.lab.qemu import CONTROLLER, NVME, SLOTS, Qemu, incoming
from provision.lab.record import LabHost
from provision.lab.system import VIRTUAL, locked, require, run

IMAGES = vm_images.IMAGES
LOAD_SECONDS = 180  # 3 on an idle machine


def create(name: str, image: str) -> tuple[LabHost, dict[str, Any]]:
    """Start a target whose leftovers are gone; how it is reached, and its mirrors.

    What a failure leaves, the caller removes.
    """
    require(*VIRTUAL)
    login_key, password = files.shared_secrets()
    folder = paths.host_folder(name)
    host_key = files.make_key(folder / "ssh_host_ed25519_key", name)
    reachable = mirrors.controller_mirrors(IMAGES[image].codename)
    shares = mirrors.folders(reachable)
    met = _start(_machine(name), image, shares)
    texts = {
        "etc/hostname": f"{name}\n",
        "etc/hosts": vm_scripts.hosts(name),
        "etc/fstab": vm_scripts.shared(shares),
        vm_scripts.PASSWORDS.lstrip("/"): f"needpass:{password.read_text().strip()}\n",
    }
    script = vm_scripts.become(name, shares, int(time.time()))
    identity = files.identity_archive(host_key, login_key, texts)
    run([*record.ssh(met), f"sudo -n sh -c {shlex.quote(script)}"], timeout=LOAD_SECONDS, stdin=identity)

    files.write_private(Path(met.known_hosts), files.known_hosts_line(met.address, met.port, host_key))
    inventory = str(paths.inventory_file())
    host = dataclasses.replace(
        met, name=name, identity_file=str(login_key), inventory=inventory, controller=CONTROLLER
    )  # fmt: skip
    run([*record.ssh(host), "true"], timeout=LOAD_SECONDS)
    return host, reachable


def _start(machine: Qemu, image: str, shares: list[str]) -> LabHost:
    """Start a machine from an image's memory, with folders of the controller; it still has the image's identity."""
    if len(shares) >= SLOTS:
        fact = f"has {len(shares)} wheel folders and indexes, and a virtual machine has room for {SLOTS - 1}"
        raise refuse("this machine's pip configuration", fact, "see them: pip config list")
    with locked(vm_images.lock(IMAGES[image])):
        template = vm_images.ensure(IMAGES[image])
        backing = ["-b", str(template.disk), "-F", "qcow2"]
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(machine.disk)], timeout=30)
        machine.blank_disks()
        machine.start(*incoming(template.memory, shares))
        machine.wait_status("paused", LOAD_SECONDS)
    machine.tell("device_add", **NVME)
    for number in range(len(shares)):
        device = {"driver": "virtio-9p-pci", "fsdev": f"folder{number}", "mount_tag": f"folder{number}"}
        machine.tell("device_add", **device, bus=f"slot{number + 1}")
    machine.tell("cont")
    return vm_images.meet(machine, template.login_key, template.host_key, image)


def states() -> dict[str, str]:
    """State ("running", "stopped") of each target of this lab by name, of those too that did not come up."""
    folders = (paths.state_root() / "hosts").glob("*/disk.qcow2")
    return {file.parent.name: "running" if _machine(file.parent.name).pid() else "stopped" for file in folders}


def remove(name: str) -> None:
    """End a target's machine. Its files go with the target's folder."""
    _machine(name).kill()


def wind_down() -> None:
    """Remove what a build of an image left that did not end."""
    vm_images.discard_drafts()


def _machine(name: str) -> Qemu:
    return Qemu(f"provision-{paths.lab_id()}-{name}", paths.host_folder(name))
