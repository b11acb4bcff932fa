"""Can this host be provisioned at all? One ssh call a host, in parallel; every independent fault of a host at once."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from provision.engine import ssh
from provision.engine.workspace import Workspace
from provision.model import Host, OperatingSystem, Refusal

OLDEST_PYTHON = (3, 8)  # of the target, for ansible-core 2.19
_PARALLEL = 16
_PYTHON_PACKAGES = ("python3", "python3-apt")
_MARK = "provision:"
_WRONG_PASSWORD = ("incorrect password", "try again", "no password was provided")

_SCRIPT = Path(__file__).with_name("preflight.sh")


@dataclass(frozen=True)
class Requirements:
    """What a host must offer. `distributions` are (id, version) as in os-release; sizes in bytes, times in seconds."""

    distributions: frozenset[tuple[str, str]]
    architectures: frozenset[str] = frozenset({"x86_64"})
    free_bytes: Mapping[str, int] = field(default_factory=lambda: {"/": 2 * 1024**3, "/var": 2 * 1024**3})
    clock_skew: float = 300


@dataclass(frozen=True)
class Found:
    """A host that can be worked on. `missing` are packages that Ansible needs there and that are not installed."""

    host: Host
    user: str
    sudo: ssh.SudoMode
    os: OperatingSystem
    python: str | None
    missing: tuple[str, ...]
    seconds: float
    password: str | None = field(default=None, repr=False)  # for sudo, where it asks


@dataclass(frozen=True)
class Unfit:
    """A host that cannot: all its faults. `unreachable`: the network's fault, and not the input's."""

    host: Host
    refusals: tuple[Refusal, ...]
    unreachable: bool = False


def preflight(
    workspace: Workspace, requirements: Requirements, become_password: str | None = None
) -> dict[str, Found | Unfit]:
    """Look at every host of the workspace at once."""
    workspace.hide(become_password, *(_password(host, None) for host in workspace.hosts))

    def one(host: Host) -> Found | Unfit:
        return _look(workspace, host, requirements, _password(host, become_password))

    if not workspace.hosts:
        return {}
    with ThreadPoolExecutor(min(_PARALLEL, len(workspace.hosts))) as pool:
        return {found.host.name: found for found in pool.map(one, workspace.hosts)}


def _password(host: Host, asked: str | None) -> str | None:
    """The sudo password: as with Ansible, what the inventory says stands above what was asked for."""
    names = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
    given = next((str(host.variables[name]) for name in names if host.variables.get(name)), None)
    return given if given and "{{" not in given else asked  # a template is Ansible's to fill in


def _look(workspace: Workspace, host: Host, requirements: Requirements, password: str | None) -> Found | Unfit:
    wanted = str(host.variables.get("ansible_python_interpreter") or "")
    wanted = wanted if wanted.startswith("/") else ""  # `auto` and its like name no file
    # The password travels in the script, the script through stdin: neither shows in a process list.
    head = f"password={shlex.quote(password or '')}\nwanted_python={shlex.quote(wanted)}\n"
    answer = ssh.run(workspace, host, "sh -s", head + _SCRIPT.read_text(encoding="utf-8"), timeout=60)
    seen = _read(answer.out)
    if answer.code == ssh.SSH_FAILED and "end" not in seen:
        trouble = ssh.explain(workspace, host, answer)
        workspace.log(f"{host.name}: ssh said: {answer.err}")
        return Unfit(host, (trouble.refusal,), trouble.unreachable)
    if "end" not in seen:
        said = (answer.err or answer.out).strip().splitlines()
        fact = f"does not run commands for the user who logs in: {said[-1] if said else f'code {answer.code}'}"
        return Unfit(host, (Refusal(host.name, fact, "give that user a login shell (chsh), or log in as another"),))
    skew = float(seen["now"]) - (time.time() - answer.seconds / 2)
    faults = [*_sudo_faults(host, seen), *_box_faults(host, seen, requirements, skew)]
    return Unfit(host, tuple(faults)) if faults else _found(host, seen, answer.seconds, password)


def _read(out: str) -> dict[str, str]:
    lines = (line[len(_MARK) :] for line in out.splitlines() if line.startswith(_MARK))
    return {key: value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _sudo_faults(host: Host, seen: Mapping[str, str]) -> list[Refusal]:
    mode, user, said = seen.get("sudo"), seen["user"], seen.get("sudo_said", "")
    if mode in ("root", "free", "password"):
        return []
    if mode == "missing":
        fact, hint = f"has no sudo, and {user} is not root", f"log in as root: root@{host.name}"
    elif "not in the sudoers file" in said or "not allowed" in said or "may not run sudo" in said:
        fact, hint = f"does not let {user} use sudo at all", f"as root on the host: usermod -aG sudo {user}"
    elif mode == "asks" and "password is required" in said:
        fact, hint = f"asks {user} for a password for sudo", "run again with --ask-become-pass"
    elif mode == "refused" and any(words in said for words in _WRONG_PASSWORD):
        fact, hint = f"refuses the sudo password of {user}", "run again with --ask-become-pass and type it anew"
    else:
        fact, hint = f"refuses sudo to {user}: {said}", f"try: {ssh.command_line(host)} sudo -v"
    return [Refusal(host.name, fact, hint)]


def _box_faults(host: Host, seen: Mapping[str, str], requirements: Requirements, skew: float) -> list[Refusal]:
    told: list[tuple[str, str]] = []
    if (seen.get("id", ""), seen.get("version", "")) not in requirements.distributions:
        supported = ", ".join(" ".join(pair) for pair in sorted(requirements.distributions))
        fact = f"runs {seen.get('pretty') or 'an unknown system'}, which is not supported"
        told.append((fact, f"supported are: {supported}"))
    if seen["machine"] not in requirements.architectures:
        fact = f"is a {seen['machine']} machine, which is not supported"
        told.append((fact, f"supported are: {', '.join(sorted(requirements.architectures))}"))
    for folder, least in requirements.free_bytes.items():
        free = seen.get(f"free {folder}", "")
        if free.isdigit() and int(free) * 1024 < least:
            fact = f"has {_size(int(free) * 1024)} free on {folder}, and {_size(least)} are needed"
            told.append((fact, f"see what fills it: {ssh.command_line(host)} 'sudo du -xh {folder} | sort -h | tail'"))
    if abs(skew) > requirements.clock_skew:
        side = "ahead of" if skew > 0 else "behind"
        fact = f"has a clock that is {_span(abs(skew))} {side} this machine's"
        told.append((fact, f"set it: {ssh.command_line(host)} sudo date -u -s @$(date +%s)"))
    version = seen.get("python_version")
    if version and tuple(map(int, version.split("."))) < OLDEST_PYTHON:
        fact = f"has Python {version} at {seen['python']}, and 3.8 is the oldest that works"
        told.append((fact, "set ansible_python_interpreter to a newer one"))
    return [Refusal(host.name, fact, hint) for fact, hint in told]


def _found(host: Host, seen: Mapping[str, str], seconds: float, password: str | None) -> Found:
    system = OperatingSystem(
        id=seen["id"],
        version=seen["version"],
        codename=seen.get("codename", ""),
        architecture=seen["machine"],
        kernel=seen["kernel"],
        python=seen.get("python_version"),
    )
    missing = () if "python_apt" in seen else _PYTHON_PACKAGES[1:] if "python" in seen else _PYTHON_PACKAGES
    # A mode that preflight's script does not print cannot be here: _sudo_faults refused it.
    modes: dict[str, ssh.SudoMode] = {"root": "root", "free": "free", "password": "password"}
    sudo = modes[seen["sudo"]]
    needed = password if sudo == "password" else None
    return Found(host, seen["user"], sudo, system, seen.get("python"), missing, seconds, needed)


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"


def _span(seconds: float) -> str:
    if seconds >= 172800:
        return f"{seconds / 86400:.0f} days"
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"
