"""Is this controller able? Each finding says what was looked at, what is the case, and the remedy where it is bad."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from provision import lab
from provision.content import playbooks_dir
from provision.ledger import state_home
from provision.report import Report

FREE_BYTES = 500 * 2**20

Finding = dict[str, str]


def examine() -> Report:
    """Look at everything; a `bad` finding makes the report not ok, a `limited` one costs a feature only."""
    findings = [look() for look in LOOKS]
    bad = [finding for finding in findings if finding["state"] == "bad"]
    return Report("doctor", data={"findings": findings}, ok=not bad)


def _finding(name: str, state: str, fact: str, remedy: str = "") -> Finding:
    return {"name": name, "state": state, "fact": fact, "remedy": remedy}


def _python() -> Finding:
    return _finding("python", "good", ".".join(map(str, sys.version_info[:3])))


def _ansible() -> Finding:
    try:
        version = importlib.metadata.version("ansible-core")
    except importlib.metadata.PackageNotFoundError:
        return _finding("ansible-core", "bad", "not installed beside provision", "uv sync")
    if not (Path(sys.executable).parent / "ansible-playbook").exists():
        return _finding(
            "ansible-core", "bad", f"{version}, without its ansible-playbook command", "uv sync --reinstall"
        )
    return _finding("ansible-core", "good", version)


def _content() -> Finding:
    if (playbooks_dir() / "site.yml").is_file():
        return _finding("playbooks", "good", str(playbooks_dir()))
    return _finding("playbooks", "bad", f"{playbooks_dir()} has no site.yml", "install provision again")


def _ssh() -> Finding:
    ssh = shutil.which("ssh")
    if not ssh:
        return _finding("ssh", "bad", "no ssh command on PATH", "apt-get install openssh-client")
    told = subprocess.run([ssh, "-V"], capture_output=True, text=True, timeout=10, check=False)
    return _finding("ssh", "good", told.stderr.strip().split(",")[0])


def _locale() -> Finding:
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") == "utf8":
        return _finding("locale", "good", encoding)
    return _finding("locale", "bad", f"{encoding}, and Ansible needs UTF-8", "export LC_ALL=C.UTF-8")


def _state() -> Finding:
    home = state_home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        remedy = "set XDG_STATE_HOME to a folder of yours"
        return _finding("state", "limited", f"{home} cannot be created: {error.strerror}; no history", remedy)
    if not os.access(home, os.W_OK):
        return _finding("state", "limited", f"{home} is not writable: no history", f"chown {os.getuid()} {home}")
    free = shutil.disk_usage(home).free
    if free < FREE_BYTES:
        return _finding("state", "bad", f"{free // 2**20} MiB free at {home}", "free some room there")
    return _finding("state", "good", f"{home}, {free // 2**30} GiB free")


def _keys() -> Finding:
    agent = bool(os.environ.get("SSH_AUTH_SOCK"))
    keys = sorted(path.stem for path in (Path.home() / ".ssh").glob("id_*.pub"))
    if agent or keys:
        return _finding("ssh keys", "good", "an agent" if agent else ", ".join(keys))
    remedy = "ssh-keygen -t ed25519, then ssh-copy-id HOST; or name a key in ~/.ssh/config or the inventory"
    return _finding("ssh keys", "limited", "no agent and no key in ~/.ssh", remedy)


def _lab() -> Finding:
    faults = lab.faults()
    if not faults:
        return _finding("lab", "good", "targets can be brought up here")
    fact = "; ".join(str(fault) for fault in faults)
    return _finding("lab", "limited", fact, "; ".join(fault.hint for fault in faults))


def _virtual_machines() -> Finding:
    faults = lab.lacking()
    if not faults:
        speed = "at full speed" if lab.has_kvm() else "emulated, as KVM is not usable: several times slower"
        return _finding("lab machines", "good", f"virtual machines can be brought up here, {speed}")
    fact = "; ".join(str(fault) for fault in faults)
    return _finding("lab machines", "limited", fact, "; ".join(fault.hint for fault in faults))


LOOKS: tuple[Callable[[], Finding], ...] = (
    _python, _ansible, _content, _ssh, _locale, _state, _keys, _lab, _virtual_machines,
)  # fmt: skip
