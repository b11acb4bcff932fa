"""`--hardware FILE`: the boxes that a file tells of, as `lspci -nn` text, a hardware document or a report."""

from __future__ import annotations

import codecs
import functools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from provision import codec, content, lspci, model
from provision.catalog import Catalog
from provision.errors import ProvisionError, refuse
from provision.model import Cpu, Hardware, OperatingSystem, Refusal
from provision.nearest import did_you_mean
from provision.schema import dotted, faults, type_name

LIMIT_BYTES = 32 * 2**20  # a report of a thousand hosts is smaller
REPORT = "provision/report/1"
NOT_IN_LSPCI = ("cpu", "memory_bytes", "nics", "disks", "cooling", "firmware")

_FORMS = "give it what `lspci -nn` prints, or what `provision plan --output json` prints"


@dataclass(frozen=True)
class HardwareFile:
    """The boxes of one file by name.

    `named`: the names stand in the file; else the box has the file's own. `blind`: the hosts it has no hardware of.
    """

    boxes: Mapping[str, Hardware]
    named: bool
    blind: tuple[str, ...] = ()

    def choose(self, names: Sequence[str]) -> Mapping[str, Hardware]:
        """Those of these names, or all; the box of a file without names takes the one name that is given.

        Raises:
            ProvisionError: names that the file does not know, several for one box, or hosts without hardware.
        """
        if not names and self.blind:
            hint = f"plan the others by name: {' '.join(self.boxes)}"
            raise ProvisionError(
                Refusal(f"host {name}", "was not looked at for this file", hint) for name in self.blind
            )
        if not names:
            return self.boxes
        if not self.named:
            if len(names) > 1:
                raise refuse("--hardware", f"tells of one box, and {len(names)} hosts were named", "name one of them")
            return dict.fromkeys(names, next(iter(self.boxes.values())))
        unknown = [name for name in names if name not in self.boxes]
        if unknown:
            has = f"the file has {', '.join(self.boxes)}"
            raise ProvisionError(
                Refusal(f"host {name}", "is not in the hardware file", did_you_mean(name, self.boxes, has))
                for name in unknown
            )
        return {name: self.boxes[name] for name in names}


def read_hardware(path: str, system: str | None, catalog: Catalog) -> HardwareFile:
    """Read FILE, or standard input for `-`. `system` is `--os`, which lspci text needs: `ubuntu-22.04`.

    Raises:
        ProvisionError: every fault of the file and of `--os` at once.
    """
    told: list[Refusal] = []
    given: OperatingSystem | None = None
    try:
        given = _system(system, catalog) if system is not None else None
    except ProvisionError as error:
        told += error.refusals
    try:
        text = _text(path)
        if text.lstrip().startswith(("{", "[")):
            found = _from_json(path, text, given)
        else:
            found = _from_lspci(path, text, system, given, catalog)
    except ProvisionError as error:
        raise ProvisionError([*told, *error.refusals]) from error
    if told:
        raise ProvisionError(told)
    return found


def systems(catalog: Catalog) -> tuple[str, ...]:
    """What `--os` takes."""
    return tuple(f"{known.id}-{known.version}" for known in catalog.distributions)


def _system(name: str, catalog: Catalog) -> OperatingSystem:
    for known in catalog.distributions:
        if name.lower() == f"{known.id}-{known.version}":
            return OperatingSystem(known.id, known.version, known.codename, catalog.architectures[0])
    names = systems(catalog)
    raise refuse(f"--os {name}", "is not supported", did_you_mean(name.lower(), names, f"use {', '.join(names)}"))


def _from_lspci(
    path: str, text: str, system: str | None, given: OperatingSystem | None, catalog: Catalog
) -> HardwareFile:
    missing = []
    if system is None:
        hint = f"add --os ID-VERSION: {', '.join(systems(catalog))}"
        missing.append(Refusal(path, "does not tell the operating system", hint))
    try:
        gpus, nvswitches = lspci.parse(text, path)
    except ProvisionError as error:
        raise ProvisionError([*error.refusals, *missing]) from error
    if given is None:
        raise ProvisionError(missing)
    name = "box" if path == "-" else Path(path).stem
    nothing = Cpu("", 0, 0, 0)
    hardware = Hardware(given, nothing, 0, gpus=gpus, nvswitches=nvswitches, unknown=NOT_IN_LSPCI)
    return HardwareFile({name: hardware}, named=False)


def _from_json(path: str, text: str, given: OperatingSystem | None) -> HardwareFile:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise refuse(place, f"is not valid JSON: {error.msg}", "mend the line, or write the file anew") from error
    except (RecursionError, ValueError) as error:  # nested a thousand deep; a number of five thousand digits
        fact = "is no document of hardware: nested too deep, or with a number too long"
        raise refuse(path, fact, _FORMS) from error
    if not isinstance(data, dict):
        raise refuse(path, f"holds {type_name(data)} and no document of hardware", _FORMS)
    if "hosts" in data:
        return _from_report(path, data, given)
    return HardwareFile({"box" if path == "-" else Path(path).stem: _box(path, (), data, given)}, named=False)


def _from_report(path: str, data: Mapping[str, Any], given: OperatingSystem | None) -> HardwareFile:
    if data.get("schema") != REPORT:
        raise refuse(f"{path} schema", f"is not {REPORT}", _FORMS)
    hosts = data["hosts"] if isinstance(data["hosts"], list) else []
    named = [
        (at, host) for at, host in enumerate(hosts) if isinstance(host, dict) and isinstance(host.get("host"), str)
    ]
    boxes: dict[str, Hardware] = {}
    told: list[Refusal] = []
    for name, count in Counter(host["host"] for _, host in named).items():
        if count > 1:
            told.append(Refusal(f"{path} host {name}", "stands in it twice", "leave one of them out"))
    for at, host in named:
        try:
            if host.get("hardware") is not None:
                boxes[host["host"]] = _box(path, ("hosts", at, "hardware"), host["hardware"], given)
        except ProvisionError as error:
            told += error.refusals
    if not boxes and not told:
        told.append(Refusal(path, "tells of no host's hardware", "take it from a run that could look at its hosts"))
    if told:
        raise ProvisionError(told)
    return HardwareFile(boxes, named=True, blind=tuple(h["host"] for _, h in named if h["host"] not in boxes))


def _box(path: str, at: tuple[str | int, ...], data: Any, given: OperatingSystem | None) -> Hardware:
    """One document of hardware, which stands at `at` in the file."""
    if found := faults(_schema(), data):
        raise ProvisionError(
            Refusal(f"{path} {dotted((*at, *fault.path))}".strip(), fault.fact, fault.hint) for fault in found
        )
    hardware = codec.from_data(Hardware, data, path)
    if given and (given.id, given.version) != (hardware.os.id, hardware.os.version):
        fact = f"contradicts {path}, which says {hardware.os.id}-{hardware.os.version}"
        raise refuse(f"--os {given.id}-{given.version}", fact, "leave --os out")
    return hardware


@functools.cache
def _schema() -> Mapping[str, Any]:
    """The report's schema of hardware, where a field that has a default may be left out."""
    schema = json.loads((content.schemas_dir() / "report.schema.json").read_text(encoding="utf-8"))
    for name, definition in schema["$defs"].items():
        if cls := getattr(model, name, None):
            definition["required"] = [
                field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING
            ]
    return {"$ref": "#/$defs/Hardware", "$defs": schema["$defs"]}


def _text(path: str) -> str:
    data = _bytes(path)
    if len(data) > LIMIT_BYTES:
        raise refuse(path, f"is larger than {LIMIT_BYTES // 2**20} MiB", _FORMS)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # what Windows' shell writes
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(path, f"is no text (byte {error.start})", _FORMS) from error
    if "\0" in text:
        raise refuse(path, f"is no text (character {text.index(chr(0))})", _FORMS)
    if not text.strip():
        raise refuse(path, "is empty", _FORMS)
    return text


def _bytes(path: str) -> bytes:
    """What can be read, and of more than the limit enough to see that it is more."""
    try:
        if path != "-":
            with Path(path).open("rb") as stream:
                return stream.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise refuse(path, "does not exist", "check the path after --hardware") from None
    except OSError as error:
        raise refuse(path, f"cannot be read: {error.strerror}", "check what it is, its owner and mode") from error
    if sys.stdin.isatty():
        raise refuse("--hardware -", "reads standard input, and that is a terminal", "lspci -nn | provision plan ...")
    return sys.stdin.buffer.read(LIMIT_BYTES + 1)
