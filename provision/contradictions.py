"""Settings that are each well-formed and cannot be had together, or not on this box. Pure."""

from __future__ import annotations

import itertools
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

_DIRECTORIES = ("docker_data_root", "docker_containerd_root", "model_cache_root")
_SHARED = ("/", "/etc", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/var")  # noqa: S108  they are refused


def of_settings(settings: Mapping[str, Any]) -> list[Contradiction]:
    """What contradicts itself on any host."""
    return [*_directories(settings), *_environments(settings), *_models(settings)]


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
        elif path and (path.rstrip("/") or "/") in _SHARED:
            hint = f"name one of its own, such as {path.rstrip('/')}/own"
            yield name, f"is a directory that others use: {path}", hint
    for name, other in itertools.combinations(_DIRECTORIES, 2):
        path = settings.get(name)
        if path and path == settings.get(other):
            yield other, f"is the same directory as {name}: {path}", "give each a directory of its own"


def _environments(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    name = "python_ml_environments"
    names = [environment["name"] for environment in settings.get(name) or ()]
    for twice in [each for each, count in Counter(names).items() if count > 1]:
        yield name, f"has two environments named {twice}", "rename one of them"
    for wrong in [each for each in names if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", each)]:
        hint = "use lower case letters, digits, dashes and underscores"
        yield name, f"has an environment whose name no directory should have: {wrong!r}", hint


def _models(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    """A manifest pins everything: what could change by itself is not proved by a checksum of yesterday."""
    name = "model_cache_models"
    if settings.get("model_cache_user") == "root":
        yield "model_cache_user", "is root, and models are not downloaded as root", "name a service account"
    for model in settings.get(name) or ():
        repo, revision, files = model["repo"], model["revision"], model["files"]
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo) or "--" in repo or ".." in repo:
            yield name, f"has a repository that is no name: {repo!r}", "write owner/name"
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            yield name, f"has {repo} at {revision}, which can move", "give the full commit hash, 40 hexadecimal digits"
        if not files:
            yield name, f"pins no file of {repo}", "give the SHA-256 of at least one under files"
        for path, digest in files.items():
            if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
                yield name, f"has no SHA-256 for {path} of {repo}: {digest}", "give 64 small hexadecimal digits"
            if path.startswith("/") or ".." in PurePosixPath(path).parts:
                yield name, f"has a path that leads out of {repo}: {path}", "name a path inside the repository"
    pins = Counter((model["repo"], model["revision"]) for model in settings.get(name) or ())
    for repo, revision in [each for each, count in pins.items() if count > 1]:
        yield name, f"names {repo} at {revision} twice", "keep one of the two"


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
        fact = f"{what}; the lock of torch {build.version} covers {covered}"
        yield "python_ml_python", fact, f"use {catalog.managed_python}"
