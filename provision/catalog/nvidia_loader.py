"""`Nvidia` from its files. They ship with the package; `provision.catalog.soundness` proves them, not this loader."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from provision import content
from provision.catalog.nvidia import Architecture, Branch, CudaRelease, Nvidia, Origin, Product, parts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PCI_TABLE = "gpus.pci.txt"
VENDOR = "10de"
SWITCH = "NVSwitch"
_SIZE = re.compile(r"(\d+) ?GB\b")
_Entry = TypeVar("_Entry", bound="DataclassInstance")


def load_nvidia() -> Nvidia:
    """Read gpus.yml, gpus.pci.txt, drivers.yml and cuda.yml."""
    table = list(pci_table())
    releases = tuple(made(CudaRelease, entry) for entry in read("cuda.yml")["releases"])
    return Nvidia(
        products={product.pci_id: product for product in _products(read("gpus.yml"), table)},
        branches=tuple(_branch(entry, releases) for entry in read("drivers.yml")["branches"]),
        cuda=releases,
        nvswitches={pci_id: name for pci_id, chip, name in table if chip == SWITCH},
    )


def read(name: str) -> Any:
    """One YAML file of the catalogue as plain data."""
    return yaml.load((content.catalog_dir() / name).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def made(kind: type[_Entry], entry: Mapping[str, Any]) -> _Entry:
    """An entry of a file as the dataclass `kind`, its lists as tuples; keys that only explain it are left out."""
    known = {field.name for field in dataclasses.fields(kind)}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key in known}
    return kind(**values)


def pci_table() -> Iterator[tuple[str, str, str]]:
    """PCI id, chip (or NVSwitch) and name of each line of the generated table."""
    for line in (content.catalog_dir() / PCI_TABLE).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            device, chip, name = line.split(" ", 2)
            yield f"{VENDOR}:{device}", chip, name


def memory_in(name: str) -> int | None:
    """The GiB that a product's name tells (`A100 SXM4 80GB`); None where it tells none, or several."""
    told = _SIZE.findall(name)
    return int(told[0]) if len(told) == 1 and "/" not in name else None


def chips(gpus: Mapping[str, Any]) -> dict[str, tuple[Architecture, str]]:
    """Architecture and compute capability of each chip of gpus.yml."""
    return {
        chip: (made(Architecture, entry), capability)
        for entry in gpus["architectures"]
        for capability, group in entry["chips"].items()
        for chip in group
    }


def matched_cuda(number: int, releases: Sequence[CudaRelease]) -> str:
    """The newest CUDA release whose own driver is of this branch or an older one."""
    own = [release for release in releases if int(release.matched.split(".")[0]) <= number]
    return max(own, key=lambda release: parts(release.version)).version


def _products(gpus: Mapping[str, Any], table: Sequence[tuple[str, str, str]]) -> Iterator[Product]:
    known = chips(gpus)
    figures = {name: entry for entry in gpus["products"] for name in entry["names"]}
    for pci_id, chip, name in table:
        if chip in known:
            told = {key: value for key, value in figures.get(name, {}).items() if key not in ("names", "source")}
            source = gpus["sources"][figures[name]["source"]] if name in figures else ""
            yield Product(pci_id, name, chip, *known[chip], **{"memory_gib": memory_in(name), "source": source, **told})


def _branch(entry: Mapping[str, Any], releases: Sequence[CudaRelease]) -> Branch:
    return Branch(
        number=entry["number"],
        status=entry["status"],
        ends=entry.get("ends"),
        architectures=tuple(dict.fromkeys((*entry["proprietary"], *entry["open"]))),
        open_architectures=tuple(entry["open"]),
        proprietary_architectures=tuple(entry["proprietary"]),
        cuda=matched_cuda(entry["number"], releases),
        origins=tuple(
            made(Origin, {**origin, "distribution": name})
            for origin in entry["origins"]
            for name in origin["distributions"]
        ),
    )
