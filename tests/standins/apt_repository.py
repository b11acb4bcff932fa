"""A signed apt repository on a real socket: real .deb files, real indexes, a throwaway key.

It stands in for a third party's repository where that one is not reached; whatever shows its results says so.
In a test:

    key = SigningKey()
    tree = Repository(folder / "docker" / "ubuntu", key, suite="jammy", component="stable")
    tree.add(Package("docker-ce", "5:29.1.0-1", depends="containerd.io", files={"/usr/bin/dockerd": Path("dockerd")}))
    tree.publish()
    with Server(folder) as server:
        server.url_for(target_address)  # http://ADDRESS:PORT, as that target reaches it

Suite `/` is the flat layout of NVIDIA's repositories: indexes and packages in one folder, and no components.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType

LIMIT_SECONDS = 120
FLAT = "/"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Link:
    """A symbolic link as a package's file."""

    target: str


Content = str | bytes | Path | Link


@dataclass(frozen=True)
class Package:
    """A package to be built. `files` are texts, bytes, links or files of this machine by absolute path on the host.

    `scripts` are maintainer scripts by name (`postinst`); `fields` are further control fields (`Conflicts`).
    """

    name: str
    version: str
    depends: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Content] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    architecture: str = "amd64"

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"

    @property
    def control(self) -> str:
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "provision tests <nobody@example.invalid>",
            **({"Depends": self.depends} if self.depends else {}),
            **self.fields,
            "Description": f"stand-in for {self.name}",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())

    def build(self) -> bytes:
        """The .deb. Uncompressed: it lives for one test and never leaves this machine."""
        control: dict[str, Content] = {"control": self.control, **self.scripts}
        if self.conffiles:
            control["conffiles"] = "".join(f"{path}\n" for path in self.conffiles)
        data = {path.lstrip("/"): content for path, content in self.files.items()}
        members = (("debian-binary", b"2.0\n"), ("control.tar", _tar(control)), ("data.tar", _tar(data)))
        return b"!<arch>\n" + b"".join(_ar_member(name, content) for name, content in members)


class SigningKey:
    """A throwaway key in a gpg home of its own. A home's path must be short: gpg's socket lies in it."""

    def __init__(self, name: str = "stand-in") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="key-"))
        # An agent that gpg starts by itself outlives a run that is killed. One with a command to serve ends soon after
        # it, and this command ends with the pipe that this process holds.
        serve = ["gpg-agent", "--homedir", str(self.home), "--quiet", "--daemon", "--", "sh", "-c", "echo ready; cat"]
        agent = subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        weakref.finalize(self, _end, agent, self.home)
        assert agent.stdout is not None
        assert agent.stdout.readline(), "gpg-agent does not start"
        self._gpg("--quick-generate-key", f"{name} <nobody@example.invalid>", "ed25519", "sign", "never")
        rows = self._gpg("--with-colons", "--list-keys").splitlines()
        self.fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))

    @property
    def public(self) -> str:
        """The public key, ASCII-armored."""
        return self._gpg("--armor", "--export", self.fingerprint)

    def sign(self, path: Path, signed: Path) -> None:
        """Write `path` with its signature around it, as InRelease is."""
        self._gpg("--local-user", self.fingerprint, "--output", str(signed), "--clearsign", str(path))

    def _gpg(self, *words: str) -> str:
        options = ["--homedir", str(self.home), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
        return _run("gpg", *options, *words)


def _end(agent: subprocess.Popen[bytes], home: Path) -> None:
    """End an agent's command and take its home, whose sockets the agent may be removing at this moment."""
    agent.communicate(timeout=LIMIT_SECONDS)
    shutil.rmtree(home, ignore_errors=True)


@dataclass
class Repository:
    """One suite of a repository under `root`, and its key as `key_name`.

    `origin` and `label` are what preferences and unattended upgrades go by.
    """

    root: Path
    key: SigningKey
    suite: str
    component: str = "main"
    architecture: str = "amd64"
    origin: str = "stand-in"
    label: str = "stand-in"
    key_name: str = "gpg"

    def __post_init__(self) -> None:
        flat = self.suite == FLAT
        self.dists = self.root if flat else self.root / "dists" / self.suite
        self.index = self.dists if flat else self.dists / self.component / f"binary-{self.architecture}"
        self.pool = self.root if flat else self.root / "pool"
        self._stanzas: dict[Path, str] = {}

    def add(self, package: Package) -> Path:
        """Build a package into the pool; `publish` makes it known."""
        self.pool.mkdir(parents=True, exist_ok=True)
        content, deb = package.build(), self.pool / package.file_name
        deb.write_bytes(content)
        place = f"./{deb.name}" if self.suite == FLAT else str(deb.relative_to(self.root))
        sums = f"Filename: {place}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        self._stanzas[deb] = package.control + sums
        return deb

    def add_all(self, packages: Iterable[Package]) -> None:
        for package in packages:
            self.add(package)

    def withdraw(self, pattern: str) -> None:
        """Take packages by file name out of index and pool, as an archive does with what a newer version replaced."""
        for deb in [deb for deb in self._stanzas if fnmatchcase(deb.name, pattern)]:
            del self._stanzas[deb]
            deb.unlink()

    def publish(self, signer: SigningKey | None = None, age_days: float = 0, valid_days: float | None = None) -> None:
        """Write indexes and InRelease. Another `signer` than the published key makes a signature apt refuses.

        `age_days` dates it back; `valid_days`, from that date on, says until when it may be believed.
        """
        self.index.mkdir(parents=True, exist_ok=True)
        index = "\n".join(self._stanzas[deb] for deb in sorted(self._stanzas)).encode()
        (self.index / "Packages").write_bytes(index)
        (self.index / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
        date = time.time() - age_days * DAY_SECONDS
        until = "" if valid_days is None else f"Valid-Until: {_date(date + valid_days * DAY_SECONDS)}\n"
        (self.dists / "Release").write_text(self._release(f"Date: {_date(date)}\n{until}"))
        (signer or self.key).sign(self.dists / "Release", self.dists / "InRelease")
        (self.root / self.key_name).write_text(self.key.public)

    def go_stale(self) -> None:
        """Leave the signed list of sums as it is and alter the index it speaks of, as a mirror caught in mid-sync."""
        for name in ("Packages", "Packages.gz"):
            path = self.index / name
            path.write_bytes(path.read_bytes() + b"\n")

    def _release(self, dates: str) -> str:
        files = [self.index / name for name in ("Packages", "Packages.gz")]
        sums = [
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(self.dists)}\n"
            for path in files
        ]
        names = f"Origin: {self.origin}\nLabel: {self.label}\n"
        if self.suite != FLAT:
            names += f"Suite: {self.suite}\nCodename: {self.suite}\nComponents: {self.component}\n"
        return f"{names}{dates}Architectures: {self.architecture}\nSHA256:\n{''.join(sums)}"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request: `status` answers with that error, `cut_after` hangs up after so many bytes."""

    status: int | None = None
    cut_after: int | None = None


class Server:
    """Serve a folder over HTTP on every address of this machine, until the `with` block ends."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._faults: dict[str, Fault] = {}
        handler = partial(_Handler, faults=self._faults, directory=str(folder))
        self._server = ThreadingHTTPServer(("0.0.0.0", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url_for(self, address: str) -> str:
        """The server's URL as a machine at `address` reaches it: this machine's address on the way there."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return f"http://{probe.getsockname()[0]}:{self.port}"

    def misbehave(self, pattern: str, fault: Fault) -> None:
        """Let every request whose path matches fail until `behave`: `*.deb`, `/cuda/*/InRelease`."""
        self._faults[pattern] = fault

    def behave(self) -> None:
        self._faults.clear()

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: object, faults: Mapping[str, Fault], directory: str) -> None:
        self.faults = faults
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        # Times are whole seconds: what is published twice within one would be taken for unchanged.
        del self.headers["If-Modified-Since"]
        fault = next((fault for pattern, fault in self.faults.items() if fnmatchcase(self.path, pattern)), Fault())
        if fault.status:
            self.send_error(HTTPStatus(fault.status))
        elif fault.cut_after is not None:
            self.send_cut(fault.cut_after)
        else:
            super().do_GET()

    def send_cut(self, length: int) -> None:
        """Announce the whole file, send its beginning and hang up."""
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:length])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no test output."""


def _tar(files: Mapping[str, Content]) -> bytes:
    """A tar archive of these files, their folders before them, all of root's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folders = {str(folder) for name in files for folder in PurePosixPath(name).parents}
        for folder in sorted(folders | {"."}):
            entry = tarfile.TarInfo("./" if folder == "." else f"./{folder}/")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"./{name}")
            body = b""
            if isinstance(content, Link):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.target
            else:
                body, entry.mode = _body(content)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return stream.getvalue()


def _body(content: str | bytes | Path) -> tuple[bytes, int]:
    """A file's bytes and mode: a text that begins as a script does is executable."""
    if isinstance(content, Path):
        return content.read_bytes(), content.stat().st_mode & 0o777
    body = content.encode() if isinstance(content, str) else content
    return body, 0o755 if body.startswith(b"#!") else 0o644


def _ar_member(name: str, content: bytes) -> bytes:
    """One member of a .deb, which is an ar archive, with its padding."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def _date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout
