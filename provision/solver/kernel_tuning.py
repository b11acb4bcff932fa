"""What the kernel of a box is told: NUMA, the IOMMU before several cards, and what contradicts the machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provision import comparison
from provision.contradictions import Contradiction
from provision.solver.box import Box, Decision

ROLE = "kernel_tuning"
PARAMETERS, ACS, GOVERNOR = f"{ROLE}_boot_parameters", f"{ROLE}_acs", f"{ROLE}_governor"
BALANCING, RECLAIM = f"{ROLE}_numa_balancing", f"{ROLE}_zone_reclaim"
PAGES: Mapping[str, int] = {f"{ROLE}_hugepages_2m": 2 * 2**20, f"{ROLE}_hugepages_1g": 2**30}
UNTRANSLATED = "iommu=pt"

# What decides from where and into what a machine boots. `single` and a number are runlevels.
_NOT_OURS = re.compile(r"(root|rootfstype|init|rdinit|initrd|BOOT_IMAGE|systemd\.(unit|mask)|rd\.break)(=.*)?|r[ow]|\d")
_RESCUES = ("single", "emergency", "rescue", "s", "S")
_ONE_VENDORS = {"intel_iommu": "Intel", "amd_iommu": "AMD"}


def decisions(box: Box) -> Mapping[str, Decision]:
    return {**_numa(box), PARAMETERS: _parameters(box)}


def faults(box: Box) -> list[Contradiction]:
    return [*_words(box), *_memory(box), *_acs(box)]


def warnings(box: Box) -> list[str]:
    told = []
    if box.guest and box.setting(GOVERNOR) != "leave":
        told.append(f"{GOVERNOR} does nothing in a virtual machine that is not shown its processors' frequency")
    if box.setting(ACS) == "direct":
        told.append(f"{ACS} is direct: the cards are not kept apart, so none may be passed to a guest not trusted")
    return told


def dropped(box: Box) -> str:
    return f"the kernel is that of {box.outside}" if box.outside else ""


def _vendor(box: Box) -> str:
    model = box.hardware.cpu.model
    return next((name for name in ("AMD", "Intel") if name in model), "")


def _cards(box: Box) -> int:
    return max(len(comparison.nvidia(box.hardware)), len(box.cards))


def _numa(box: Box) -> dict[str, Decision]:
    nodes = box.hardware.cpu.numa_nodes
    if "cpu" in box.hardware.unknown or nodes < 2:
        why = "nobody looked at its memory" if "cpu" in box.hardware.unknown else "its memory is one node"
        return {name: Decision("leave", why, "hardware") for name in (BALANCING, RECLAIM)}
    stays = f"memory of another of the {nodes} nodes is nearer than what the page cache would have to read again"
    reclaim = Decision("disabled", stays, "hardware")
    if not _cards(box):
        alone = f"there are {nodes} nodes and no card whose memory the kernel would move away from it"
        return {RECLAIM: reclaim, BALANCING: Decision("leave", alone, "hardware")}
    moved = f"on {nodes} nodes the kernel would unmap and move the memory that programs hold beside their card"
    return {RECLAIM: reclaim, BALANCING: Decision("disabled", moved, "hardware")}


def _parameters(box: Box) -> Decision:
    """Only what peers need; that an IOMMU is on at all stays the firmware's and the distribution's choice."""
    cards = _cards(box)
    if cards < 2:
        return Decision([], "one card has no peer to read from" if cards else "there is no NVIDIA card", "hardware")
    if box.guest:
        return Decision([], "whether a guest's cards reach each other is for its hypervisor to say", "hardware")
    if box.hardware.os.architecture != "x86_64":
        return Decision([], f"{UNTRANSLATED} is a parameter of x86", "hardware")
    because = f"{cards} cards read each other's memory through an IOMMU only where it does not translate"
    unit = {"AMD": "AMD-Vi", "Intel": "VT-d"}.get(_vendor(box), "the IOMMU")
    off = f"{unit} off: it would take interrupt remapping and virtual machines away as well"
    return Decision([UNTRANSLATED], because, "hardware", (off,))


def _words(box: Box) -> Iterator[Contradiction]:
    words = [str(word) for word in box.setting(PARAMETERS)]
    for word in words:
        key = word.partition("=")[0]
        vendor = _ONE_VENDORS.get(key, "")
        if _NOT_OURS.fullmatch(word) or key in _RESCUES:
            yield PARAMETERS, f"has {word}, which decides what the machine boots", "set that in GRUB yourself"
        elif key in ("hugepages", "hugepagesz"):
            yield PARAMETERS, f"has {word}, and huge pages have settings of their own", f"set {' or '.join(PAGES)}"
        elif vendor and _vendor(box) not in ("", vendor):
            fact = f"has {word}, which is for processors of {vendor}, and this is {box.hardware.cpu.model}"
            yield PARAMETERS, fact, f"leave it out, or write {UNTRANSLATED}, which both vendors' units read"
    for word in sorted({word for word in words if words.count(word) > 1}):
        yield PARAMETERS, f"has {word} twice", "keep one of the two"


def _memory(box: Box) -> Iterator[Contradiction]:
    """Huge pages are gone for everything else: beyond half of the memory a box does little else."""
    if "memory_bytes" in box.hardware.unknown:
        return
    counts: dict[str, Any] = {name: box.setting(name) for name in PAGES}
    set_aside = sum(counts[name] * size for name, size in PAGES.items())
    if 2 * set_aside > box.hardware.memory_bytes:
        largest = max(PAGES, key=lambda name: counts[name] * PAGES[name])
        gib = (set_aside / 2**30, box.hardware.memory_bytes / 2**30)
        fact = f"is {counts[largest]}, and the huge pages take {gib[0]:.1f} of {gib[1]:.1f} GiB from everything else"
        yield largest, fact, "declare at most half of the memory"


def _acs(box: Box) -> Iterator[Contradiction]:
    if box.setting(ACS) == "direct" and box.hardware.firmware.secure_boot:
        fact = "is direct, and under Secure Boot the kernel lets nobody write to PCI bridges"
        yield ACS, fact, "turn ACS off in the firmware, or see docs/kernel-tuning.md for the boot parameter"
