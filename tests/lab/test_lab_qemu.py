"""What is decided about a virtual machine before one runs."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from provision.lab import container, images, qemu, roots, system, vm, vm_disk, vm_images, vm_scripts
from provision.lab.qemu import Qemu
from provision.operations.lab import bring_up


def test_missing_tools_of_machines_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(system, "HELPER_FOLDERS", ())
    with pytest.raises(ProvisionError) as caught:
        lab.up("box", "vm-debian-12")
    hint = "e2fsprogs mmdebstrap openssh-client qemu-system-x86 qemu-utils"
    assert caught.value.refusals[0].hint == f"run: sudo apt-get install -y --no-install-recommends {hint}"


def test_the_image_says_which_kind_a_target_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def up(name: str, image: str) -> lab.LabHost:
        asked.append(image)
        return lab.LabHost(name, "127.0.0.1", 22, "admin", image, "/k", "/h", "/i")

    monkeypatch.setattr(lab, "up", up)
    bring_up("box")
    bring_up("box", vm=True)
    bring_up("box", "vm-debian-12-build")
    bring_up("box", "vm-debian-12-build", vm=True)
    assert asked == ["debian-12", "vm-debian-12", "vm-debian-12-build", "vm-debian-12-build"]
    with pytest.raises(ProvisionError, match=r"--vm contradicts --image ubuntu-22\.04-standin, a container's"):
        bring_up("box", "ubuntu-22.04-standin", vm=True)
    assert not set(container.IMAGES) & set(vm.IMAGES)


@pytest.mark.parametrize(("flags", "usable"), [("fpu svm", True), ("fpu vmx", True), ("fpu", False)])
def test_kvm_needs_a_processor_that_has_it(
    flags: str, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(qemu, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(qemu, "CPUINFO", tmp_path / "cpuinfo")
    assert qemu.has_kvm() is usable
    assert ("kvm" in qemu.accelerator()) is usable
    monkeypatch.setattr(qemu, "KVM", tmp_path / "absent")
    assert not qemu.has_kvm()


def test_only_the_process_that_was_told_to_write_the_file_is_the_machine(tmp_path: Path) -> None:
    machine = Qemu("box", tmp_path)
    assert machine.pid() is None
    for content in (f"{os.getpid()}\n", "", "no number", f"{2**22 + 1}\n"):
        (tmp_path / "qemu.pid").write_text(content)
        assert machine.pid() is None
        machine.kill()  # and nobody else is ended


def test_the_recipe_follows_qemu_and_what_goes_into_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_images, "fingerprint", lambda: "one")
    plain, build = (vm_images._recipe(image) for image in vm_images.IMAGES.values())
    assert plain != build
    monkeypatch.setattr(vm_images, "fingerprint", lambda: "two")
    other = vm_images._recipe(vm_images.IMAGES["vm-debian-12"])
    assert other != plain
    monkeypatch.setattr(vm_scripts, "WRITE_DISK", vm_scripts.WRITE_DISK + "true\n")
    assert vm_images._recipe(vm_images.IMAGES["vm-debian-12"]) != other


def test_the_recipe_of_a_root_follows_all_that_it_stands_on() -> None:
    before = {roots.recipe(root) for root in (vm_images.PLAIN, vm_images.BUILD)}
    base = replace(images.root("bookworm"), packages=("systemd",))
    plain = replace(vm_images.PLAIN, base=base)
    finished = replace(vm_images.PLAIN, scripts={"customize": "true"})
    after = {roots.recipe(root) for root in (plain, finished, replace(vm_images.BUILD, base=plain))}
    assert len(before | after) == 5


def test_the_disks_change_ports_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(qemu.DISK_ORDER, raising=False)
    image = vm_images.IMAGES["vm-debian-12"]
    monkeypatch.setattr(qemu, "run", lambda *_words, **_options: "QEMU")
    usual = vm_images.home(image)
    assert "ide-hd,drive=system,bus=ide.0," in " ".join(qemu.chassis(qemu.disk_order()))
    monkeypatch.setenv(qemu.DISK_ORDER, "flipped")
    assert "ide-hd,drive=system,bus=ide.1," in " ".join(qemu.chassis(qemu.disk_order()))
    # An image of its own, beside the other: the saved memory has the disks' names in it.
    flipped = vm_images.home(image)
    assert flipped.name.startswith("vm-debian-12-flipped-")
    assert flipped.name[-12:] != usual.name[-12:]
    monkeypatch.setenv(qemu.DISK_ORDER, "backwards")
    with pytest.raises(ProvisionError, match="PROVISION_LAB_DISK_ORDER=backwards names no order of disks"):
        vm_images.home(image)


def test_the_first_sectors_hold_the_boot_loader_and_one_partition() -> None:
    boot = b"\xeb" + bytes(510) + b"\xaa"
    written = vm_disk.first_sectors(boot, b"core" * 200, 41943040)
    assert written[:440] == boot[:440]
    assert written[446] == 0x80  # bootable
    assert struct.unpack("<II", written[454:462]) == (2048, 41943040 - 2048)
    assert written[510:512] == b"\x55\xaa"
    assert written[512:] == b"core" * 200
    with pytest.raises(ValueError, match="more than there are before the partition"):
        vm_disk.first_sectors(boot, bytes(2 << 20), 41943040)


def test_shared_folders_stand_in_fstab_as_it_spells_them() -> None:
    lines = vm_scripts.shared(["/opt/wheels", "/srv/my wheels"]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["folder0", "/opt/wheels", "9p"],
        ["folder1", "/srv/my\\040wheels", "9p"],
    ]
