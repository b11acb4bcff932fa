"""The dead man's switch: what stood before comes back, whatever fails, unless it was disarmed in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir

GUARD = roles_dir() / "network" / "module_utils" / "network_guard.py"
Programs = Callable[..., None]


@pytest.fixture
def said(tmp_path: Path) -> Callable[[], list[str]]:
    """The commands that were run, in their order."""
    log = tmp_path / "said"
    log.touch()
    return lambda: log.read_text().splitlines()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Programs that write down how they were called; those that are named fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(*failing: str) -> None:
        for name in ("systemctl", "systemd-run", "networkctl", "netplan", "nft", "ip"):
            end = "echo 'no such luck'; exit 1" if name in failing else "exit 0"
            path = folder / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/said\n{end}\n')
            path.chmod(0o755)

    put()
    return put


@pytest.fixture
def guard(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load(GUARD)
    monkeypatch.setattr(module, "HOME", str(tmp_path / "state"))
    monkeypatch.setattr(module, "NFT", str(tmp_path / "network.nft"))
    (tmp_path / "state").mkdir()
    return module


@pytest.fixture
def change(tmp_path: Path) -> dict[str, Any]:
    """One file is changed, one is new, one goes."""
    (tmp_path / "old").write_text("before\n")
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "gone").write_text("was here\n")
    files = {str(tmp_path / "old"): "after\n", str(tmp_path / "new"): "new\n", str(tmp_path / "gone"): None}
    return {
        "what": "MTU 9000 on enp1s0", "files": files, "modes": dict.fromkeys(files, "0600"),
        "links": {"enp1s0": 1500}, "made": ["bond0"], "renderer": "networkd",
    }  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in ("old", "new", "gone") if (folder / name).exists()}


BEFORE = {"old": "before\n", "gone": "was here\n"}
AFTER = {"old": "after\n", "new": "new\n"}


def begun(guard: ModuleType, change: dict[str, Any]) -> None:
    guard.arm(change, 60)
    guard.write_new(change)


def test_it_is_armed_before_anything_is_touched(
    guard: ModuleType, change: dict[str, Any], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    guard.arm(change, 60)
    assert guard.armed()
    assert contents(tmp_path) == BEFORE
    assert any(line.startswith("systemd-run") and "--on-active=60" in line for line in said())


def test_where_no_timer_can_be_set_nothing_is_armed(
    guard: ModuleType, change: dict[str, Any], programs: Programs, tmp_path: Path
) -> None:
    programs("systemd-run")
    with pytest.raises(guard.Trouble, match="no such luck"):
        guard.arm(change, 60)
    assert not guard.armed()
    assert contents(tmp_path) == BEFORE


def test_what_is_disarmed_in_time_stays(guard: ModuleType, change: dict[str, Any], tmp_path: Path) -> None:
    begun(guard, change)
    assert guard.apply_now() == 0
    assert guard.disarm() is True
    guard.revert("SSH did not come back")
    assert contents(tmp_path) == AFTER
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "state" / "guard").exists()  # what it kept may hold a passphrase


def test_what_is_not_is_taken_back_with_modes_mtu_and_bond(
    guard: ModuleType, change: dict[str, Any], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    begun(guard, change)
    assert guard.apply_now() == 0
    assert guard.main(["revert", "SSH", "did", "not", "come", "back"]) == 0
    assert contents(tmp_path) == BEFORE
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640
    assert said()[-5:-1] == [
        "ip link delete bond0", "networkctl reload", "networkctl reconfigure enp1s0", "ip link set dev enp1s0 mtu 1500",
    ]  # fmt: skip
    assert guard.load("outcome.json")["why"] == "SSH did not come back"


def test_who_comes_too_late_is_told(guard: ModuleType, change: dict[str, Any]) -> None:
    """A controller that disarms after the timer struck must not take the change for proved."""
    begun(guard, change)
    guard.revert("SSH did not come back within 60 s")
    assert guard.disarm() is False


def test_a_change_that_cannot_be_applied_is_taken_back_at_once(
    guard: ModuleType, change: dict[str, Any], programs: Programs, tmp_path: Path
) -> None:
    begun(guard, change)
    programs("networkctl")
    assert guard.apply_now() == 1
    assert contents(tmp_path) == BEFORE
    assert guard.load("outcome.json")["why"] == "networkctl reload: no such luck"
    assert not guard.armed()


def test_taking_back_goes_on_after_a_failure(
    guard: ModuleType, change: dict[str, Any], programs: Programs, tmp_path: Path
) -> None:
    Path(guard.NFT).write_text("table inet provision {}\n")
    change["files"][guard.NFT] = "other\n"
    change["modes"][guard.NFT] = "0644"
    begun(guard, change)
    programs("nft")
    guard.revert("the timer struck")
    assert contents(tmp_path) == BEFORE
    assert guard.load("outcome.json")["troubles"] == [f"nft --file {guard.NFT}: no such luck"]
    assert not guard.armed()


def test_the_mtu_comes_back_although_the_networks_manager_fails(
    guard: ModuleType, change: dict[str, Any], programs: Programs, said: Callable[[], list[str]]
) -> None:
    begun(guard, change)
    programs("networkctl")
    assert guard.main(["revert", "SSH did not come back"]) == 1
    assert "ip link set dev enp1s0 mtu 1500" in said()


def test_a_file_that_cannot_be_put_back_keeps_no_other_from_it(
    guard: ModuleType, change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(guard, change)
    (tmp_path / "state/guard/former/0").unlink()  # what is kept of `gone`
    assert guard.main(["revert", "SSH did not come back"]) == 1
    assert contents(tmp_path) == {"old": "before\n"}
    assert f"network-guard: {tmp_path}/gone was not put back" in capsys.readouterr().err
    assert not guard.armed()


def test_a_reboot_in_between_comes_up_with_what_stood_before(
    guard: ModuleType, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(guard, change)
    guard.boot()  # the unit was restarted, and the host was not
    assert contents(tmp_path) == AFTER
    monkeypatch.setattr(guard, "boot_id", lambda: "another")
    guard.boot()
    assert contents(tmp_path) == BEFORE
    assert guard.load("outcome.json")["why"] == "the host was rebooted before SSH was proved"


def test_a_boot_loads_the_firewall_whatever_becomes_of_the_rest(
    guard: ModuleType, change: dict[str, Any], said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(guard.NFT).write_text("table inet provision {}\n")
    begun(guard, {**change, "renderer": "netplan"})
    monkeypatch.setattr(guard, "boot_id", lambda: "another")
    monkeypatch.setattr(guard, "restore", _fail)
    with pytest.raises(OSError, match="read-only"):
        guard.boot()
    assert said()[-1] == f"nft --file {guard.NFT}"


def _fail(_: object) -> None:
    raise OSError("read-only file system")


def test_a_boot_whose_firewall_does_not_load_says_so(
    guard: ModuleType, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(guard.NFT).write_text("nonsense\n")
    programs("nft")
    assert guard.main(["boot"]) == 1
    assert capsys.readouterr().err == f"network-guard: nft --file {guard.NFT}: no such luck\n"


def test_a_boot_loads_the_firewall(guard: ModuleType, said: Callable[[], list[str]]) -> None:
    guard.boot()
    assert said() == []
    Path(guard.NFT).write_text("table inet provision {}\n")
    guard.boot()
    assert said() == [f"nft --file {guard.NFT}"]


def test_netplan_applies_its_own_files(
    guard: ModuleType, change: dict[str, Any], said: Callable[[], list[str]]
) -> None:
    begun(guard, {**change, "renderer": "netplan"})
    assert guard.apply_now() == 0
    assert said()[-1] == "netplan apply"


def test_each_wireless_card_gets_its_own_supplicant(
    guard: ModuleType, change: dict[str, Any], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    path = tmp_path / "wpa_supplicant-wlp1s0.conf"
    begun(guard, {**change, "files": {str(path): "secret\n"}, "modes": {str(path): "0600"}, "links": {}})
    assert guard.apply_now() == 0
    assert "systemctl restart wpa_supplicant@wlp1s0.service" in said()
    guard.revert("the timer struck")
    assert said()[-2].startswith("systemctl disable --quiet --now wpa_supplicant@wlp1s0.service")


def test_a_cut_in_the_middle_of_writing_leaves_the_old_file(guard: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("before\n")
    with pytest.raises(TypeError):
        guard.write(str(path), "not bytes", 0o600)
    assert path.read_text() == "before\n"


def test_the_program_says_what_it_is_for(guard: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main([]) == 2
    assert "network-guard apply" in capsys.readouterr().out


def test_what_is_kept_is_for_root_alone(guard: ModuleType, change: dict[str, Any], tmp_path: Path) -> None:
    """The former files may hold a passphrase, and so may the new ones."""
    begun(guard, change)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.parent.name == "guard"]
    assert {path.stat().st_mode & 0o077 for path in kept} == {0}
    assert (tmp_path / "state" / "guard" / "former").stat().st_mode & 0o077 == 0
    assert json.loads((tmp_path / "state" / "guard" / "change.json").read_text())["former"]
