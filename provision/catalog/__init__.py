"""Facts as data: what a host may run, which builds are locked, where things come from, and the tiers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from provision.catalog.loader import load_tier, tiers
from provision.catalog.nvidia import Nvidia
from provision.catalog.nvidia_loader import load_nvidia, read, with_tuples
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
    """A locked build of torch and the interpreters that its hashes cover.

    `cuda`: the CUDA release it was built with, empty for the CPU; `capabilities`: the compute capabilities that it has
    machine code for, none for the CPU. A card runs code of its own major capability and of the same or a lesser minor.
    """

    backend: str
    version: str
    pythons: tuple[str, ...]
    gpu: bool
    cuda: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """Everything `resolve` knows besides the box, the tier and the user's settings."""

    settings: Registry
    distributions: tuple[Distribution, ...]
    architectures: tuple[str, ...]
    torch: tuple[TorchBuild, ...]
    managed_python: str
    nvidia: Nvidia


@functools.cache
def load_catalog() -> Catalog:
    """Read the catalogue's files; they ship with the package and are proved by its tests."""
    systems = read("distributions.yml")
    frameworks = read("frameworks.yml")
    return Catalog(
        settings=load_registry(),
        distributions=tuple(Distribution(**entry) for entry in systems["distributions"]),
        architectures=tuple(systems["architectures"]),
        torch=tuple(TorchBuild(**with_tuples(entry)) for entry in frameworks["torch"]),
        managed_python=frameworks["managed_python"],
        nvidia=load_nvidia(),
    )
