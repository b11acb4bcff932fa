"""Facts as data: what a host may run, which builds are locked, where things come from, and the tiers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import yaml

from provision import content
from provision.catalog.loader import load_tier, tiers
from provision.settings import Registry, load_registry

__all__ = ["Catalog", "Distribution", "TorchBuild", "load_catalog", "load_tier", "tiers"]


@dataclass(frozen=True)
class Distribution:
    """A supported operating system; `python` is its own interpreter's major.minor."""

    id: str
    version: str
    codename: str
    python: str
    note: str


@dataclass(frozen=True)
class TorchBuild:
    """A locked build of torch and the interpreters that its hashes cover."""

    backend: str
    version: str
    pythons: tuple[str, ...]
    gpu: bool


@dataclass(frozen=True)
class Catalog:
    """Everything `resolve` knows besides the box, the tier and the user's settings."""

    settings: Registry
    distributions: tuple[Distribution, ...]
    architectures: tuple[str, ...]
    torch: tuple[TorchBuild, ...]
    managed_python: str


@functools.cache
def load_catalog() -> Catalog:
    """Read the catalogue's files; they ship with the package and are proved by its tests."""
    systems = _read("distributions.yml")
    frameworks = _read("frameworks.yml")
    return Catalog(
        settings=load_registry(),
        distributions=tuple(Distribution(**entry) for entry in systems["distributions"]),
        architectures=tuple(systems["architectures"]),
        torch=tuple(TorchBuild(**{**entry, "pythons": tuple(entry["pythons"])}) for entry in frameworks["torch"]),
        managed_python=frameworks["managed_python"],
    )


def _read(name: str) -> Any:
    text = (content.catalog_dir() / name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=yaml.CSafeLoader)
