"""Commands on hosts over the run's shared connections, and ssh's complaints put into words an operator can act on."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import Literal

from provision.engine.workspace import Workspace
from provision.model import Host, Refusal

SudoMode = Literal["root", "free", "password"]  # is root already | asks for nothing | asks for the password

SSH_FAILED = 255


@dataclass(frozen=True)
class Answer:
    """What came back. `code` is the command's, or 255 where ssh itself failed. `timed_out`: we stopped waiting."""

    code: int
    out: str
    err: str
    seconds: float
    timed_out: bool = False


@dataclass(frozen=True)
class Trouble:
    """Why ssh did not get through. `unreachable`: the network is to blame, not what the operator typed."""

    refusal: Refusal
    unreachable: bool


def run(workspace: Workspace, host: Host, command: str, stdin: str = "", timeout: float = 60) -> Answer:
    """Run `command` by the login shell of `host`. Secrets go through `stdin` only. `timeout` is in seconds."""
    argv = ["ssh", "-F", str(workspace.ssh_config), "-T", "--", host.name, command]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            argv, input=stdin.encode(), capture_output=True, timeout=timeout, check=False, env=_environment()
        )
    except subprocess.TimeoutExpired as error:
        seconds = time.monotonic() - begun
        return Answer(SSH_FAILED, _text(error.stdout), _text(error.stderr), seconds, timed_out=True)
    return Answer(done.returncode, _text(done.stdout), _text(done.stderr), time.monotonic() - begun)


def run_as_root(
    workspace: Workspace, host: Host, command: str, become: tuple[SudoMode, str | None], stdin: str = ""
) -> Answer:
    """Run `command` as root, the way preflight found possible: `become` is the sudo mode and the password."""
    mode, password = become
    shell = f"sh -c {shlex.quote(command)}"
    if mode == "root":
        return run(workspace, host, shell, stdin, timeout=900)
    if mode == "free":
        return run(workspace, host, f"sudo -n -- {shell}", stdin, timeout=900)
    # -k: without it a remembered login would leave the password in the command's own input.
    return run(workspace, host, f"sudo -k -S -p '' -- {shell}", f"{password}\n{stdin}", timeout=900)


def settings(workspace: Workspace, host: Host) -> dict[str, str]:
    """The ssh options in force for a host, by lower-case name, as `ssh -G` tells them. No connection is made."""
    argv = ["ssh", "-F", str(workspace.ssh_config), "-G", "--", host.name]
    done = subprocess.run(argv, capture_output=True, timeout=10, check=False, env=_environment())
    found: dict[str, str] = {}
    for line in _text(done.stdout).splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, value)
    return found


def trust_target(host: Host) -> str:
    """The host as `provision trust` takes it."""
    name = host.address or host.name
    if host.port in (None, 22):
        return name
    return f"[{name}]:{host.port}" if ":" in name else f"{name}:{host.port}"


def command_line(host: Host) -> str:
    """The host as one tries it by hand."""
    user = f"{host.user}@" if host.user else ""
    port = f" -p {host.port}" if host.port not in (None, 22) else ""
    return f"ssh{port} {user}{host.address or host.name}"


def explain(workspace: Workspace, host: Host, answer: Answer) -> Trouble:
    """Name what stopped ssh, from what it printed."""
    known = settings(workspace, host)
    said = _without_noise(answer.err)
    if _LOST_VOICE.search(said) and known.get("proxyjump", known.get("proxycommand", "none")) != "none":
        said = _without_noise(_ask_proxy(workspace, host)) or said
    if answer.timed_out and not said:
        return _trouble(
            host, f"did not finish within {answer.seconds:.0f} s", f"look at it: {command_line(host)}", True
        )
    for fault in _FAULTS:
        if match := re.search(fault.pattern, said, re.MULTILINE):
            return _tell(host, known, fault, match)
    if not said.strip():
        # The end of a shared connection: its master closes without a word.
        return _trouble(host, "stopped answering", "look whether it is up, then run again", True)
    last = said.strip().splitlines()[-1].strip()
    return _trouble(host, f"cannot be reached by ssh: {last}", f"look at it: {command_line(host)} -v", True)


@dataclass(frozen=True)
class _Fault:
    """A complaint of ssh (`pattern`) and how to tell it; the group `named` is the machine ssh itself speaks of."""

    pattern: str
    fact: str
    hint: str
    unreachable: bool


# ssh says these beside the real trouble.
_NOISE = re.compile(r"^(ControlSocket .* already exists|mux_client_|Warning: Permanently added|Pseudo-terminal )")

# What is left when a proxy has failed: with ControlPersist ssh closes the proxy's stderr.
_LOST_VOICE = re.compile(r"kex_exchange_identification|UNKNOWN port 65535")

# The first that matches is told, so causes stand before their consequences.
_FAULTS = (
    _Fault(
        r"(?s)REMOTE HOST IDENTIFICATION HAS CHANGED.*?ost key for (?P<named>\S+) has changed",
        "shows another host key than the one you trusted: it was installed anew, or somebody stands between you and it",
        "compare the new key on the host's console; only if you know why it changed: provision trust --replace {trust}",
        False,
    ),
    _Fault(
        r"REVOKED HOST KEY|host key .* is revoked",
        "shows a host key that your known_hosts marks as revoked",
        "do not connect; give the host a new key first",
        False,
    ),
    _Fault(
        r"No (?P<kind>\S+) host key is known for (?P<named>\S+)",
        "has a host key that is not trusted yet",
        "provision trust {trust}",
        False,
    ),
    _Fault(r"^Host key verification failed", "has a host key that is not trusted", "provision trust {trust}", False),
    _Fault(
        r"[Cc]ould not resolve hostname (?P<named>\S+?):",
        "does not resolve to an address",
        "check the name, or give it an address in ~/.ssh/config or the inventory",
        True,
    ),
    _Fault(
        r"open failed: administratively prohibited",
        "is behind {jump}, which does not forward connections",
        "set AllowTcpForwarding on {jump}, or choose another ProxyJump",
        True,
    ),
    _Fault(
        r"open failed: connect failed: (?P<why>.*)",
        "cannot be reached from {jump}: {why}",
        "check the address and port of {name} as {jump} sees them",
        True,
    ),
    _Fault(
        r"[Ss]tdio forwarding (request )?failed",
        "cannot be reached from {jump}",
        "check the address and port of {name} as {jump} sees them",
        True,
    ),
    _Fault(
        r"connect to host (?P<named>\S+) port (?P<port>\d+): Connection refused",
        "refuses connections on port {port}",
        "is sshd running there, and is the port right? try: {ssh}",
        True,
    ),
    _Fault(
        r"connect to host (?P<named>\S+) port (?P<port>\d+): (Connection|Operation) timed out",
        "does not answer on port {port}",
        "is it switched on, is the address right, does a firewall stand between? try: {ssh}",
        True,
    ),
    _Fault(
        r"connect to host (?P<named>\S+) port (?P<port>\d+): (?P<why>.*)",
        "cannot be reached on port {port}: {why}",
        "check the route to it, or name a ProxyJump in ~/.ssh/config",
        True,
    ),
    _Fault(
        r"UNPROTECTED PRIVATE KEY FILE(?s:.*)Load key \"(?P<key>.*?)\": bad permissions",
        "is not tried with your key {key}: others can read that file",
        "chmod 600 {key}",
        False,
    ),
    _Fault(
        r"(?s)no such identity: (?P<key>.*?): No such file.*Permission denied",
        "refuses the login, and the key {key} does not exist",
        "name an existing key (IdentityFile in ~/.ssh/config, or the inventory)",
        False,
    ),
    _Fault(
        r"Too many authentication failures",
        "refuses the login: your agent offered too many keys before the right one",
        "name the one key with IdentityFile and IdentitiesOnly yes in ~/.ssh/config",
        False,
    ),
    _Fault(
        r"^(?P<user>\S+)@(?P<named>\S+): Permission denied \((?P<methods>.*)\)",
        "refuses the login of {user} (it accepts: {methods})",
        "check the user and the key: {ssh} (ssh-copy-id puts a key there)",
        False,
    ),
    _Fault(
        r"Unable to negotiate with (?P<named>\S+) .*: (?P<why>no matching .* found)",
        "speaks an outdated SSH: {why}",
        "update its sshd; allowing weak algorithms is possible in ~/.ssh/config, and a risk",
        False,
    ),
    _Fault(
        r"^(bash|sh|zsh|/\S+): .*(not found|No such file)",
        "is reached through a ProxyCommand that does not exist on this machine",
        "install the command, or change ProxyCommand in ~/.ssh/config",
        False,
    ),
    _Fault(
        r"(?P<why>.*(line \d+: |Bad configuration option|Bad owner or permissions).*)",
        "cannot be tried: your ssh configuration has a fault: {why}",
        "mend that line",
        False,
    ),
    _Fault(
        r"timed out during banner exchange\nConnection to UNKNOWN port",
        "does not answer by way of {jump}",
        "is it switched on, and is its address right as {jump} sees it? try: {ssh}",
        True,
    ),
    _Fault(
        r"timed out during banner exchange",
        "takes the connection on port {port}, but then says nothing",
        "is it overloaded, or does a firewall answer in its place? try: {ssh} -v",
        True,
    ),
    _Fault(
        r"kex_exchange_identification|banner line contains invalid|Bad packet length",
        "answers on port {port}, but not as an SSH server",
        "is the port right, or is its sshd refusing new connections (MaxStartups, TCP wrappers)? try: {ssh} -v",
        True,
    ),
    _Fault(
        r"Connection (to .* )?(closed|reset|timed out)|Broken pipe|Timeout, server|Data could not be sent",
        "stopped answering",
        "look whether it is up, then run again",
        True,
    ),
)


def _tell(host: Host, known: dict[str, str], fault: _Fault, match: re.Match[str]) -> Trouble:
    """A fault in the words of the table; where ssh speaks of a bastion, the bastion is named."""
    jump = known.get("proxyjump", "its proxy command").rsplit(",", 1)[-1]
    found = {name: value.strip().rstrip(".") for name, value in match.groupdict().items() if value}
    raw = found.get("named", host.name)
    named = re.sub(r"^\[(.*)\]:\d+$", r"\1", raw)
    own = {host.name, host.address, known.get("hostname"), known.get("hostkeyalias")}
    by_way = "named" in found and named not in own and ("proxyjump" in known or "proxycommand" in known)
    words = {"port": known.get("port", "22"), "name": host.name, "jump": jump, **found}
    if by_way:
        words |= {"trust": re.sub(r"^\[([^:\]]*)\]:", r"\1:", raw), "ssh": f"ssh {named}"}
    else:
        words |= {"trust": trust_target(host), "ssh": command_line(host)}
    fact = fault.fact.format(**words)
    if by_way:
        fact = f"is reached through {named}, which {fact}"
    hint = fault.hint.format(**words)
    if "{trust}" in fault.hint and not by_way and "userknownhostsfile" in " ".join(host.ssh_args).lower():
        # `provision trust` writes where the user's own configuration says, and this host does not look there.
        file = known.get("userknownhostsfile", "")
        hint = f"its inventory keeps known hosts in {file}: put the key there, after comparing it on the host's console"
    return _trouble(host, fact, hint, fault.unreachable)


def _ask_proxy(workspace: Workspace, host: Host) -> str:
    """Try once more without sharing a connection, for what the proxy has to say."""
    alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ControlPersist=no"]
    argv = ["ssh", "-F", str(workspace.ssh_config), *alone, "-T", "--", host.name, "true"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False, env=_environment())
    except subprocess.TimeoutExpired as error:
        return _text(error.stderr)
    return _text(done.stderr)


def _without_noise(err: str) -> str:
    return "\n".join(line for line in err.splitlines() if not _NOISE.search(line))


def _trouble(host: Host, fact: str, hint: str, unreachable: bool) -> Trouble:
    return Trouble(Refusal(host.name, fact, hint), unreachable)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", errors="replace")
