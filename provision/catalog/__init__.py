"""Facts as data: what a host may run, which builds are locked, where things come from, and the tiers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from provision.catalog.loader import load_tier, tiers
from provision.catalog.nvidia import Nvidia
from provision.catalog.nvidia_loader import load_nvidia, made, read
from provision.settings import Registry, load_registry

__all__ = ["Build", "Catalog", "Distribution", "load_catalog", "load_tier", "tiers"]

FRAMEWORKS = ("torch", "tensorflow", "openvino", "vllm")


@dataclass(frozen=True)
class Distribution:
    """A supported operating system; `python` is its own interpreter's major.minor."""

    id: str
    version: str
    codename: str
    python: str
    note: str


@dataclass(frozen=True)
class Build:
    """A build of a framework, and the interpreters that its lock's hashes cover.

    `cuda`: the CUDA release it brings along, empty for the CPU; `capabilities`: the compute capabilities that it has
    machine code for, none for the CPU. A card runs code of its own major capability and of the same or a lesser minor.
    `locked`: roles/python_ml has a lock for it.
    """

    backend: str
    version: str
    pythons: tuple[str, ...]
    gpu: bool
    cuda: str = ""
    capabilities: tuple[str, ...] = ()
    locked: bool = True


@dataclass(frozen=True)
class Catalog:
    """Everything `resolve` knows besides the box, the tier and the user's settings."""

    settings: Registry
    distributions: tuple[Distribution, ...]
    architectures: tuple[str, ...]
    torch: tuple[Build, ...]
    tensorflow: tuple[Build, ...]
    openvino: tuple[Build, ...]
    vllm: tuple[Build, ...]
    managed_python: str
    nvidia: Nvidia


@functools.cache
def load_catalog() -> Catalog:
    """Read the catalogue's files; they ship with the package and are proved by its tests."""
    systems = read("distributions.yml")
    frameworks = read("frameworks.yml")
    builds = {name: tuple(made(Build, entry) for entry in frameworks[name]) for name in FRAMEWORKS}
    return Catalog(
        settings=load_registry(),
        distributions=tuple(made(Distribution, entry) for entry in systems["distributions"]),
        architectures=tuple(systems["architectures"]),
        managed_python=frameworks["managed_python"],
        nvidia=load_nvidia(),
        **builds,
    )
