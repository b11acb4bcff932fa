"""What the controller is told of a guarded change: that all came back is said only where it did."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir

ROLE = roles_dir() / "network"


class Refused(Exception):
    """What the module failed with."""


class Ansible:
    """Stands in for AnsibleModule: programs that look, and the two ways to end."""

    def __init__(self, **said: str) -> None:
        self.said = said

    def run_command(self, argv: list[str]) -> tuple[int, str, str]:
        return 0, self.said.get(argv[-1], ""), ""

    def fail_json(self, msg: str) -> None:
        raise Refused(msg)


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, on a host where a timer can be set and everything else fails."""
    module = load(ROLE / "library" / "network_change.py")
    for name in ("systemctl", "systemd-run", "networkctl", "ip"):
        failing = name in ("networkctl", "ip")
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {int(failing)}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module.network_guard, "HOME", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return module


@pytest.fixture
def plugin() -> ModuleType:
    return load(ROLE / "action_plugins" / "network_change.py")


def test_a_change_that_cannot_be_written_is_taken_back_at_once(change: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "before").write_text("before\n")
    (tmp_path / "file").touch()
    files = {str(tmp_path / "before"): "after\n", str(tmp_path / "file" / "below"): "new\n"}
    wanted = {
        "what": "MTU 9000 on enp1s0", "files": files, "modes": dict.fromkeys(files, "0600"),
        "links": {}, "made": [], "renderer": "networkd",
    }  # fmt: skip
    with pytest.raises(
        change.network_guard.Trouble, match=r"MTU 9000 on enp1s0 was tried and taken back: .*File exists"
    ):
        change.make(wanted, 60)
    assert (tmp_path / "before").read_text() == "before\n"
    assert not change.network_guard.armed()


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ([], "The host is as it was before."),
        (["netplan apply: no such luck"], "Not all of it came back: netplan apply: no such luck."),
    ],
)
def test_the_run_says_whether_all_came_back(plugin: ModuleType, troubles: list[str], told: str) -> None:
    ended: dict[str, Any] = {"what": "MTU 9000 on enp1s0", "why": "the peer is silent", "troubles": troubles}
    assert f"MTU 9000 on enp1s0 was tried and taken back: the peer is silent. {told} " in plugin._told(ended)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ({"state": "armed", "why": ""}, "it is neither proved nor taken back, although"),
        ({"state": "unknown", "why": "no route"}, "the host does not answer (no route), although"),
    ],
)
def test_the_run_says_what_it_does_not_know(plugin: ModuleType, ended: dict[str, Any], told: str) -> None:
    assert f"MTU 9000 was tried, and {told} the former settings" in plugin._unknown("MTU 9000", 60, ended)


def test_a_file_for_several_cards_is_refused_and_ours_is_none(
    change: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change.os, "listdir", lambda _: ["lo", "eth0", "eth1"])
    theirs = "  Network File: /etc/systemd/network/10-provisioned.network\n"
    with pytest.raises(Refused, match=r"eth0 shares /etc/systemd/network/10-provisioned.network with eth1"):
        change.network_file(Ansible(eth0=theirs, eth1=theirs), "eth0")
    assert change.network_file(Ansible(eth0=theirs), "eth0") == "/etc/systemd/network/10-provisioned.network"
    ours = "  Network File: /etc/systemd/network/05-provision-eth0.network\n"
    assert change.network_file(Ansible(eth0=ours, eth1=ours), "eth0") == ""
