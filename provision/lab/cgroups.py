"""Cgroups that the lab made itself: removed with all that still runs in them, and not before that is true."""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from provision.errors import refuse

REMOVAL_SECONDS = 60
PAUSE_SECONDS = 0.05


def remove_cgroup(folder: Path, *, timeout: float = REMOVAL_SECONDS) -> None:
    """End what runs in a cgroup and remove it with those below it; refuse when it is still there after `timeout`.

    A killed process leaves its cgroup only when the kernel has taken it down, which a busy machine does late.
    """
    deadline = time.monotonic() + timeout
    while folder.is_dir():
        _kill(folder)
        if _removed(folder):
            return
        if time.monotonic() > deadline:
            fact = f"is not gone {timeout:g} s after its processes were killed; it holds {_holders(folder)}"
            raise refuse(f"the cgroup {folder.name}", fact, f"see its processes: cat {folder}/cgroup.procs")
        _pause()


def _pause() -> None:
    """Leave the kernel a moment."""
    time.sleep(PAUSE_SECONDS)


def _kill(folder: Path) -> None:
    """End every process in a cgroup and those below it; kernels before 5.14 have no word for all of them."""
    try:
        switch = os.open(folder / "cgroup.kill", os.O_WRONLY)
    except OSError:
        for pid in _members(folder):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return
    with os.fdopen(switch, "w") as file, suppress(OSError):
        file.write("1")
        file.flush()


def _members(folder: Path) -> list[int]:
    """The processes in a cgroup and those below it."""
    found: list[int] = []
    for path, _folders, _files in os.walk(folder):
        with suppress(OSError):
            found += map(int, (Path(path) / "cgroup.procs").read_text().split())
    return found


def _removed(folder: Path) -> bool:
    """Remove a cgroup and those below it, deepest first; False when one of them is still in use."""
    for path, _folders, _files in os.walk(folder, topdown=False):
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise refuse(
                    f"the cgroup {folder.name}", f"cannot be removed: {error.strerror}", f"see {path}"
                ) from None
            return False
    return True


def _holders(folder: Path) -> str:
    """The processes in a cgroup and those below it, or the cgroups that remain without any."""
    left = [Path(path).name for path, _folders, _files in os.walk(folder)]
    found = [f"{pid} ({_command(pid)})" for pid in _members(folder)]
    return ", ".join(found) or f"no process, but the cgroups {', '.join(left)}"


def _command(pid: int) -> str:
    """A process's command line, or its bare name where it has none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        return words[:80] or Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended just now"
