"""A thin wrapper of podman with storage, configuration, network and cgroups of its own.

The user's own containers, images and networks are never seen."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from provision.errors import ProvisionError, refuse
from provision.lab import holder, paths
from provision.lab.cgroups import remove_cgroup
from provision.lab.system import Machine, attempt, locked, machine, require, run, uses_cni

LABEL = "provision.lab"
BUILD_PREFIX = "provision-lab-build-"
SUBNETS = tuple(f"10.{second}.0.0/22" for second in (231, 187, 143, 99))
# A target must not set the controller's clock, load modules into its kernel, or mount its debugfs.
CONTROLLERS_OWN = ("sys_time", "sys_module", "sys_rawio")
INOTIFY_PER_TARGET = 8  # systemd takes 5, journald and a daemon or two the rest
INOTIFY_OF_OTHERS = 88  # the same user's desktop, agents and interrupted test runs
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")

CONFIGURATION = """\
[network]
{backend}
network_config_dir = "{run}/networks"
[engine]
cgroup_manager = "{manager}"
events_logger = "none"
runtime = "crun"
tmp_dir = "{run}/libpod"
[containers]
log_driver = "k8s-file"
"""


def network() -> str:
    """The bridge of this storage.

    Netavark names its firewall chain after the bridge alone: of two storages that shared the name, the one that winds
    down first took the other's address translation away.
    """
    return f"provision-lab-{paths.storage_id()}"


class Podman:
    """Podman on the lab's storage. Every call has a time limit in seconds and refuses when podman fails."""

    def __init__(self) -> None:
        require()
        self.machine: Machine = machine()
        self._run_root = paths.run_root()
        self._run_root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._configuration = self._run_root / "containers.conf"
        # Where systemd owns the cgroup tree, podman asks it for a place; elsewhere nobody minds.
        owned = self.machine.unified_cgroups and Path("/run/systemd/system").exists()
        manager = "systemd" if owned else "cgroupfs"
        # A podman that knows only CNI does not know this setting either.
        backend = "" if uses_cni() else 'network_backend = "netavark"'
        text = CONFIGURATION.format(run=self._run_root, manager=manager, backend=backend)
        if not self._configuration.exists() or self._configuration.read_text() != text:
            self._configuration.write_text(text)

    def call(self, *words: str, timeout: float = 60, stdin: str | bytes = "") -> str:
        """Run a podman command and return what it prints."""
        return run(self._argv(words), timeout=timeout, stdin=stdin, environment=self._environment())

    def attempt(self, *words: str, timeout: float = 60, stdin: str | bytes = "") -> tuple[int, str, str]:
        """Run a podman command; exit code, standard output and standard error."""
        return attempt(self._argv(words), timeout=timeout, stdin=stdin, environment=self._environment())

    def start(self, container: str) -> None:
        """Start a created container in a cgroup of its own, where this machine's podman cannot give it one."""
        argv = self._argv(("start", container))
        if self.machine.own_cgroups:
            script = 'mkdir -p "$0" && echo $$ > "$0/cgroup.procs" && exec "$@"'
            cut = argv.index("podman")
            argv = [*argv[:cut], "sh", "-c", script, f"/sys/fs/cgroup/{_cgroup(container)}", *argv[cut:]]
        run(argv, timeout=60, environment=self._environment())

    def isolation(self) -> list[str]:
        """Options that let systemd and dockerd run inside, while the machine's disks stay out of sight."""
        # Not --privileged: that would put the controller's own disks into the target's /dev, and let a role's sysctl
        # settings change the controller's kernel. Of /proc/sys only net belongs to the target.
        options = ["--systemd=always", "--stop-timeout=0", "--cap-add=all", "--volume=/proc/sys/net:/proc/sys/net"]
        options += [f"--cap-drop={name}" for name in CONTROLLERS_OWN]
        options += [f"--security-opt={name}" for name in ("seccomp=unconfined", "apparmor=unconfined", "label=disable")]
        options += [f"--device={device}" for device in ("/dev/fuse", "/dev/net/tun") if Path(device).exists()]
        if self.machine.own_cgroups:
            options += ["--cgroups=disabled"]
        if not self.machine.sys_resource:
            options += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
        return [*options, "--cgroupns=private"]

    def containers(self, *, lab: str = "") -> dict[str, str]:
        """State ("running", "exited", ...) of every target's container by name; of one lab only when `lab` is given."""
        wanted = {LABEL: "1", **({f"{LABEL}.id": lab} if lab else {})}
        return {row["Names"][0]: row["State"] for row in self._all_containers() if _labelled(row, wanted)}

    def _all_containers(self) -> list[dict[str, Any]]:
        """Every container of the lab's storage, those of image builds included."""
        rows: list[dict[str, Any]] = json.loads(self.call("ps", "--all", "--format", "json", timeout=30) or "[]")
        return rows

    def remove(self, container: str) -> None:
        """Remove a container, its anonymous volumes and its cgroup; nothing happens when there is none."""
        if self.attempt("container", "exists", container)[0] == 0:
            self.call("rm", "--force", "--volumes", container, timeout=180)
        self._remove_cgroup(_cgroup(container))

    def ensure_network(self) -> None:
        """Create the lab's bridge on a subnet that this machine has no route to. The caller holds the storage lock."""
        if not self.machine.root or self.attempt("network", "exists", network())[0] == 0:
            return
        # The configuration is this storage's own: what stands there unused is a leftover, of another version perhaps.
        self.call("network", "prune", "--force")
        options = ["--subnet", free_subnet(_routes()), "--disable-dns", "--label", f"{LABEL}=1"]
        self.call("network", "create", *options, network())

    def wind_down(self) -> None:
        """When the last target is gone, take the network, the holder and the raised kernel limit away."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(use_lock(), timeout=0))
            except ProvisionError:
                return  # Whoever still uses the storage winds down after us.
            names = [row["Names"][0] for row in self._all_containers()]
            # By name, not by label: a commit hands the build container's labels down to every target of the image.
            builds = [name for name in names if name.startswith(BUILD_PREFIX)]
            if len(names) > len(builds):
                return
            for build in builds:
                self.remove(build)
            self.attempt("network", "rm", network())
            self._remove_cgroup(_cgroup_base())
            holder.stop()
            self._restore_inotify()

    def make_room(self, targets: int) -> None:
        """Raise the kernel's limit of inotify instances when this many targets would exhaust it."""
        limit = int(INOTIFY.read_text())
        if limit >= targets * INOTIFY_PER_TARGET + INOTIFY_OF_OTHERS:
            return
        memory = self._run_root / "inotify"
        with suppress(OSError):
            if not memory.exists():
                memory.write_text(str(limit))
            INOTIFY.write_text("1024")

    def _restore_inotify(self) -> None:
        """Put back the limit that `make_room` raised."""
        memory = self._run_root / "inotify"
        with suppress(OSError):
            INOTIFY.write_text(memory.read_text())
            memory.unlink()

    def _remove_cgroup(self, name: str) -> None:
        """End what still runs in a cgroup that the lab made, and remove it."""
        pid = holder.find()
        if pid is not None:
            remove_cgroup(holder.cgroup_root(pid) / name)
        elif self.machine.own_cgroups and not self.machine.needs_holder:
            remove_cgroup(Path("/sys/fs/cgroup") / name)

    def _argv(self, words: Sequence[str]) -> list[str]:
        """The podman command line on the lab's own storage, entered into the holder where one is needed."""
        storage = ["--root", str(paths.cache_root() / "storage"), "--runroot", str(self._run_root / "storage")]
        argv = ["podman", *storage, *words]
        if self.machine.needs_holder:
            pid = holder.find()
            if pid is None:
                with locked(paths.cache_root() / "holder.lock", timeout=60):
                    pid = holder.ensure()
            argv = ["nsenter", "-t", str(pid), "-m", *argv]
        return argv

    def _environment(self) -> dict[str, str]:
        """The caller's environment with the lab's podman configuration instead of the user's."""
        return {**os.environ, "CONTAINERS_CONF": str(self._configuration)}


def storage_lock() -> Path:
    """The lock of whoever changes images, the network or the set of containers."""
    return paths.cache_root() / "lock"


def use_lock() -> Path:
    """Held shared by whoever works with targets, exclusively while network and holder are taken away."""
    return paths.cache_root() / "use.lock"


def free_subnet(routes: Sequence[ipaddress.IPv4Network]) -> str:
    """The first of the lab's subnets that overlaps none of the machine's routes."""
    for subnet in SUBNETS:
        if not any(ipaddress.IPv4Network(subnet).overlaps(route) for route in routes):
            return subnet
    raise refuse(
        "this machine", f"has routes into all of {', '.join(SUBNETS)}", "free one of these subnets for the lab"
    )


def _labelled(row: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a row of `podman ps` carries exactly these labels."""
    labels = row.get("Labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _routes() -> list[ipaddress.IPv4Network]:
    """The networks this machine has IPv4 routes to, the default route left out."""
    if shutil.which("ip") is None:
        return []
    networks = []
    for route in json.loads(attempt(["ip", "-4", "-j", "route"], timeout=10)[1] or "[]"):
        with suppress(ValueError):
            networks.append(ipaddress.IPv4Network(route["dst"]))
    return networks


def _cgroup_base() -> str:
    return f"provision-lab-{paths.storage_id()}"


def _cgroup(container: str) -> str:
    return f"{_cgroup_base()}/{container}"
