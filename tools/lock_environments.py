#!/usr/bin/env python3
"""Write the hashed requirement locks of the roles: `python tools/lock_environments.py`.

Each `*.in` beside a lock is what people write; `uv pip compile` turns it into the `*.txt` that hosts install with
`--require-hashes`. A lock is universal: it lists the hashes of every wheel of a version, so that one file serves each
Python and architecture it names. Its first line says from which Python on, and what an environment of it was measured
to take: `# CPython 3.10 and newer; 950 MB installed`. Arguments are passed on to uv (`--find-links DIR`, `--upgrade`).

A wheel that only PyTorch's own index publishes (`+cpu`) is pinned by `wheels.sha256`, a plain sha256sum listing. What
uv finds of such a wheel, in a folder or on the index, has to be in that listing, or nothing is written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROLES = Path(__file__).resolve().parent.parent / "roles"
OLDEST_PYTHON = re.compile(r"# CPython (3\.[0-9]+) and newer")
INSTALLED = re.compile(r"[0-9]+ MB installed")
HASH = re.compile(r"sha256:([0-9a-f]{64})")


def listed_wheels(listing: Path) -> dict[str, dict[str, str]]:
    """`name==version` -> wheel file name -> SHA-256, of a sha256sum listing."""
    wheels: dict[str, dict[str, str]] = {}
    for line in listing.read_text().splitlines() if listing.exists() else []:
        if line and not line.startswith("#"):
            digest, wheel = line.split()
            name, version = wheel.split("-")[:2]
            wheels.setdefault(f"{name}=={version}", {})[wheel] = digest
    return wheels


def compiled(source: Path, arguments: list[str]) -> str:
    """What uv resolves for that input, hashes included; without `--upgrade` the former lock's versions are kept."""
    lock = source.with_suffix(".txt")
    oldest = OLDEST_PYTHON.match(source.read_text())
    if oldest is None:
        raise ValueError("its first line does not say from which Python on: # CPython 3.11 and newer")
    command = ["uv", "pip", "compile", str(source), "--output-file", str(lock), "--universal", "--generate-hashes"]
    command += ["--python-version", oldest[1], "--fork-strategy", "fewest", "--index-strategy", "unsafe-best-match"]
    command += ["--no-build", "--no-header", "--no-annotate", "--no-emit-find-links", "--quiet", *arguments]
    former = lock.read_text() if lock.exists() else None
    try:
        subprocess.run(command, check=True)
        return lock.read_text()
    finally:
        # uv reads its preferences from the output file; the lock itself is replaced only once it is complete.
        if former is not None:
            lock.write_text(former)


def with_listed_hashes(text: str, wheels: dict[str, dict[str, str]]) -> str:
    """The lock with every listed hash of the pins that `wheels` knows.

    Raises:
        ValueError: a pin with a local version has no listing, or uv saw a hash that the listing lacks.
    """
    blocks = re.split(r"\n(?=\S)", text.rstrip("\n"))
    for position, block in enumerate(blocks):
        pin = block.split()[0]
        if "+" not in pin:
            continue
        listed = sorted(wheels.get(pin, {}).values())
        unknown = sorted(set(HASH.findall(block)) - set(listed))
        if not listed or unknown:
            raise ValueError(f"{pin}: wheels.sha256 does not list {', '.join(unknown) or 'any wheel of it'}")
        blocks[position] = " \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in listed)])
    return "\n".join(blocks) + "\n"


def main(arguments: list[str]) -> int:
    for source in sorted(ROLES.glob("*/files/**/*.in")):
        wheels = listed_wheels(source.parent / "wheels.sha256")
        try:
            text = with_listed_hashes(compiled(source, arguments), wheels)
        except (ValueError, subprocess.CalledProcessError) as fault:
            print(f"{source}: not locked: {fault}", file=sys.stderr)
            return 1
        place = os.path.relpath(source.with_suffix(".txt"), ROLES.parent)
        size = INSTALLED.search(source.read_text())
        head = f"# Locked by tools/lock_environments.py from {source.name}. Do not edit.\n"
        head += f"# {size[0]}\n" if size else ""  # the hosts' module reads it
        source.with_suffix(".txt").write_text(head + text)
        print(f"{place}: {len(re.findall(r'^[a-z0-9]', text, re.MULTILINE))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
