"""Root file systems as tar archives, made once and built upon each other: a machine's is a container's and more."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provision.errors import refuse
from provision.lab import mirrors, paths
from provision.lab.steps import step
from provision.lab.system import APT_GET, locked, require, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MEMINFO = Path("/proc/meminfo")
# Archives only save making the same root again for the next image; a day later their packages are old.
KEPT_SECONDS = 24 * 3600
# dpkg waits for the disk at every file; in memory it does not. What the largest root takes, twice over.
MEMORY_KIB = 5 << 20
IN_MEMORY = 'mount -t tmpfs tmpfs "$0" && TMPDIR=$0 exec "$@"'


@dataclass(frozen=True)
class Root:
    """One root: packages over those of its base, and scripts that run in it by mmdebstrap's name of the stage."""

    name: str
    codename: str
    packages: tuple[str, ...]
    base: Root | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    lists: bool = False  # whether what a script leaves of apt's lists and cache stays


def folder() -> Path:
    """The folder of the archives; safe to delete at any time."""
    return paths.cache_root() / "roots"


def recipe(root: Root) -> str:
    """Twelve hexadecimal digits that change whenever anything that goes into the root changes."""
    base = recipe(root.base) if root.base else ""
    parts = [root.name, root.codename, root.packages, base, sorted(root.scripts.items()), root.lists]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def ensure(root: Root) -> Path:
    """The archive of a root, made (half a minute) when there is none of today."""
    archive = folder() / f"{root.name}-{recipe(root)}.tar"
    with locked(folder() / f"{root.name}.lock"):
        if archive.exists() and time.time() - archive.stat().st_mtime < KEPT_SECONDS:
            return archive
        for older in folder().glob(f"{root.name}-{'?' * 12}.tar"):
            older.unlink()
        draft = archive.with_name(f".{root.name}.tar")
        try:
            base = ensure(root.base) if root.base else None
            with step(f"packages of {root.name}"):
                _make(root, base, draft)
            draft.rename(archive)
        finally:
            draft.unlink(missing_ok=True)
    return archive


def discard() -> None:
    """Remove the archives that nobody makes or reads now."""
    for archive in folder().glob("*.tar"):
        with locked(folder() / f"{archive.name.rpartition('-')[0]}.lock"):
            archive.unlink(missing_ok=True)


def unpack(root: Root, place: Path) -> None:
    """Unpack a root's packages into a folder, none of them configured: for programs that are run from there."""
    archive = place.with_suffix(".tar")
    place.mkdir(parents=True)
    try:
        argv = [*_mmdebstrap(root), "--variant=extract", root.codename, str(archive), *_sources(root.codename)]
        run(argv, timeout=600)
        run(["tar", "--no-same-owner", "--exclude=./dev/*", "-xf", str(archive), "-C", str(place)], timeout=300)
    finally:
        archive.unlink(missing_ok=True)


def _mmdebstrap(root: Root) -> list[str]:
    """The first words of the command that makes a root."""
    require("mmdebstrap")
    options = [f"--aptopt={line}" for line in mirrors.apt_options()]
    return ["mmdebstrap", "--quiet", f"--include={','.join(root.packages)}", *options]


def _sources(codename: str) -> list[str]:
    """Where the packages of a release come from, as one-line entries."""
    return mirrors.one_line_sources(mirrors.apt_sources(codename)) or _public_sources(codename)


def _make(root: Root, base: Path | None, archive: Path) -> None:
    """Write one root, over the archive of its base where it has one."""
    options = [f"--chrooted-{stage}-hook=set -eu\n{script}" for stage, script in root.scripts.items()]
    if base is None:
        options += ["--variant=minbase"]
    else:
        options += ["--variant=custom", "--skip=download,extract", f"--setup-hook={_laid(base)}"]
    if root.lists:
        options += ["--skip=cleanup/apt/lists,cleanup/apt/cache"]
    argv = [*_mmdebstrap(root), *options]
    workplace = archive.with_suffix(".work")
    workplace.mkdir(parents=True, exist_ok=True)
    try:
        run(in_memory(workplace, [*argv, root.codename, str(archive), *_sources(root.codename)]), timeout=900)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _laid(base: Path) -> str:
    """The hook that lays the base into the new root.

    mmdebstrap's own feeds tar through a pipe and fails where tar, having seen the archive's end, does not wait for the
    padding behind it. Only an ordinary user needs it: his archives are closed to the users that he maps.
    """
    if os.geteuid() != 0:
        return f"tar-in {shlex.quote(str(base))} /"
    return f'tar --numeric-owner --xattrs --xattrs-include="*" -xf {shlex.quote(str(base))} -C "$1"'


def in_memory(workplace: Path, argv: Sequence[str]) -> list[str]:
    """The command with its temporary folder in memory, where there is plenty and root may mount it."""
    if os.geteuid() != 0 or _available_kib() < MEMORY_KIB:
        return list(argv)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", IN_MEMORY, str(workplace), *argv]


def _available_kib() -> int:
    """How much memory this machine could give now, in KiB."""
    words = next((line.split() for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:")), [])
    return int(words[1]) if words else 0


def _public_sources(codename: str) -> list[str]:
    """Debian's own archive, for a controller that has no sources of the release, as Ubuntu has none."""
    if not KEYRING.exists():
        hint = f"run: {APT_GET} debian-archive-keyring"
        raise refuse("this machine", f"lacks {KEYRING}, with which Debian's packages are verified", hint)
    signed = f"deb [signed-by={KEYRING}]"
    return [
        f"{signed} http://deb.debian.org/debian {codename} main",
        f"{signed} http://deb.debian.org/debian-security {codename}-security main",
    ]
