"""What this machine allows: processes run with a time limit, tools on PATH, cgroups, capabilities, file locks."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from provision.errors import ProvisionError, refuse
from provision.model import Refusal

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
    "newuidmap": "uidmap",
    "slirp4netns": "slirp4netns",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.ext4": "e2fsprogs",
}
# The tools without which no target starts: root's, and an ordinary user's in place of the firewall's.
# mmdebstrap is needed only where an image is made without a registry.
SHARED = ("podman", "crun", "ssh", "ssh-keygen", "nsenter", "unshare")
ROOTS = ("netavark", "iptables", "nft")
USERS = ("newuidmap", "slirp4netns")
VIRTUAL = ("qemu-system-x86_64", "qemu-img", "mkfs.ext4", "mmdebstrap", "ssh", "ssh-keygen")
# Releases whose podman is older than netavark.
CNI_RELEASES = ("20.04", "22.04")
CNI_BRIDGE = Path("/usr/lib/cni/bridge")
APT_GET = "sudo apt-get install -y --no-install-recommends"
# Where Debian keeps helpers that are not on an ordinary user's PATH.
HELPER_FOLDERS = ("/usr/sbin", "/sbin", "/usr/lib/podman", "/usr/libexec/podman")


@dataclass(frozen=True)
class Machine:
    """The facts of the controller that decide how a container is started."""

    root: bool
    unified_cgroups: bool
    sys_resource: bool

    @property
    def own_cgroups(self) -> bool:
        """Whether the lab has to give each container its cgroup, since crun cannot (it needs CAP_SYS_RESOURCE)."""
        return self.root and not (self.unified_cgroups and self.sys_resource)

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


def uses_cni() -> bool:
    """Whether podman's bridge comes from the CNI plugins here, as with Ubuntu 22.04's podman."""
    return not _found("netavark") and CNI_BRIDGE.exists()


def faults(*tools: str) -> list[Refusal]:
    """What keeps this machine from running lab targets, each with its remedy; empty when it can.

    Looks for these tools; without any, for all that a target needs.
    """
    faulty = []
    if needs_root():
        fact = "needs root here: this machine mounts cgroup v1, so a user's containers cannot run systemd"
        faulty.append(Refusal("provision lab", fact, "run this as root, or bring targets up with: provision lab up"))
    return [*faulty, *lacking(tools or (*SHARED, *(ROOTS if needs_root() or machine().root else USERS)))]


def needs_root() -> bool:
    """Whether this user cannot hold targets here, and root could."""
    here = machine()
    return not here.root and not here.unified_cgroups


def lacking(tools: Sequence[str] = VIRTUAL) -> list[Refusal]:
    """Which of these tools this machine lacks, with the remedy; by default those of virtual machines. Empty: none."""
    missing = [name for name in tools if not _found(name) and not (name == "netavark" and uses_cni())]
    if not missing:
        return []
    packages = " ".join(sorted({_package(name) for name in missing}))
    fact = f"lacks {', '.join(missing)}, which lab targets need"
    return [Refusal("this machine", fact, f"run: {APT_GET} {packages}")]


def require(*tools: str) -> None:
    """Refuse, with every fault, when this machine lacks one of these tools; without any, when it holds no targets."""
    if found := lacking(tools) if tools else faults():
        raise ProvisionError(found)


def _found(tool: str) -> bool:
    """Whether a tool is on PATH or where Debian keeps helpers."""
    search = os.pathsep.join((os.environ.get("PATH", ""), *HELPER_FOLDERS))
    return shutil.which(tool, path=search) is not None


def _package(tool: str) -> str:
    """The package that brings a tool on this machine's release."""
    if tool == "netavark" and platform.freedesktop_os_release().get("VERSION_ID") in CNI_RELEASES:
        return "containernetworking-plugins"
    return TOOLS[tool]


def run(
    argv: Sequence[str], *, timeout: float, stdin: str | bytes = "", environment: Mapping[str, str] | None = None
) -> str:
    """Run a command and return its standard output; refuse when it fails or exceeds `timeout` seconds."""
    code, output, errors = attempt(argv, timeout=timeout, stdin=stdin, environment=environment)
    if code != 0:
        last = " / ".join((errors or output).strip().splitlines()[-3:]) or "no output"
        raise refuse(_label(argv), f"failed with exit code {code}: {last}", "run: provision doctor")
    return output


def attempt(
    argv: Sequence[str], *, timeout: float, stdin: str | bytes = "", environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command; exit code, standard output and standard error. A run over `timeout` seconds is code 124."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    pipe = subprocess.PIPE
    try:
        # A session of its own: at a timeout or Ctrl-C its children (apt, gpg) end with it.
        child = subprocess.Popen(
            list(argv), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        return 127, "", f"{argv[0]} is not installed"
    with child:
        try:
            output, errors = child.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            _end_session(child)
            return 124, "", f"no end within {timeout:g} s"
        except BaseException:
            _end_session(child)
            raise
    return (child.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def _end_session(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and all that still belongs to its session."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _label(argv: Sequence[str]) -> str:
    """The command's name and verb for a message: never its arguments, which may be long."""
    names = [word for word in argv if word in TOOLS]
    start = list(argv).index(names[-1]) if names else 0
    verb = next((word for word in list(argv)[start + 1 :] if word.isalpha()), "")
    return f"{Path(argv[start]).name} {verb}".strip()


@contextmanager
def locked(path: Path, *, timeout: float = 900, shared: bool = False) -> Iterator[None]:
    """Hold a lock on a file, exclusive unless `shared`; refuse after `timeout` seconds of waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with path.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    fact = f"has been held by another provision lab for {timeout:.0f} s"
                    raise refuse(f"the lock {path}", fact, f"see who holds it: fuser {path}") from None
                time.sleep(0.1)
        yield
