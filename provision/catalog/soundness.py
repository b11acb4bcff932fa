"""Whether the catalogue's own files are sound: every fault of shape and of reference at once, each with its line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from provision import content
from provision.catalog.nvidia import parts
from provision.catalog.nvidia_loader import PCI_TABLE, SWITCH
from provision.errors import ProvisionError
from provision.model import Refusal
from provision.nearest import did_you_mean
from provision.schema import Fault, faults, refusals
from provision.yamlfile import Document, read_yaml

FILES = ("distributions", "gpus", "drivers", "cuda", "frameworks")
_LINE = re.compile(r"[0-9a-f]{4} [A-Z]{2}[0-9A-Za-z]+ \S.*")


def unsound(directory: Path | None = None) -> list[Refusal]:
    """Every fault of the files; references between them are judged once each of them has its shape."""
    folder = directory or content.catalog_dir()
    documents, told = {}, _table_faults(folder)
    for name in FILES:
        try:
            documents[name] = read_yaml(folder / f"{name}.yml")
        except ProvisionError as error:
            told += error.refusals
    shapes = {name: faults(_schema(name), document.data) for name, document in documents.items()}
    told += [said for name, found in shapes.items() for said in refusals(found, documents[name].place)]
    return told or [*_references(documents, table(folder))]


def table(folder: Path) -> list[tuple[str, str, str]]:
    """Device id, chip and name of the lines of the PCI table that have their form."""
    lines = (folder / PCI_TABLE).read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 2) for line in lines if _LINE.fullmatch(line)]
    return [(device, chip, name) for device, chip, name in rows]


def _schema(name: str) -> Any:
    return json.loads((content.catalog_dir() / f"{name}.schema.json").read_text(encoding="utf-8"))


def _table_faults(folder: Path) -> list[Refusal]:
    path = folder / PCI_TABLE
    hint = "write it anew: python tools/catalog_gpus.py PCI_IDS"
    if not path.is_file():
        return [Refusal(str(path), "does not exist", hint)]
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    wrong = [number for number, line in lines if not line.startswith("#") and not _LINE.fullmatch(line)]
    told = [Refusal(f"{path}:{number}", "is not an id, a chip and a name", hint) for number in wrong]
    twice = [device for device, count in Counter(device for device, _, _ in table(folder)).items() if count > 1]
    return told + [Refusal(str(path), f"names the device {device} twice", hint) for device in twice]


def _references(documents: dict[str, Document], rows: Iterable[tuple[str, str, str]]) -> Iterator[Refusal]:
    data = {name: document.data for name, document in documents.items()}
    known = {entry["name"]: entry for entry in data["gpus"]["architectures"]}
    systems = {f"{entry['id']}-{entry['version']}" for entry in data["distributions"]["distributions"]}
    releases = {entry["version"] for entry in data["cuda"]["releases"]}
    found = {
        "gpus": _of_gpus(data["gpus"], list(rows)),
        "drivers": _of_drivers(data["drivers"]["branches"], known, systems),
        "cuda": _of_cuda(data["cuda"]["releases"], known, systems),
        "frameworks": _of_frameworks(data["frameworks"], releases),
    }
    for name, told in found.items():
        yield from refusals(told, documents[name].place)


def _of_gpus(gpus: Any, rows: list[tuple[str, str, str]]) -> Iterator[Fault]:
    chips = Counter(chip for entry in gpus["architectures"] for group in entry["chips"].values() for chip in group)
    for chip, count in chips.items():
        if count > 1:
            yield Fault(("architectures",), f"names the chip {chip} twice", "keep one of the two")
    for chip in sorted({chip for _, chip, _ in rows} - {SWITCH, *chips}):
        yield Fault(("architectures",), f"lacks the chip {chip} of {PCI_TABLE}", "add it, or write the table anew")
    names = {name for _, _, name in rows}
    seen: set[str] = set()
    for index, entry in enumerate(gpus["products"]):
        yield from _strangers(("products", index, "names"), entry["names"], names)
        yield from _strangers(("products", index, "source"), [entry["source"]], set(gpus["sources"]))
        for name in sorted(seen & set(entry["names"])):
            fact = f"names {name}, as an earlier entry does"
            yield Fault(("products", index, "names"), fact, "keep one of the two")
        seen |= set(entry["names"])


def _of_drivers(branches: Any, known: Mapping[str, Any], systems: set[str]) -> Iterator[Fault]:
    yield from _twice("branches", "number", branches)
    for index, entry in enumerate(branches):
        number = entry["number"]
        for flavour in ("open", "proprietary"):
            path = ("branches", index, flavour)
            yield from _strangers(path, entry[flavour], known)
            for name in set(entry[flavour]) & set(known):
                if flavour not in known[name]["modules"]:
                    yield Fault(path, f"names {name}, which has no {flavour} modules in gpus.yml", "leave it out")
                elif known[name].get("last_branch", number) < number:
                    yield Fault(path, f"names {name}, which ended with {known[name]['last_branch']}", "leave it out")
        for place, origin in enumerate(entry["origins"]):
            yield from _of_origin(("branches", index, "origins", place), origin, entry, systems)


def _of_origin(path: tuple[str | int, ...], origin: Any, branch: Any, systems: set[str]) -> Iterator[Fault]:
    yield from _strangers((*path, "distributions"), origin["distributions"], systems)
    for flavour in origin["modules"]:
        if not branch[flavour]:
            yield Fault((*path, "modules"), f"offers {flavour} modules, which the branch lacks", "leave it out")
    version = origin.get("version", "")
    if version and int(version.split(".")[0]) != branch["number"]:
        yield Fault((*path, "version"), f"is {version}, which is of another branch", "mend it")


def _of_cuda(releases: Any, known: Mapping[str, Any], systems: set[str]) -> Iterator[Fault]:
    yield from _twice("releases", "version", releases)
    for index, entry in enumerate(releases):
        path = ("releases", index)
        yield from _strangers((*path, "architectures"), entry["architectures"], known)
        yield from _strangers((*path, "distributions"), entry["distributions"], systems)
        for name in set(entry["architectures"]) & set(known):
            last = known[name].get("last_cuda")
            if last and parts(last) < parts(entry["version"]):
                yield Fault((*path, "architectures"), f"names {name}, which ended with {last}", "leave it out")
        if int(entry["matched"].split(".")[0]) < entry["floor"]:
            yield Fault((*path, "floor"), f"is {entry['floor']}, above its own driver {entry['matched']}", "mend it")


def _of_frameworks(frameworks: Any, releases: set[str]) -> Iterator[Fault]:
    for name, builds in frameworks.items():
        for index, entry in enumerate(builds if isinstance(builds, list) else []):
            yield from _strangers((name, index, "cuda"), [entry["cuda"]] if entry["gpu"] else [], releases)


def _twice(key: str, name: str, entries: Any) -> Iterator[Fault]:
    """Entries of a list that carry what an earlier one carries."""
    for index, entry in enumerate(entries):
        if entry[name] in [earlier[name] for earlier in entries[:index]]:
            yield Fault((key, index, name), f"is {entry[name]}, as in an earlier entry", "keep one of the two")


def _strangers(path: tuple[str | int, ...], names: Iterable[str], known: Iterable[str]) -> Iterator[Fault]:
    """Names that the file they refer to does not know."""
    choices = sorted(known)
    for name in names:
        if name not in choices:
            yield Fault(path, f"names {name}, which is not known", did_you_mean(name, choices, f"use {choices[0]} ..."))
