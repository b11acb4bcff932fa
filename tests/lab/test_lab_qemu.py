"""What is decided about a virtual machine before one runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from provision.lab import container, qemu, system, vm, vm_images, vm_scripts
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
    monkeypatch.setattr(vm_scripts, "FINISH", vm_scripts.FINISH + "true\n")
    assert vm_images._recipe(vm_images.IMAGES["vm-debian-12"]) != other


def test_shared_folders_stand_in_fstab_as_it_spells_them() -> None:
    lines = vm_scripts.shared(["/opt/wheels", "/srv/my wheels"]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["folder0", "/opt/wheels", "9p"],
        ["folder1", "/srv/my\\040wheels", "9p"],
    ]
