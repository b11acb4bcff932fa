#!/usr/bin/env python3
"""Write provision/catalog/gpus.pci.txt from a pci.ids: NVIDIA's GPUs from Kepler on, with chip and product name.

    python tools/catalog_gpus.py /usr/share/misc/pci.ids

The newest pci.ids is in Debian sid's package `pci.ids`, or on https://pci-ids.ucw.cz. Which chips are taken is said in
provision/catalog/gpus.yml: those that stand there under an architecture. The others are named on stderr.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CATALOG = Path(__file__).resolve().parent.parent / "provision" / "catalog"
TARGET = CATALOG / "gpus.pci.txt"

# GK110BGL is the chip GK110: what follows the number tells mobile (M), professional (GL) and revised (B) uses of it.
_CHIP = re.compile(r"(GB|GR|[GT][A-Z])\d{3}|AD\d{3}")
_OTHER_FUNCTION = re.compile(r"audio|usb|bridge|pcie host", re.IGNORECASE)
_SWITCH = re.compile(r"NVSwitch")
_HEADER = """\
# NVIDIA's GPUs and NVSwitches by PCI device id, chip and product name. Written by tools/catalog_gpus.py; do not edit.
# From pci.ids {date} (https://pci-ids.ucw.cz), a compilation of facts, copyright Martin Mares and Albert Pool,
# distributed under the 3-clause BSD License.
"""


def nvidia_devices(text: str) -> Iterator[tuple[str, str]]:
    """Device id and name of everything under NVIDIA's vendor id in a pci.ids."""
    ours = False
    for line in text.splitlines():
        if re.match(r"[0-9a-f]{4}  ", line):
            ours = line.startswith("10de ")
        elif ours and (device := re.match(r"\t([0-9a-f]{4})  (.+)", line)):
            yield device[1], device[2].strip()


def product(name: str) -> str:
    """`GA102 [GeForce RTX 3080]` is called GeForce RTX 3080; one without brackets keeps its chip's name."""
    inside = re.search(r"\[(.+)\]$", name)
    return inside[1] if inside else name


def rows(text: str, chips: set[str]) -> tuple[list[str], list[str]]:
    """The lines of the generated file, and the names that look like GPUs of chips nobody described."""
    taken, left = [], []
    for device, name in nvidia_devices(text):
        chip = _CHIP.match(name)
        if not chip or _OTHER_FUNCTION.search(name):
            continue
        if _SWITCH.search(name):
            taken.append(f"{device} NVSwitch {product(name)}")
        elif chip[0] in chips:
            taken.append(f"{device} {chip[0]} {product(name)}")
        else:
            left.append(f"{device} {name}")
    return taken, left


def main(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    date = re.search(r"^#\s+Version: (\d{4})\.(\d{2})\.(\d{2})", text, re.MULTILINE)
    if not date:
        sys.exit(f"{path} is no pci.ids: its header names no version")
    described = yaml.safe_load((CATALOG / "gpus.yml").read_text(encoding="utf-8"))["architectures"]
    chips = {chip for architecture in described for group in architecture["chips"].values() for chip in group}
    taken, left = rows(text, chips)
    TARGET.write_text(_HEADER.format(date="-".join(date.groups())) + "\n".join(taken) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(taken)} devices; not taken, for their chips are not in gpus.yml: {len(left)}")
    print("\n".join(f"  {name}" for name in left), file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
