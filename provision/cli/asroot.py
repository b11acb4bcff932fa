"""Where a user's own containers cannot run, the lab is root's work: it asks sudo itself and gives the files back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from provision.errors import refuse

OWNER = "PROVISION_LAB_OWNER"
# What tells the lab of the user's folders, mirrors and wishes; sudo would drop it.
KEPT = ("LANG", "TERM", "NO_COLOR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HF_ENDPOINT")
KEPT_PREFIXES = ("PIP_", "UV_", "PROVISION_")
KEPT_SUFFIXES = ("_proxy", "_PROXY")


def become_root() -> None:
    """Run this very command line as root in place of this process, where this machine asks for that."""
    from provision.lab import needs_root

    if not needs_root():
        return
    argv = command(sys.argv[1:])
    # Without a terminal nobody could type a password.
    asks = [] if sys.stdin is not None and sys.stdin.isatty() else ["-n"]
    if _permitted(asks):
        os.execvp("sudo", ["sudo", *asks, *argv[1:]])  # noqa: S606  the terminal becomes the lab's
    fact = "needs root here: this machine mounts cgroup v1, so a user's containers cannot run systemd"
    raise refuse("provision lab", fact, f"run it as root: {shlex.join(argv)}")


def give_back() -> None:
    """Hand what root wrote for a user into that user's folders over to them."""
    owner = os.environ.get(OWNER, "")
    if os.geteuid() != 0 or not owner:
        return
    from provision.lab import state_folder

    uid, _, gid = owner.partition(":")
    root = state_folder()
    for folder, _folders, files in os.walk(root):
        for path in (Path(folder), *(Path(folder, file) for file in files)):
            os.chown(path, int(uid), int(gid), follow_symlinks=False)


def command(words: Sequence[str]) -> list[str]:
    """The command line that does for this user, as root, what `provision WORDS` cannot do as the user."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES) or name.endswith(KEPT_SUFFIXES)
    }
    homes = {"XDG_CACHE_HOME": ".cache", "XDG_STATE_HOME": ".local/state", "XDG_CONFIG_HOME": ".config"}
    for variable, default in homes.items():
        value = os.environ.get(variable, "")
        home = Path(value) if value.startswith("/") else Path.home() / default
        (home / "provision").mkdir(parents=True, exist_ok=True)  # the user's, whatever root puts into it
        kept[variable] = str(home)
    # A user's PATH lacks where Debian keeps what root alone runs, the firewall's tools among it.
    kept["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    kept[OWNER] = f"{os.geteuid()}:{os.getegid()}"
    # -B: no compiled files of root's in the user's checkout.
    program = [sys.executable, "-B", "-m", "provision", *words]
    return ["sudo", "env", *(f"{name}={value}" for name, value in sorted(kept.items())), *program]


def _permitted(asks: Sequence[str]) -> bool:
    """Whether sudo lets this user do it, asking for a password where there is somebody to ask."""
    if asks:
        try:
            return subprocess.run(["sudo", *asks, "true"], capture_output=True, timeout=60, check=False).returncode == 0
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return False
    click.echo("provision lab: needs root here (cgroup v1): asking sudo", err=True)
    return subprocess.run(["sudo", "-v"], check=False).returncode == 0
