"""A signed apt repository on a real socket: real .deb files, real indexes, a throwaway key.

It stands in for a third party's repository where that one is not reached; whatever shows its results says so.
In a test:

    key = SigningKey()
    tree = Repository(folder / "docker" / "ubuntu", key, suite="jammy", component="stable")
    tree.add(Package("docker-ce", "5:29.1.0-1", depends="containerd.io", files={"/usr/bin/dockerd": Path("dockerd")}))
    tree.publish()
    with Server(folder) as server:
        server.url_for(target_address)  # http://ADDRESS:PORT, as that target reaches it
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Package:
    """A package to be built. `files` are texts or files of this machine by absolute path on the host.

    `scripts` are maintainer scripts by name (`postinst`); `fields` are further control fields (`Conflicts`).
    """

    name: str
    version: str
    depends: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | Path] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    architecture: str = "amd64"

    def build(self, folder: Path) -> Path:
        """Write the .deb into `folder` with dpkg-deb."""
        upstream = self.version.split(":", 1)[-1]
        deb = folder / f"{self.name}_{upstream}_{self.architecture}.deb"
        with tempfile.TemporaryDirectory(dir=folder) as stage:
            root = Path(stage) / "root"
            for place, content in self.files.items():
                _install(root / place.lstrip("/"), content)
            self._write_control(root / "DEBIAN")
            # Uncompressed: it lives for one test and never leaves this machine.
            _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(deb))
        return deb

    def _write_control(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True)
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "provision tests <nobody@example.invalid>",
            **({"Depends": self.depends} if self.depends else {}),
            **self.fields,
            "Description": f"stand-in for {self.name}",
        }
        (folder / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
        if self.conffiles:
            (folder / "conffiles").write_text("".join(f"{path}\n" for path in self.conffiles))
        for name, text in self.scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)


class SigningKey:
    """A throwaway key in a gpg home of its own. A home's path must be short: gpg's socket lies in it."""

    def __init__(self, name: str = "stand-in") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="key-"))
        self.home.chmod(0o700)
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

    def remove(self) -> None:
        """End the key's agent and delete its home."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, timeout=LIMIT_SECONDS)
        shutil.rmtree(self.home, ignore_errors=True)

    def _gpg(self, *words: str) -> str:
        options = ["--homedir", str(self.home), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
        return _run("gpg", *options, *words)


@dataclass
class Repository:
    """One suite of a repository under `root`: `pool/`, `dists/SUITE/`, and its key as `gpg`."""

    root: Path
    key: SigningKey
    suite: str
    component: str = "main"
    architecture: str = "amd64"

    def __post_init__(self) -> None:
        self.pool = self.root / "pool"
        self.pool.mkdir(parents=True, exist_ok=True)

    def add(self, package: Package) -> Path:
        """Build a package into the pool; `publish` makes it known."""
        return package.build(self.pool)

    def publish(self, signer: SigningKey | None = None) -> None:
        """Write indexes and InRelease. Another `signer` than the published key makes a signature apt refuses."""
        dists = self.root / "dists" / self.suite
        binary = dists / self.component / f"binary-{self.architecture}"
        binary.mkdir(parents=True, exist_ok=True)
        index = "\n".join(self._stanza(deb) for deb in sorted(self.pool.glob("*.deb"))).encode()
        (binary / "Packages").write_bytes(index)
        (binary / "Packages.gz").write_bytes(gzip.compress(index, mtime=0))
        (dists / "Release").write_text(self._release(dists))
        (signer or self.key).sign(dists / "Release", dists / "InRelease")
        (self.root / "gpg").write_text(self.key.public)

    def _stanza(self, deb: Path) -> str:
        content = deb.read_bytes()
        control = _run("dpkg-deb", "--field", str(deb))
        place = deb.relative_to(self.root)
        digest = hashlib.sha256(content).hexdigest()
        return f"{control}Filename: {place}\nSize: {len(content)}\nSHA256: {digest}\n"

    def _release(self, dists: Path) -> str:
        files = sorted(path for path in dists.rglob("Packages*") if path.is_file())
        sums = [
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(dists)}\n"
            for path in files
        ]
        return (
            f"Origin: stand-in\nLabel: stand-in\nSuite: {self.suite}\nCodename: {self.suite}\n"
            f"Date: {formatdate(usegmt=True)}\nArchitectures: {self.architecture}\n"
            f"Components: {self.component}\nSHA256:\n{''.join(sums)}"
        )


class Server:
    """Serve a folder over HTTP on every address of this machine, until the `with` block ends."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("0.0.0.0", port), partial(_Quiet, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url_for(self, address: str) -> str:
        """The server's URL as a machine at `address` reaches it: this machine's address on the way there."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return f"http://{probe.getsockname()[0]}:{self.port}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are no test output."""


def _install(place: Path, content: str | Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copy(content, place)
        return
    place.write_text(content)
    place.chmod(0o755 if content.startswith("#!") else 0o644)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout
