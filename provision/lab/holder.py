"""A mount namespace in which /sys/fs/cgroup is cgroup2 alone, kept by one process for all containers of a storage.

systemd refuses to boot on a hybrid v1/v2 hierarchy, and podman's network namespaces are mounts: every podman command of
one storage has to see the same mounts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from provision.errors import refuse
from provision.lab import paths

SCRIPT = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo ready && exec sleep infinity"
READY_SECONDS = 60  # milliseconds, but not on a machine with ten busy processes


def find() -> int | None:
    """The holder's process id, or None when it is not running."""
    try:
        record = json.loads(_file().read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(record["pid"])
    return pid if _start_time(pid) == record["started"] else None


def ensure() -> int:
    """The holder's process id; started when it is not running. The caller holds the storage lock."""
    pid = find()
    if pid is not None:
        return pid
    survivor = _conmon()
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT]
    if survivor is None:
        _forget_former_life()
    else:
        # A container outlived its holder: its monitor still has the namespace that all its mounts are in.
        argv = ["nsenter", "-t", str(survivor), "-m", "sh", "-c", "echo ready && exec sleep infinity"]
    return _start(argv)


def _forget_former_life() -> None:
    """Remove what podman believes of running containers; no monitor lives, so none of it is true.

    Podman notices a reboot by an empty /run. Where /run is a plain folder (a machine restored from its disk's image),
    it would look for network namespaces that are gone, and every command would fail.
    """
    for volatile in ("libpod", "storage"):
        shutil.rmtree(paths.run_root() / volatile, ignore_errors=True)


def stop() -> None:
    """End the holder, if it runs."""
    pid = find()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    _file().unlink(missing_ok=True)


def cgroup_root(pid: int) -> Path:
    """The cgroup2 hierarchy as the holder sees it."""
    return Path(f"/proc/{pid}/root/sys/fs/cgroup")


def _start(argv: list[str]) -> int:
    """Start a holder detached from this terminal and record it with its start time, since process ids are reused."""
    log = paths.run_root() / "holder.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + READY_SECONDS
    while "ready" not in log.read_text():
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            child.wait()
            said = log.read_text().strip() or f"no answer in {READY_SECONDS} s"
            raise refuse(
                "this machine",
                f"cannot show a pure cgroup2 hierarchy to containers: {said}",
                "run as root on a kernel with cgroup2, or boot with systemd.unified_cgroup_hierarchy=1",
            )
        time.sleep(0.02)
    _file().write_text(json.dumps({"pid": child.pid, "started": _start_time(child.pid)}))
    child.returncode = 0  # It outlives this process on purpose; without this Popen warns about it.
    return child.pid


def _conmon() -> int | None:
    """A living container monitor of this storage, or None."""
    for file in sorted((paths.run_root() / "storage").glob("*-containers/*/userdata/conmon.pid")):
        pid = int(file.read_text().strip() or 0)
        try:
            if "conmon" in Path(f"/proc/{pid}/comm").read_text():
                return pid
        except OSError:
            continue
    return None


def _start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _file() -> Path:
    return paths.run_root() / "holder.json"
