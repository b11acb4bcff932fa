"""Settings that are each well-formed and cannot be had together, or not on this box. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from provision import comparison
from provision.catalog import Catalog
from provision.model import Hardware

Contradiction = tuple[str, str, str]
"""The setting, the fact, the hint."""

_DIRECTORIES = ("docker_data_root", "docker_containerd_root")  # empty is Docker's own choice


def of_settings(settings: Mapping[str, Any]) -> list[Contradiction]:
    """What contradicts itself on any host."""
    return [*_directories(settings), *_environments(settings)]


def of_host(
    settings: Mapping[str, Any], roles: Sequence[str], hardware: Hardware, catalog: Catalog
) -> list[Contradiction]:
    """What this box cannot have; roles that are not applied do not matter."""
    return [*_frameworks(settings, hardware, catalog)] if "python_ml" in roles else []


def _directories(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    for name in _DIRECTORIES:
        path = settings.get(name) or ""
        if path and not path.startswith("/"):
            yield name, f"is not an absolute path: {path}", "begin it with a slash"
        elif ".." in PurePosixPath(path).parts:
            yield name, f"climbs with ..: {path}", "write the path out"
    one, other = (settings.get(name) for name in _DIRECTORIES)
    if one and one == other:
        hint = "give each a directory of its own"
        yield _DIRECTORIES[1], f"is the same directory as {_DIRECTORIES[0]}: {other}", hint


def _environments(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    name = "python_ml_environments"
    names = [environment["name"] for environment in settings.get(name) or ()]
    for twice in [each for each, count in Counter(names).items() if count > 1]:
        yield name, f"has two environments named {twice}", "rename one of them"
    for wrong in [each for each in names if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", each)]:
        hint = "use lower case letters, digits, dashes and underscores"
        yield name, f"has an environment whose name no directory should have: {wrong!r}", hint


def _frameworks(settings: Mapping[str, Any], hardware: Hardware, catalog: Catalog) -> Iterator[Contradiction]:
    name = "python_ml_torch_backend"
    backend, python = settings[name], settings["python_ml_python"]
    build = next((build for build in catalog.torch if build.backend == backend), None)
    if build is None:
        locked = ", ".join(build.backend for build in catalog.torch)
        yield name, f"is {backend}, for which no build is locked", f"use {locked}"
        return
    if build.gpu and not comparison.nvidia(hardware):
        yield name, f"is {backend}, and the host has no NVIDIA GPU", "leave it out: the plan then takes the CPU build"
    version = comparison.system_python(hardware.os, catalog) if python == "system" else python
    if version not in build.pythons:
        what = f"is system, and the system's Python is {version}" if python == "system" else f"is {version}"
        covered = ", ".join(build.pythons)
        yield "python_ml_python", f"{what}; the lock of torch {build.version} covers {covered}", "leave it out"
