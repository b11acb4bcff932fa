"""`Nvidia` from its files. They ship with the package; `provision.catalog.soundness` proves them, not this loader."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from provision import content
from provision.catalog.nvidia import Architecture, Branch, CudaRelease, Nvidia, Origin, Product

PCI_TABLE = "gpus.pci.txt"
VENDOR = "10de"
SWITCH = "NVSwitch"
_SIZE = re.compile(r"(\d+) ?GB\b")


def load_nvidia() -> Nvidia:
    """Read gpus.yml, gpus.pci.txt, drivers.yml and cuda.yml."""
    gpus = read("gpus.yml")
    table = list(pci_table())
    return Nvidia(
        products={product.pci_id: product for product in _products(gpus, table)},
        branches=tuple(_branch(entry) for entry in read("drivers.yml")["branches"]),
        cuda=tuple(_release(entry) for entry in read("cuda.yml")["releases"]),
        nvswitches={pci_id: name for pci_id, chip, name in table if chip == SWITCH},
    )


def read(name: str) -> Any:
    """One YAML file of the catalogue as plain data."""
    return yaml.load((content.catalog_dir() / name).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with its lists as tuples, as frozen dataclasses hold them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


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


def _products(gpus: Any, table: list[tuple[str, str, str]]) -> Iterator[Product]:
    chips: dict[str, tuple[Architecture, str]] = {}
    for entry in gpus["architectures"]:
        architecture = Architecture(**with_tuples({key: value for key, value in entry.items() if key != "chips"}))
        chips |= {chip: (architecture, cc) for cc, group in entry["chips"].items() for chip in group}
    figures = {name: _figures(entry) for entry in gpus["products"] for name in entry["names"]}
    for pci_id, chip, name in table:
        if chip in chips:
            known = {"memory_gib": memory_in(name), **figures.get(name, {})}
            yield Product(pci_id, name, chip, *chips[chip], **known)


def _figures(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("names", "source")}


def _branch(entry: Mapping[str, Any]) -> Branch:
    return Branch(
        number=entry["number"],
        status=entry["status"],
        ends=entry.get("ends"),
        architectures=tuple(dict.fromkeys((*entry["proprietary"], *entry["open"]))),
        open_architectures=tuple(entry["open"]),
        proprietary_architectures=tuple(entry["proprietary"]),
        cuda=entry["cuda"],
        origins=tuple(_origins(entry["origins"])),
    )


def _origins(entries: Any) -> Iterator[Origin]:
    for entry in entries:
        for name in entry["distributions"]:
            yield Origin(entry["source"], name, tuple(entry["modules"]), entry["prebuilt"], entry.get("version", ""))


def _release(entry: Mapping[str, Any]) -> CudaRelease:
    return CudaRelease(**with_tuples(entry))
