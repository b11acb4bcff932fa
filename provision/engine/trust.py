"""A host's key: fetched the way ssh would reach the host, and remembered in the user's own known_hosts."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import paramiko

from provision.engine import ssh
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError, refuse
from provision.model import Host, Refusal

_PATIENCE = 15.0  # seconds
# It prints tracebacks of what is raised here anyway.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class HostKey:
    """A public key: `kind` as ssh names it (`ssh-ed25519`), `blob` in base64, `fingerprint` as `SHA256:...`."""

    kind: str
    blob: str
    fingerprint: str


@dataclass(frozen=True)
class _Place:
    """Where ssh keeps the key: the file, the name in it, and whether names are hashed there."""

    file: Path
    name: str
    hashed: bool


def fetch_host_key(host: Host, user_config: Path | None = None) -> HostKey:
    """The key a host shows now, by way of the jump hosts and proxy commands that the user's ssh configuration names.

    Raises:
        ProvisionError: where there is no SSH server to be reached.
    """
    with Workspace([host], user_config=user_config) as workspace:
        known = ssh.settings(workspace, host)
        proxy = _proxy(workspace, known)
        if proxy is None:
            with _direct(host, known) as channel:
                return _read_key(host, known, channel)
        ours, theirs = socket.socketpair()
        with (
            ours,
            subprocess.Popen(proxy, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE) as child,
        ):
            theirs.close()
            try:
                return _read_key(host, known, ours)
            except ProvisionError as error:
                # What the proxy says is nearer to the cause than that it closed the connection.
                child.terminate()
                said = child.communicate(timeout=_PATIENCE)[1].decode(errors="replace")
                if not said.strip():
                    raise
                trouble = ssh.explain(workspace, host, ssh.Answer(ssh.SSH_FAILED, "", said, 0))
                raise ProvisionError(trouble.refusal, 3 if trouble.unreachable else 2) from error
            finally:
                child.terminate()


def remember(host: Host, key: HostKey, *, replace: bool = False, user_config: Path | None = None) -> tuple[Path, bool]:
    """Write the key into the known_hosts that ssh reads for this host; return that file, and whether it is new there.

    Raises:
        ProvisionError: where another key is known already and `replace` is not given.
    """
    with Workspace([host], user_config=user_config) as workspace:
        place = _place(host, ssh.settings(workspace, host))
    lines = place.file.read_text(encoding="utf-8").splitlines() if place.file.exists() else []
    mine = {number: entry for number, line in enumerate(lines) if (entry := _entry(line, place.name))}
    if any((entry[0], entry[1]) == (key.kind, key.blob) for entry in mine.values()) and not replace:
        return place.file, False
    if mine and not replace:
        fact = f"has another key in {place.file}, line {min(mine) + 1}"
        hint = f"only if you know why it changed: provision trust --replace {ssh.trust_target(host)}"
        raise refuse(host.name, fact, hint)
    kept = [_without(line, place.name) if number in mine else line for number, line in enumerate(lines)]
    shown = paramiko.HostKeys.hash_host(place.name) if place.hashed else place.name
    _write(
        place.file,
        [*(line for number, line in enumerate(kept) if line or number not in mine), f"{shown} {key.kind} {key.blob}"],
    )
    return place.file, True


def _direct(host: Host, known: dict[str, str]) -> socket.socket:
    name, port = known.get("hostname", host.name), int(known.get("port", "22"))
    try:
        channel = socket.create_connection((name, port), timeout=_PATIENCE)
    except socket.gaierror as error:
        hint = "check the name, or give it an address in ~/.ssh/config"
        raise ProvisionError(Refusal(host.name, "does not resolve to an address", hint), 3) from error
    except OSError as error:
        fact = f"does not answer on port {port}: {error.strerror or 'no reply'}"
        raise ProvisionError(Refusal(host.name, fact, f"look at it: {ssh.command_line(host)} -v"), 3) from error
    # Without it Nagle and delayed acknowledgements cost 40 ms a message.
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return channel


def _read_key(host: Host, known: dict[str, str], channel: socket.socket) -> HostKey:
    """Speak SSH only as far as the key exchange; nobody logs in."""
    try:
        transport = paramiko.Transport(channel)
        try:
            transport.start_client(timeout=_PATIENCE)
            key = transport.get_remote_server_key()
        finally:
            transport.close()
    except (paramiko.SSHException, OSError, EOFError) as error:
        fact = f"shows no host key on port {known.get('port', '22')}: {error or 'the connection was closed'}"
        raise ProvisionError(Refusal(host.name, fact, f"look at it: {ssh.command_line(host)} -v"), 3) from error
    return HostKey(key.get_name(), key.get_base64(), key.fingerprint)


def _proxy(workspace: Workspace, known: dict[str, str]) -> list[str] | None:
    """The command that leads to the host, as ssh itself would start it; None for a direct connection."""
    name, port = known.get("hostname", ""), known.get("port", "22")
    jumps = known.get("proxyjump", "none")
    if jumps != "none":
        before, _, last = jumps.rpartition(",")
        way = ["-J", before] if before else []
        destination = last if last.startswith("ssh://") else f"ssh://{last}"
        return ["ssh", "-F", str(workspace.ssh_config), *way, "-W", f"[{name}]:{port}", "--", destination]
    command = known.get("proxycommand", "none")
    if command == "none":
        return None
    words = {"%": "%", "h": name, "p": port, "r": known.get("user", ""), "n": known.get("host", name)}
    return ["sh", "-c", "exec " + re.sub(r"%(.)", lambda token: words.get(token[1], token[0]), command)]


def _place(host: Host, known: dict[str, str]) -> _Place:
    name, port = known.get("hostkeyalias") or known.get("hostname", host.name).lower(), known.get("port", "22")
    if port != "22" and not known.get("hostkeyalias"):
        name = f"[{name}]:{port}"
    first = (shlex.split(known.get("userknownhostsfile", "")) or ["none"])[0]
    if first in ("none", os.devnull):
        fact = f"cannot be remembered: your ssh configuration keeps no known hosts (UserKnownHostsFile {first})"
        raise refuse(host.name, fact, "name a file there")
    return _Place(Path(first).expanduser(), name, known.get("hashknownhosts") == "yes")


def _entry(line: str, name: str) -> tuple[str, str] | None:
    """The key (kind, blob) that a line of known_hosts holds for `name`; None for other hosts, comments and markers."""
    words = line.split()
    if len(words) < 3 or line.startswith(("#", "@")):
        return None
    return (words[1], words[2]) if any(_is(pattern, name) for pattern in words[0].split(",")) else None


def _is(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return paramiko.HostKeys.hash_host(name, pattern) == pattern
    return pattern == name


def _without(line: str, name: str) -> str:
    """The line for the other names in it; empty where there is no other."""
    patterns, _, rest = line.strip().partition(" ")
    others = [pattern for pattern in patterns.split(",") if not _is(pattern, name)]
    return f"{','.join(others)} {rest}" if others else ""


def _write(file: Path, lines: list[str]) -> None:
    """Put the lines in place in one step; a file that is a link stays one, and its mode is kept."""
    file = file.resolve()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o600
    handle, staged = tempfile.mkstemp(dir=file.parent, prefix=".known_hosts-")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
    Path(staged).replace(file)
