"""What the shell offers at a TAB."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from provision import lab
from provision.cli import cli
from provision.errors import refuse
from provision.ledger import Ledger


def offered(*words: str) -> list[str]:
    """The words offered for the last of `words`, which may be begun or empty."""
    shell = ShellComplete(cli, {}, "provision", "_PROVISION_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["apply", "--tier", ""], ["datacenter", "studio", "workstation", "budget"]),
        (["verify", "--tier", "b"], ["budget"]),
        (["tiers", "show", "w"], ["workstation"]),
        (["plan", "--only", "n"], ["network", "nvidia_container_toolkit", "nvidia_driver"]),
        (["plan", "--os", "u"], ["ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04"]),
        (["apply", "--assume-gpu", "GeForce-RTX-4090-"], ["GeForce-RTX-4090-D", "GeForce-RTX-4090-Laptop-GPU"]),
        (["explain", "gpu1", "nvidia_driver_mod"], ["nvidia_driver_modules"]),
        (["plan", "--skip", "d"], ["docker"]),
        (["plan", "--set", "docker_live"], ["docker_live_restore="]),
        (["plan", "--set", "mirrors.docker.k"], ["mirrors.docker.key_url="]),
        (["lab", "up", "--image", "debian-12"], ["debian-12", "debian-12-bare"]),
        (["plan", "--limit", ""], []),
    ],
    ids=" ".join,
)
def test_an_argument_is_completed(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_a_tier_of_ones_own_is_completed_as_a_file() -> None:
    shell = ShellComplete(cli, {}, "provision", "_PROVISION_COMPLETE")
    (item,) = shell.get_completions(["plan", "--tier"], "./mi")
    assert (item.type, item.value) == ("file", "./mi")


def test_runs_are_completed_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = Ledger.open().begin("plan", ["box"], None)
    assert offered("show", "") == ["last", run]
    assert offered("show", run[:8]) == [run]


def test_targets_of_the_lab_are_completed_and_a_lab_that_fails_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = lab.LabHost("demo", "192.0.2.1", 22, "admin", "debian-12", "/k", "/h", "/i")
    monkeypatch.setattr(lab, "hosts", lambda: [demo])
    assert [offered("lab", verb, "") for verb in ("ssh", "down")] == [["demo"], ["demo"]]

    def broken() -> list[lab.LabHost]:
        raise refuse("podman", "is not installed", "apt-get install podman")

    monkeypatch.setattr(lab, "hosts", broken)
    assert offered("lab", "ssh", "") == []
