"""Processes with limits, locks, missing tools, and what counts as a leftover."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from provision.errors import ProvisionError
from provision.lab import holder, paths, podman, system
from tests.conftest import ROOT


def test_missing_tools_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(system, "HELPER_FOLDERS", ())
    monkeypatch.setattr(system, "machine", lambda: system.Machine(True, True, True))
    with pytest.raises(ProvisionError) as caught:
        system.require("podman", "ssh", "ssh-keygen", "nft")
    assert str(caught.value) == "this machine lacks podman, ssh, ssh-keygen, nft, which lab targets need"
    hint = "run: sudo apt-get install -y --no-install-recommends nftables openssh-client podman"
    assert caught.value.refusals[0].hint == hint


VM_TESTS = """
import pytest
from tests.conftest import up_or_skip

@pytest.fixture(scope="module")
def machine():
    return up_or_skip("box", "vm-debian-12")

def test_one(machine): pass
def test_two(machine): pass
"""


def test_a_machine_without_qemu_skips_what_needs_it_and_says_how_much(tmp_path: Path) -> None:
    (tmp_path / "test_vm.py").write_text(VM_TESTS)
    words = ["-p", "tests.conftest", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env={**os.environ, "PATH": "/nowhere"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "\nSKIPPED 2 tests: each needs a throwaway target: this machine lacks qemu-system-x86_64, " in done.stdout
    assert "= 2 skipped in " in done.stdout


def test_an_ordinary_user_on_cgroup_v1_is_told_to_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "machine", lambda: system.Machine(False, False, False))
    hint = "run this as root, or bring targets up with: provision lab up"
    assert [fault.hint for fault in system.faults("ssh")] == [hint]


def test_each_release_is_told_the_package_that_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(system, "HELPER_FOLDERS", ())
    monkeypatch.setattr(system, "CNI_BRIDGE", tmp_path / "bridge")
    monkeypatch.setattr(system, "machine", lambda: system.Machine(True, True, True))
    for release, package in {"12": "netavark", "22.04": "containernetworking-plugins"}.items():
        monkeypatch.setattr(system.platform, "freedesktop_os_release", lambda found=release: {"VERSION_ID": found})
        assert system.faults("netavark")[0].hint.endswith(f" {package}")
    (tmp_path / "bridge").touch()
    assert system.faults("netavark") == []
    assert system.uses_cni()


@pytest.mark.parametrize(
    ("root", "unified", "sys_resource", "own_cgroups", "holder_needed"),
    [
        (True, True, True, False, False),
        (True, True, False, True, False),
        (True, False, True, True, True),
        (True, False, False, True, True),
        (False, True, False, False, False),
    ],
)
def test_the_machine_decides_who_makes_cgroups(
    root: bool, unified: bool, sys_resource: bool, own_cgroups: bool, holder_needed: bool
) -> None:
    machine = system.Machine(root, unified, sys_resource)
    assert (machine.own_cgroups, machine.needs_holder) == (own_cgroups, holder_needed)


def test_a_command_over_its_limit_ends_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    began = time.monotonic()
    code, _output, errors = system.attempt(["sh", "-c", f"sleep 60 & echo $! > {pids}; wait"], timeout=0.5)
    assert (code, errors) == (124, "no end within 0.5 s")
    assert time.monotonic() - began < 10
    assert _gone_soon(int(pids.read_text()))


def test_a_failed_command_is_refused_with_its_last_words() -> None:
    with pytest.raises(ProvisionError, match="sh failed with exit code 3: first / last"):
        system.run(["sh", "-c", "echo first >&2; echo last >&2; exit 3"], timeout=10)


def test_a_lock_that_is_held_is_refused_after_its_time(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with system.locked(file, shared=True), system.locked(file, shared=True):
        with pytest.raises(ProvisionError) as caught, system.locked(file, timeout=0):
            pass
        assert caught.value.refusals[0].hint == f"see who holds it: fuser {file}"
    with system.locked(file, timeout=0):
        pass


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone(tmp_path: Path) -> None:
    assert holder._start_time(os.getpid()) is not None
    assert holder._start_time(2**22 + 1) is None


class FakePodman(podman.Podman):
    """A podman that has the given containers and records what it is told to do."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        super().__init__()
        self.rows = list(rows)
        self.told: list[str] = []

    def _all_containers(self) -> list[dict[str, Any]]:
        return self.rows

    def attempt(self, *words: str, timeout: float = 60, stdin: str | bytes = "") -> tuple[int, str, str]:  # noqa: ARG002
        self.told.append(" ".join(words))
        return 0, "", ""

    def remove(self, container: str) -> None:
        self.told.append(f"remove {container}")


@pytest.fixture(autouse=True)
def no_real_podman(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(podman, "require", lambda: None)
    monkeypatch.setattr(podman.paths, "run_root", lambda: tmp_path / "run")


BUILD = {"Names": ["provision-lab-build-0123"], "State": "exited", "Labels": {}}
TARGET = {
    "Names": ["provision-aaaaaa-demo"],
    "State": "running",
    # A commit hands a build container's labels down to the image and so to every target of it.
    "Labels": {"provision.lab": "1", "provision.lab.id": "aaaaaa", "provision.lab.build": "1"},
}


def test_another_labs_target_is_never_taken_for_a_leftover() -> None:
    engine = FakePodman(BUILD, TARGET)
    engine.wind_down()
    assert engine.told == []
    assert engine.containers(lab="bbbbbb") == {}
    assert engine.containers(lab="aaaaaa") == {"provision-aaaaaa-demo": "running"}


def test_leftovers_of_a_build_go_with_the_last_target() -> None:
    engine = FakePodman(BUILD)
    engine.wind_down()
    assert engine.told == ["remove provision-lab-build-0123", f"network rm {podman.network()}"]


def test_nothing_is_taken_away_while_another_run_works() -> None:
    engine = FakePodman()
    with system.locked(podman.use_lock(), shared=True):
        engine.wind_down()
    assert engine.told == []


@pytest.mark.parametrize("monitor", [None, 4711])
def test_what_podman_believed_in_a_former_life_is_forgotten_unless_a_container_outlived_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: int | None
) -> None:
    (tmp_path / "libpod").mkdir()
    (tmp_path / "libpod" / "alive").touch()
    (tmp_path / "networks").mkdir()
    monkeypatch.setattr(paths, "run_root", lambda: tmp_path)
    monkeypatch.setattr(holder, "_conmon", lambda: monitor)
    monkeypatch.setattr(holder, "_start", len)
    holder.ensure()
    assert (tmp_path / "libpod" / "alive").exists() is (monitor is not None)
    assert (tmp_path / "networks").is_dir()


def _gone_soon(pid: int) -> bool:
    """Whether a process ends within five seconds; a zombie counts as ended."""
    for _ in range(50):
        if holder._start_time(pid) is None:
            return True
        time.sleep(0.1)
    return False
