"""A real virtual machine: disks and cards of its own, a boot loader that boots what is installed, and no trace left."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from provision.lab import holder, mirrors, paths, record, vm, vm_images
from provision.lab.qemu import Qemu
from tests.conftest import lab_state, up_or_skip
from tests.integration.conftest import Answer, Target, provision
from tests.standins.apt_repository import Server

IMAGE = "vm-debian-12"
OWN_STATE = lab_state() / "vm-tests"
SSD, HDD, NVME = "ata-LAB-SSD_LAB0SSD", "ata-LAB-HDD_LAB0HDD", "nvme-QEMU_NVMe_Ctrl_LAB0NVME"
BOOTS = 5  # which disk the kernel names first is a race, which the lower port wins nearly always


@pytest.fixture(scope="module")
def machine(test_lab: None) -> Iterator[lab.LabHost]:
    """One machine for the tests of this file, in the order in which they stand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(OWN_STATE))
        lab.down(every=True)
        try:
            yield up_or_skip("box", IMAGE)
        finally:
            lab.down(every=True)


@pytest.fixture
def box(machine: lab.LabHost, monkeypatch: pytest.MonkeyPatch) -> lab.LabHost:
    monkeypatch.setenv("XDG_STATE_HOME", str(OWN_STATE))
    return machine


def on(host: lab.LabHost, command: str, *, user: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [*lab.ssh_argv(host.name, user), command]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def said(host: lab.LabHost, command: str) -> str:
    done = on(host, command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.lab
def test_it_comes_up_as_one_target_among_others(box: lab.LabHost) -> None:
    assert lab.up("box", IMAGE) == box  # a second call finds it
    assert [(host.name, host.kind, host.running) for host in lab.hosts()] == [("box", "vm", True)]
    assert said(box, "systemctl is-system-running; hostname; id -un; sudo -n id -un").split() == [
        "running", "box", "admin", "root",
    ]  # fmt: skip
    assert abs(int(said(box, "date +%s")) - time.time()) < 30
    with pytest.raises(ProvisionError, match="is up already, with image vm-debian-12 and not debian-12"):
        lab.up("box", "debian-12")


@pytest.mark.lab
def test_its_keys_and_passwords_are_its_own(box: lab.LabHost) -> None:
    template = vm_images.home(vm.IMAGES[IMAGE])
    stranger = record.ssh(replace(box, identity_file=str(template / "id_ed25519")))
    refused = subprocess.run([*stranger, "true"], capture_output=True, text=True, timeout=60, check=False)
    assert "Permission denied" in refused.stderr
    assert "not accessible" not in refused.stderr
    key = (template / "ssh_host_ed25519_key.pub").read_text().split()[1]
    assert key not in said(box, "cat /etc/ssh/ssh_host_*.pub")
    assert Path(box.known_hosts).read_text().split()[2] in said(box, "cat /etc/ssh/ssh_host_*.pub")
    password = (paths.state_root() / "needpass.password").read_text()
    assert on(box, "sudo -S -p '' id -un", user="needpass", stdin=password).stdout == "root\n"
    assert on(box, "sudo -S -p '' id -un", user="nosudo", stdin=password).returncode == 1


@pytest.mark.lab
def test_the_probe_sees_a_server(box: lab.LabHost, tmp_path: Path) -> None:
    answer: Answer = provision(
        "plan", "--tier", "budget", "-i", box.inventory, "--limit", "box", "--output", "json", home=tmp_path
    )  # fmt: skip
    found = answer.host("box")["hardware"]
    disks = {disk["by_id"][0]: (disk["rotational"], disk["transport"]) for disk in found["disks"]}
    assert disks == {SSD: (False, "sata"), HDD: (True, "sata"), NVME: (False, "nvme")}
    assert {nic["driver"] for nic in found["nics"]} == {"virtio_net", "vmxnet3"}
    assert said(box, "ls /dev/ipmi0") == "/dev/ipmi0"


@pytest.mark.lab
def test_it_reaches_the_mirror_and_its_controller(box: lab.LabHost, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("hello from the controller\n")
    with Server(tmp_path) as server:
        url = f"http://{box.controller}:{server.port}/word"
        script = f"import urllib.request as u; print(u.urlopen('{url}', timeout=20).read().decode())"
        assert said(box, f'python3 -c "{script}"') == "hello from the controller"
    # One suite: reading all of them takes half a minute under emulation.
    suite = "-o Dir::Etc::SourceList=/tmp/suite -o Dir::Etc::SourceParts=- -o APT::Update::Error-Mode=any"
    said(box, f"grep updates /etc/apt/sources.list > /tmp/suite && sudo apt-get -qq {suite} update")


@pytest.mark.lab
def test_it_reboots_for_real_from_its_own_disk(box: lab.LabHost, tmp_path: Path) -> None:
    # What only a boot loader reads: a reboot that took the controller's kernel and words would not show it.
    mark = "sudo sed -i 's/quiet/quiet lab_was_here=1/' /etc/default/grub && sudo update-grub"
    assert on(box, mark).returncode == 0
    assert Target(box, tmp_path).reboot() == "running"
    assert "lab_was_here=1" in said(box, "cat /proc/cmdline")
    assert set(said(box, "lsblk --noheadings --nodeps -o SERIAL").split()) == {"LAB0SSD", "LAB0HDD", "LAB0NVME"}
    assert abs(int(said(box, "date +%s")) - time.time()) < 30
    for folder in mirrors.folders(mirrors.controller_mirrors()):
        assert sorted(said(box, f"ls -A {folder}").splitlines()) == sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def flipped(box: lab.LabHost) -> Iterator[Qemu]:
    """A machine whose rotating disk has the lower port, with a thin copy of the image's disk; not started."""
    # Where the lab keeps its own: the next run removes it too when this one is killed.
    folder = paths.host_folder("flipped")
    folder.mkdir(parents=True)
    machine = Qemu(f"provision-{paths.lab_id()}-flipped", folder, "flipped")
    thin = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    backing = ["-b", str(vm_images.home(vm.IMAGES[IMAGE]) / "disk.qcow2")]
    subprocess.run([*thin, *backing, str(machine.disk)], timeout=60, check=True)
    machine.blank_disks()
    yield machine
    assert lab.down("flipped") == ["flipped"]
    assert machine.pid() is None


@pytest.mark.lab
def test_a_disk_keeps_its_name_by_id_when_the_order_is_flipped(flipped: Qemu) -> None:
    names: list[str] = []
    for _boot in range(BOOTS):
        names = _boot_and_name(flipped)
        if names[0] != "sda":
            break
    assert names == ["sdb", "sda", "sdb1", "1"]


def _boot_and_name(machine: Qemu) -> list[str]:
    """The kernel's names after a boot: of the system disk, the rotating disk, the root; whether the second rotates."""
    template = vm_images.home(vm.IMAGES[IMAGE])
    machine.start()
    try:
        host = vm_images.meet(machine, template / "id_ed25519", template / "ssh_host_ed25519_key", IMAGE)
        deadline = time.monotonic() + vm_images.BOOT_SECONDS
        while not record.greets(host.address, host.port):
            assert machine.pid() is not None
            assert time.monotonic() < deadline, machine.console.read_text(errors="replace")
            time.sleep(0.5)
        nodes = f"/dev/disk/by-id/{SSD} /dev/disk/by-id/{HDD} $(findmnt --noheadings --output SOURCE /)"
        command = f"for node in {nodes}; do basename $(readlink -f $node); done; lsblk -dno ROTA /dev/disk/by-id/{HDD}"
        found = subprocess.run([*record.ssh(host), command], capture_output=True, text=True, timeout=120, check=True)
        return found.stdout.split()
    finally:
        machine.kill()


@pytest.mark.lab
def test_a_machine_that_died_shows_as_stopped_and_goes_without_trace(box: lab.LabHost) -> None:
    engine = vm._machine("box")
    pid = engine.pid()
    assert pid is not None
    folder = paths.host_folder("box")
    os.kill(pid, 9)
    engine.wait_gone(10)
    assert [host.running for host in lab.hosts()] == [False]
    again = lab.up("box", IMAGE)
    assert again.port
    pid = engine.pid()
    assert pid is not None
    # An interrupted run leaves no record, only a machine.
    (folder / "host.json").unlink()
    assert lab.down(every=True) == ["box"]
    assert engine.pid() is None
    assert holder._start_time(pid) is None
    assert not folder.exists()
    assert not list(paths.run_root().glob(f"provision-{paths.lab_id()}-*.qmp"))
