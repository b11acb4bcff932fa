"""Two real targets: booted, reached, separate, and gone without a trace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from provision.lab import holder, paths
from provision.lab.podman import Podman
from tests.conftest import lab_state

pytestmark = pytest.mark.lab


# A lab of their own: these tests count its targets and take all of them down.
OWN_STATE = lab_state() / "lab-tests"


@pytest.fixture
def our_lab(test_lab: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(OWN_STATE))
    yield
    monkeypatch.setenv("XDG_STATE_HOME", str(OWN_STATE))
    lab.down(every=True)


def on(name: str, command: str, *, user: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [*lab.ssh_argv(name, user), command]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_two_targets_come_up_are_separate_and_leave_nothing(our_lab: None) -> None:
    one, two = lab.up("one"), lab.up("two", "ubuntu-22.04-standin")
    assert lab.up("one") == one  # a second call finds it
    assert [host.name for host in lab.hosts()] == ["one", "two"]
    for host in (one, two):
        assert on(host.name, "systemctl is-system-running").stdout == "running\n"
        assert on(host.name, "hostname; id -un; sudo -n id -un").stdout.split() == [host.name, "admin", "root"]
    keys = {Path(host.known_hosts).read_text().split()[2] for host in (one, two)}
    assert len(keys) == 2
    assert "VERSION_CODENAME=jammy" in on("two", "cat /etc/os-release").stdout
    # Stopping a unit in one must not reach the other: each has a cgroup of its own.
    assert on("one", "sudo systemctl stop dbus.socket dbus.service").returncode == 0
    assert on("two", "systemctl is-active dbus").stdout == "active\n"
    assert on("one", f"timeout 5 bash -c 'head -c4 < /dev/tcp/{two.address}/22'").stdout == "SSH-"

    assert lab.down("one") == ["one"]
    assert [host.name for host in lab.hosts()] == ["two"]
    assert lab.down(every=True) == ["two"]
    assert not Path(one.inventory).exists()
    assert not list((paths.state_root() / "hosts").iterdir())
    assert Podman().containers(lab=paths.lab_id()) == {}
    assert not [path for path in _cgroups() if path.name.startswith(f"provision-{paths.lab_id()}-")]
    with pytest.raises(ProvisionError, match="lab target one does not exist"):
        lab.down("one")


def test_the_users_have_the_rights_their_names_say(our_lab: None) -> None:
    lab.up("one")
    password = (paths.state_root() / "needpass.password").read_text()
    assert on("one", "sudo -n true", user="needpass").returncode == 1
    assert on("one", "sudo -S -p '' id -un", user="needpass", stdin=password).stdout == "root\n"
    assert on("one", "sudo -S -p '' id -un", user="nosudo", stdin=password).returncode == 1


def test_packages_come_from_the_controllers_mirror(our_lab: None) -> None:
    lab.up("one")
    # A name server may stay silent for a moment.
    apt = "sudo apt-get -qq -o Acquire::Retries=5"
    answer = on("one", f"{apt} update && {apt} install -y --no-install-recommends hello && hello")
    assert "Hello, world!" in answer.stdout, answer.stderr


def test_the_controllers_kernel_and_disks_are_out_of_reach(our_lab: None) -> None:
    lab.up("one")
    assert on("one", "sudo sysctl -w vm.swappiness=61").returncode != 0
    assert on("one", "sudo sysctl -w net.ipv4.ip_forward=1").returncode == 0
    assert on("one", "find /dev -type b").stdout == ""


def test_a_bare_box_has_no_python(our_lab: None) -> None:
    lab.up("one", "debian-12-bare")
    assert on("one", "command -v python3").returncode != 0
    assert on("one", "systemctl is-system-running").stdout == "running\n"


def test_a_target_that_died_is_replaced_and_one_of_another_image_is_kept(our_lab: None) -> None:
    known_before = Path(lab.up("one").known_hosts).read_text()
    with pytest.raises(ProvisionError) as caught:
        lab.up("one", "debian-12-bare")
    assert caught.value.refusals[0].hint == "take it down first: provision lab down one"
    Podman().call("kill", "--signal", "KILL", f"provision-{paths.lab_id()}-one")
    assert [host.running for host in lab.hosts()] == [False]
    after = lab.up("one")
    assert Path(after.known_hosts).read_text() != known_before
    assert on("one", "true").returncode == 0


def test_one_lab_does_not_touch_another(our_lab: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.up("one")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    try:
        assert lab.hosts() == []
        assert lab.down(every=True) == []
        lab.up("one")
    finally:
        assert lab.down(every=True) == ["one"]
    monkeypatch.setenv("XDG_STATE_HOME", str(OWN_STATE))
    assert on("one", "true").returncode == 0


def _cgroups() -> list[Path]:
    """The cgroups of this storage's containers, as far as the lab makes them itself."""
    pid = holder.find()
    root = holder.cgroup_root(pid) if pid else Path("/sys/fs/cgroup")
    return list((root / f"provision-lab-{paths.storage_id()}").glob("*"))
