"""Where the lab keeps things: the image cache, the state of its targets, the volatile files of podman."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from provision.errors import refuse

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def check_name(name: str) -> str:
    """Return a target's name, or refuse one that is not a plain lower-case host name."""
    if not NAME.fullmatch(name):
        raise refuse(
            f"lab target {name!r}",
            "is not a valid name",
            "use up to 31 lower-case letters, digits and dashes, beginning with a letter",
        )
    return name


def cache_root() -> Path:
    """The folder of images and podman's storage; safe to delete when no target runs."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "provision" / "lab"


def state_root() -> Path:
    """The folder of keys, known hosts and the inventory, mode 0700."""
    root = _xdg("XDG_STATE_HOME", ".local/state") / "provision" / "lab"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    root.chmod(0o700)
    return root


def run_root() -> Path:
    """The folder of podman's volatile files; short, because unix socket paths are limited to about 100 bytes."""
    base = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/{os.geteuid()}"))  # noqa: S108
    return base / f"provision-lab-{_digest(cache_root())}"


def storage_id() -> str:
    """What names this storage's network interface, cgroup and volatile folder."""
    return _digest(cache_root())


def lab_id() -> str:
    """What tells this lab's containers from those of another state folder on the same storage."""
    return _digest(_xdg("XDG_STATE_HOME", ".local/state"))


def host_folder(name: str) -> Path:
    """The state folder of one target."""
    return state_root() / "hosts" / name


def inventory_file() -> Path:
    """The inventory that lists every target of this lab."""
    return state_root() / "inventory.yml"


def _xdg(variable: str, default: str) -> Path:
    """An XDG folder; relative values are ignored, as the specification asks."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def _digest(path: Path) -> str:
    """Six hexadecimal digits that stand for a path."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:6]
