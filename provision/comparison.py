"""The hardware a tier documents against what the probe found. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from provision.catalog import Catalog
from provision.model import Card, Gpu, Hardware, OperatingSystem, Shortfall, Tier

TOLERANCE = 0.07  # a 32 GB box shows 31 GiB, and disks are sold by the decimal terabyte
GIB = 2**30
GB = 10**9
_IN_WORDS = {"cpu": "the CPU", "memory_bytes": "memory", "nics": "network", "disks": "disks", "firmware": "Secure Boot"}


def nvidia(hardware: Hardware) -> tuple[Gpu, ...]:
    """The GPUs by NVIDIA's PCI vendor id."""
    return tuple(gpu for gpu in hardware.gpus if gpu.pci_id.lower().startswith("10de:"))


def system_python(system: OperatingSystem, catalog: Catalog) -> str:
    """The system interpreter's major.minor: the probe's, or the distribution's own where none is installed yet."""
    own = (known.python for known in catalog.distributions if (known.id, known.version) == (system.id, system.version))
    return ".".join((system.python or next(own, "unknown")).split(".")[:2])


def shortfalls(tier: Tier, hardware: Hardware, cards: Sequence[Card]) -> tuple[Shortfall, ...]:
    """Where the box is less than documented; being more is never one, nor is what nobody looked at.

    `cards` are those that the catalogue knows: a box without a list of PCI names calls them by number.
    """
    judges = {"memory_bytes": _memory, "disks": _disks, "nics": _network}
    known = (lack for name, judge in judges.items() if name not in hardware.unknown for lack in judge(tier, hardware))
    return (*_gpus(tier, hardware, cards), *known)


def warnings(tier: Tier, hardware: Hardware) -> Iterator[str]:
    """Differences that are neither less nor more."""
    if hardware.unknown:
        names = ", ".join(_IN_WORDS[name] for name in hardware.unknown if name in _IN_WORDS)
        yield f"not known and so not judged: {names}"
    cpus = tier.hardware.get("cpus", ()) if "cpu" not in hardware.unknown else ()
    if cpus and not any(is_model(hardware.cpu.model, name) for name in cpus):
        yield f"the CPU is {hardware.cpu.model}; the tier {tier.name} documents {either(cpus)}"


def _gpus(tier: Tier, hardware: Hardware, cards: Sequence[Card]) -> Iterator[Shortfall]:
    wanted = tier.hardware.get("gpus")
    if not wanted or not wanted["min"]:
        return
    products = {card.address: card.product for card in cards if not card.assumed}
    names = [products.get(gpu.address, gpu.name) for gpu in hardware.gpus]
    fitting = [name for name in names if any(is_model(name, model) for model in wanted["models"])]
    if len(fitting) < wanted["min"]:
        count = f"{wanted['min']}" if wanted["min"] == wanted["max"] else f"{wanted['min']}-{wanted['max']}"
        found = ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names)) or "none"
        yield Shortfall("GPU", f"{count}x {either(wanted['models'])}", found)


def _memory(tier: Tier, hardware: Hardware) -> Iterator[Shortfall]:
    wanted = tier.hardware.get("memory_gb", 0)
    if hardware.memory_bytes < wanted * GIB * (1 - TOLERANCE):
        yield Shortfall("memory", f"{wanted} GB", f"{hardware.memory_bytes / GIB:.1f} GiB")


def _disks(tier: Tier, hardware: Hardware) -> Iterator[Shortfall]:
    inside = [disk for disk in hardware.disks if disk.transport != "usb"]
    nvme = sum(disk.size_bytes for disk in inside if disk.transport == "nvme")
    hdd = sum(disk.size_bytes for disk in inside if disk.rotational)
    for subject, key, size in (("NVMe storage", "nvme_gb", nvme), ("HDD storage", "hdd_gb", hdd)):
        wanted = tier.hardware.get(key, 0)
        if size < wanted * GB * (1 - TOLERANCE):
            yield Shortfall(subject, f"{wanted} GB", f"{size / GB:.0f} GB" if size else "none")


def _network(tier: Tier, hardware: Hardware) -> Iterator[Shortfall]:
    wanted = tier.hardware.get("network")
    if not wanted or (wanted.get("or_wifi") and any(nic.kind == "wifi" for nic in hardware.nics)):
        return
    speed = max((nic.speed_mbps or 0 for nic in hardware.nics), default=0)
    if speed < wanted["speed_mbps"]:
        documented = f"{wanted['speed_mbps']} Mbit/s" + (" or Wi-Fi 6" if wanted.get("or_wifi") else "")
        found = f"{speed} Mbit/s" if speed else "no link whose speed is known" if hardware.nics else "none"
        yield Shortfall("network", documented, found)


def is_model(name: str, model: str) -> bool:
    """Whether every word of the product's name stands in what the bus calls it (`GA102 [GeForce RTX 3080]`).

    A letter behind the number is a variant of the same: a V100S is a V100, and an H100 NVL is called H100L.
    """
    found = _words(name)
    return all(word in found or _varied(word, found) for word in _words(model))


def _varied(word: str, found: Sequence[str]) -> bool:
    return word[-3:].isdigit() and any(other[:-1] == word and other[-1].isalpha() for other in found)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def either(words: Iterable[Any]) -> str:
    """`535, 580 or 595`."""
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} or {last}" if first else last
