"""Keys and files of the lab: written whole, readable by their owner alone."""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Mapping
from pathlib import Path

from provision.lab import paths
from provision.lab.system import locked, run

USERS = {"admin": 1000, "needpass": 1001, "nosudo": 1002}


def write_private(file: Path, text: str) -> None:
    """Write a file with mode 0600, never leaving half of it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)


def shared_secrets() -> tuple[Path, Path]:
    """The lab's login key and the file with the password of `needpass`, the same for all targets."""
    with locked(paths.state_root() / "locks" / "keys.lock"):
        return client_key(), password_file()


def client_key() -> Path:
    """The lab's own login key, made at the first use. The caller holds the lab lock."""
    key = paths.state_root() / "id_ed25519"
    return key if key.exists() else make_key(key, "provision-lab")


def password_file() -> Path:
    """The file with the sudo password of the user `needpass`, made at the first use. The caller holds the lab lock."""
    file = paths.state_root() / "needpass.password"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(18) + "\n")
    return file


def make_key(file: Path, comment: str) -> Path:
    """Make an ed25519 key pair without a passphrase in place of any earlier one."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in (file, public(file)):
        old.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)], timeout=20)
    return file


def public(file: Path) -> Path:
    """The public half of a key."""
    return file.with_name(f"{file.name}.pub")


def known_hosts_line(address: str, port: int, host_key: Path) -> str:
    """The known_hosts entry of a target, made from the key that was put into it."""
    kind, key = public(host_key).read_text().split()[:2]
    where = address if port == 22 else f"[{address}]:{port}"
    return f"{where} {kind} {key}\n"


def identity_archive(host_key: Path, login_key: Path, texts: Mapping[str, str] | None = None) -> bytes:
    """A tar archive, relative to /, of what gives a target its identity and lets the lab in, and of more files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "etc/ssh/ssh_host_ed25519_key", host_key.read_bytes(), 0o600, 0)
        _add(archive, "etc/ssh/ssh_host_ed25519_key.pub", public(host_key).read_bytes(), 0o644, 0)
        for user, uid in USERS.items():
            folder = tarfile.TarInfo(f"home/{user}/.ssh")
            folder.type, folder.mode, folder.uid, folder.gid = (tarfile.DIRTYPE, 0o700, uid, uid)
            archive.addfile(folder)
            _add(archive, f"home/{user}/.ssh/authorized_keys", public(login_key).read_bytes(), 0o600, uid)
        for name, text in (texts or {}).items():
            _add(archive, name, text.encode(), 0o755 if text.startswith("#!") else 0o644, 0)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int, owner: int) -> None:
    """Append one regular file owned by `owner`."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.uid, member.gid = len(data), mode, owner, owner
    archive.addfile(member, io.BytesIO(data))
