"""The QEMU that emulates: this machine's own where it is new enough, else a newer one in a folder of its own.

Between 7.2 and 10.0 emulation became nearly twice as quick for what a guest does here (processes that start and end).
Nothing is installed: the packages are Debian's, verified as for a target's root, and run by their own dynamic loader.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

from provision.errors import ProvisionError
from provision.lab import paths, roots
from provision.lab.steps import step
from provision.lab.system import attempt, locked

PROGRAM = "qemu-system-x86_64"
QUICK = 10  # the major version from which on this machine's own is taken
CODENAME = "trixie"
PACKAGES = ("qemu-system-x86",)
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")


def program() -> list[str]:
    """The words that start QEMU. A newer one is fetched (a quarter of a minute) where this machine's own is slow."""
    if own_version() >= QUICK:
        return [PROGRAM]
    return list(_newer(paths.cache_root() / "qemu")) or [PROGRAM]


def own_version() -> int:
    """The major version of this machine's QEMU; 0 where it has none."""
    found = re.search(r"version (\d+)\.", attempt([PROGRAM, "--version"], timeout=20)[1])
    return int(found[1]) if found else 0


@cache
def _newer(folder: Path) -> tuple[str, ...]:
    """The words that start the newer one; none where its packages cannot be had: this machine's own does as well."""
    root = roots.Root("qemu", CODENAME, PACKAGES)
    place = folder / roots.recipe(root)
    with locked(folder.with_name("qemu.lock")):
        if not place.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            draft = folder / "draft"
            try:
                with step("a quicker QEMU"):
                    roots.unpack(root, draft)
            except ProvisionError:
                shutil.rmtree(draft, ignore_errors=True)
                return ()
            draft.rename(place)
    libraries = sorted({str(file.parent) for file in (place / "usr/lib/x86_64-linux-gnu").rglob("*.so*")})
    firmware = [word for name in FIRMWARE for word in ("-L", str(place / name))]
    start = (str(place / LOADER), "--library-path", ":".join(libraries), str(place / "usr/bin" / PROGRAM))
    return (*start, *firmware)
