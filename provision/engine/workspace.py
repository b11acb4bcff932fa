"""One run's files: what is kept (redacted), what goes when the run ends, and the ssh configuration all parts share."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from provision.errors import ProvisionError, refuse
from provision.model import Host, Refusal
from provision.redact import redact

# A socket's path may have 107 bytes; ssh adds /%C (41) and, while it binds, a dot and 16 characters.
_LONGEST_SOCKET_DIR = 107 - 41 - 17
_OWNER = "controller.pid"
_HINT = "write it plainly, or put the option into ~/.ssh/config"
_SWITCHES = {
    "-4": "AddressFamily inet",
    "-6": "AddressFamily inet6",
    "-A": "ForwardAgent yes",
    "-a": "ForwardAgent no",
    "-C": "Compression yes",
    "-q": "LogLevel QUIET",
}
_WITH_VALUE = {
    "-J": "ProxyJump {}",
    "-i": 'IdentityFile "{}"',
    "-l": 'User "{}"',
    "-p": "Port {}",
    "-F": 'Include "{}"',
    "-b": "BindAddress {}",
    "-c": "Ciphers {}",
    "-m": "MACs {}",
}
# First value wins in an ssh configuration, so what stands here cannot be weakened by anybody's file or inventory.
_ENFORCED = """\
# Written by provision for one run.
Host *
    StrictHostKeyChecking yes
    BatchMode yes
    ControlMaster auto
    ControlPath {sockets}/%C
    ControlPersist 60
    ConnectTimeout {timeout}
    ServerAliveInterval 15
    ServerAliveCountMax 4
"""


class Workspace:
    """The files of one run over `hosts`, as a context manager.

    `run` is the id its events carry. `directory` is kept after the run and only receives redacted text; None keeps
    nothing. `runtime` holds sockets, secrets and Ansible's own artifacts, and is removed. `user_config` stands in for
    ~/.ssh/config.
    """

    def __init__(
        self,
        hosts: Collection[Host],
        directory: Path | None = None,
        run: str = "",
        user_config: Path | None = None,
        connect_timeout: int = 10,
    ) -> None:
        self.hosts = tuple(hosts)
        self.directory = directory
        self.run = run
        self.secrets: set[str] = set()
        self._user_config = user_config or Path.home() / ".ssh" / "config"
        self._connect_timeout = connect_timeout
        self._log_lock = threading.Lock()

    def __enter__(self) -> Workspace:
        if not shutil.which("ssh"):
            hint = "apt-get install openssh-client; provision doctor looks at the rest"
            raise refuse("this machine", "has no ssh command", hint)
        config = self._config_text()  # refuses bad input before anything is made
        if self.directory:
            self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.directory.chmod(0o700)
        self.runtime = _runtime_dir()
        self.ssh_config = self.runtime / "ssh_config"
        sockets = self.runtime / "s"
        sockets.mkdir(mode=0o700)
        enforced = _ENFORCED.format(sockets=sockets, timeout=self._connect_timeout)
        self.ssh_config.write_text(enforced + config, encoding="utf-8")
        self.ssh_config.chmod(0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for socket in (self.runtime / "s").iterdir():
            leave = ["ssh", "-F", "/dev/null", "-S", str(socket), "-O", "exit", "--", "master"]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(leave, capture_output=True, timeout=5, check=False)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def hide(self, *secrets: str | None) -> None:
        """From now on no kept text contains these."""
        self.secrets.update(secret for secret in secrets if secret)

    def redact(self, text: str) -> str:
        return redact(text, self.secrets)

    def log(self, text: str) -> None:
        """Append to the run's own log. Never raises: a full disk of the controller must not end a run on a host."""
        if not self.directory:
            return
        path = self.directory / "run.log"
        stamp = time.strftime("%H:%M:%S")
        with self._log_lock, contextlib.suppress(OSError), open(path, "a", opener=_private) as stream:
            stream.writelines(f"{stamp} {line}\n" for line in self.redact(text).splitlines())

    @contextlib.contextmanager
    def secret_pipe(self, secret: str) -> Iterator[Path]:
        """A path that gives `secret` to the first reader and to nobody after; the secret never lies on a disk."""
        path = self.runtime / f"pipe-{os.urandom(4).hex()}"
        os.mkfifo(path, 0o600)

        def feed() -> None:
            with contextlib.suppress(OSError), path.open("w", encoding="utf-8") as stream:
                stream.write(secret)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            yield path
        finally:
            # Nobody may have read it: with this end open the feeder comes to its end, early or late.
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            feeder.join(timeout=1)
            os.close(reader)
            path.unlink(missing_ok=True)

    def _config_text(self) -> str:
        faults: list[Refusal] = []
        blocks = []
        for host in self.hosts:
            try:
                blocks.append(_host_block(host))
            except ProvisionError as error:
                faults += error.refusals
        if faults:
            raise ProvisionError(faults)
        users = [path for path in (self._user_config, Path("/etc/ssh/ssh_config")) if path.is_file()]
        includes = "".join(f'Include "{path}"\n' for path in users)
        return "".join(blocks) + "Match all\n" + includes


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _runtime_dir() -> Path:
    """A fresh 0700 directory whose path is short enough for sockets, in memory where there is such a place.

    What a controller that is killed leaves behind lies there until the next run sweeps it, or this machine goes down.
    """
    wanted = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", tempfile.gettempdir(), "/tmp"]  # noqa: S108  mkdtemp makes it safe
    fit = [base for base in wanted if base and len(base) + len("/provision-12345678") <= _LONGEST_SOCKET_DIR]
    for base in fit:
        if os.access(base, os.W_OK | os.X_OK):
            for place in fit:
                _sweep(Path(place))
            made = Path(tempfile.mkdtemp(prefix="provision-", dir=base))
            (made / _OWNER).write_text(str(os.getpid()), encoding="utf-8")
            return made
    raise refuse("controller", "has no writable directory for sockets", "name a short one in XDG_RUNTIME_DIR")


def _sweep(base: Path) -> None:
    """Remove what killed runs of this user could not: plans and sockets."""
    for mark in base.glob(f"provision-*/{_OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            owner = mark.stat().st_uid
            if owner == os.geteuid() and not Path("/proc", str(int(mark.read_text(encoding="utf-8")))).exists():
                shutil.rmtree(mark.parent, ignore_errors=True)


def _host_block(host: Host) -> str:
    """What the user gave for one host, and nothing more: the rest is the user's own ssh configuration's."""
    lines = [f"Host {_pattern(host)}"]
    if host.address:
        lines.append(f"HostName {_plain(host, host.address, 'address')}")
    if host.port:
        lines.append(f"Port {host.port}")
    if host.user:
        lines.append(f"User {_plain(host, host.user, 'user')}")
    if host.identity_file:
        lines.append(f'IdentityFile "{_printable(host, host.identity_file)}"')
    lines += _from_args(host)
    return "\n    ".join(lines) + "\n"


def _pattern(host: Host) -> str:
    name = _plain(host, host.name, "name")
    if name.startswith(("-", "!")) or any(character in name for character in "*?,#"):
        raise refuse(f"host {name!r}", "is not a host name: ssh would read it as an option or a pattern", _HINT)
    return name


def _plain(host: Host, text: str, what: str) -> str:
    if not text or not text.isprintable() or any(character in text for character in " \"'") or text.startswith("-"):
        raise refuse(f"host {host.name!r}", f"has the {what} {text!r}, which ssh cannot take", _HINT)
    return text


def _printable(host: Host, text: str) -> str:
    if not text.isprintable() or '"' in text:
        raise refuse(f"host {host.name!r}", f"has an ssh option that ssh cannot take: {text!r}", _HINT)
    return text


def _from_args(host: Host) -> list[str]:
    """`ansible_ssh_common_args` as lines of configuration, so that preflight and verification obey them as well."""
    words = list(host.ssh_args)
    if len(words) == 1:
        words = shlex.split(words[0])
    lines = []
    while words:
        word = words.pop(0)
        flag, value = word[:2], word[2:]
        if flag in _SWITCHES and not value:
            lines.append(_SWITCHES[flag])
            continue
        if flag not in _WITH_VALUE and flag != "-o":
            raise refuse(f"host {host.name!r}", f"has the ssh argument {word!r}, which provision cannot share", _HINT)
        if not value and not words:
            raise refuse(f"host {host.name!r}", f"has the ssh argument {word!r} without its value", _HINT)
        value = value or words.pop(0)
        if not value.isprintable():
            raise refuse(f"host {host.name!r}", f"has an ssh argument that ssh cannot take: {value!r}", _HINT)
        # The text after -o is a line of configuration already, quotes included.
        lines.append(value if flag == "-o" else _WITH_VALUE[flag].format(_printable(host, value)))
    return lines
