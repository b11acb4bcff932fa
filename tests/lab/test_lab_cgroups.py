"""A cgroup goes when what runs in it has ended, and not a moment is it taken for gone before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import ProvisionError
from provision.lab import cgroups


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders like those of a container's cgroup; a file in one keeps it from being removed, as a process would."""
    folder = tmp_path / "provision-lab-box"
    (folder / "init.scope").mkdir(parents=True)
    (folder / "system.slice" / "ssh.service").mkdir(parents=True)
    return folder


def test_an_empty_cgroup_goes_with_those_below_it(tree: Path) -> None:
    cgroups.remove_cgroup(tree)
    assert not tree.exists()
    cgroups.remove_cgroup(tree)  # and nothing happens when there is none


def test_removal_waits_for_a_process_that_ends_late(
    tree: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    procs = tree / "system.slice" / "ssh.service" / "cgroup.procs"
    procs.write_text(f"{sleeper.pid}\n")
    rounds: list[int] = []

    def pause() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 3:  # only now the kernel has taken it down
            assert sleeper.wait(60) == -9
            procs.unlink()

    monkeypatch.setattr(cgroups, "_pause", pause)
    cgroups.remove_cgroup(tree)
    assert len(rounds) == 3
    assert not tree.exists()


def test_what_holds_it_after_the_limit_is_named(
    tree: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    procs = tree / "init.scope" / "cgroup.procs"
    procs.write_text(f"{sleeper.pid}\n")
    monkeypatch.setattr(cgroups, "_kill", lambda _folder: None)
    with pytest.raises(ProvisionError) as caught:
        cgroups.remove_cgroup(tree, timeout=0)
    held = f"it holds {sleeper.pid} (sleep 600)"
    assert str(caught.value) == (
        f"the cgroup provision-lab-box is not gone 0 s after its processes were killed; {held}"
    )  # fmt: skip
    assert caught.value.refusals[0].hint == f"see its processes: cat {tree}/cgroup.procs"
    procs.write_text("")
    with pytest.raises(ProvisionError, match=r"no process, but the cgroups provision-lab-box, init\.scope"):
        cgroups.remove_cgroup(tree, timeout=0)


def test_a_cgroup_that_may_not_be_removed_is_said_at_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_path: Path) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(Path, "rmdir", forbidden)
    with pytest.raises(ProvisionError, match="the cgroup provision-lab-box cannot be removed: Operation not permitted"):
        cgroups.remove_cgroup(tree)
