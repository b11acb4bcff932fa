"""What this machine allows: processes run with a time limit, tools on PATH, cgroups, capabilities, file locks."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.errors import refuse

CAP_SYS_RESOURCE = 24
# The tool as found on PATH, and the Debian and Ubuntu package that brings it.
TOOLS: Mapping[str, str] = {
    "podman": "podman",
    "crun": "crun",
    "netavark": "netavark",
    "iptables": "iptables",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
# Where Debian keeps helpers that are not on an ordinary user's PATH.
HELPER_FOLDERS = ("/usr/sbin", "/sbin", "/usr/lib/podman", "/usr/libexec/podman")


@dataclass(frozen=True)
class Machine:
    """The facts of the controller that decide how a container is started."""

    root: bool
    unified_cgroups: bool
    sys_resource: bool

    @property
    def needs_holder(self) -> bool:
        """Whether containers need a mount namespace that shows cgroup2 alone."""
        return not self.unified_cgroups


def machine() -> Machine:
    """Read this machine's facts."""
    capabilities = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
    return Machine(
        root=os.geteuid() == 0,
        unified_cgroups=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        sys_resource=bool(capabilities >> CAP_SYS_RESOURCE & 1),
    )


def require_tools(*names: str) -> None:
    """Refuse, naming the apt-get command, when one of these tools is missing."""
    search = os.pathsep.join((os.environ.get("PATH", ""), *HELPER_FOLDERS))
    missing = [name for name in names if shutil.which(name, path=search) is None]
    if missing:
        packages = " ".join(sorted({TOOLS[name] for name in missing}))
        raise refuse(
            "this machine",
            f"lacks {', '.join(missing)}, which lab targets need",
            f"run: sudo apt-get install -y --no-install-recommends {packages}",
        )


def require_runnable(found: Machine) -> None:
    """Refuse on a machine where an ordinary user cannot start a container with systemd in it."""
    if not found.root and not found.unified_cgroups:
        raise refuse(
            "provision lab",
            "needs root here: this machine mounts cgroup v1, so a user's containers cannot run systemd",
            "run it as root: sudo provision lab up",
        )


def run(
    argv: Sequence[str], *, timeout: float, stdin: str | bytes | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its standard output; refuse when it fails or exceeds `timeout` seconds."""
    code, output, errors = attempt(argv, timeout=timeout, stdin=stdin, environment=environment)
    if code != 0:
        last = " / ".join((errors or output).strip().splitlines()[-3:]) or "no output"
        raise refuse(_label(argv), f"failed with exit code {code}: {last}", "run: provision doctor")
    return output


def attempt(
    argv: Sequence[str], *, timeout: float, stdin: str | bytes | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command; exit code, standard output and standard error. A run over `timeout` seconds is code 124."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    source = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            list(argv), capture_output=True, timeout=timeout, env=environment, check=False, **source
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no end within {timeout:.0f} s"
    except FileNotFoundError:
        return 127, "", f"{argv[0]} is not installed"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def _label(argv: Sequence[str]) -> str:
    """The command's name and verb for a message: never its arguments, which may be long."""
    names = [word for word in argv if word in TOOLS]
    start = list(argv).index(names[-1]) if names else 0
    verb = next((word for word in list(argv)[start + 1 :] if word.isalpha()), "")
    return f"{Path(argv[start]).name} {verb}".strip()


@contextmanager
def locked(path: Path, *, timeout: float = 900) -> Iterator[None]:
    """Hold an exclusive lock on a file; refuse after `timeout` seconds of waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with path.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise refuse(
                        f"the lock {path}",
                        f"has been held by another provision lab for {timeout:.0f} s",
                        f"see who holds it: fuser {path}",
                    ) from None
                time.sleep(0.1)
        yield
