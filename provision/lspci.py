"""What `lspci -nn` prints, as the GPUs and NVSwitches of a box. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provision.errors import ProvisionError
from provision.model import Gpu, Refusal

_ADDRESS = r"(?:.*\s)?((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\s"
# `-nn` writes `VGA compatible controller [0300]: NAME [10de:2684] (rev a1)`, `-n` writes `0300: 10de:2684 (rev a1)`.
_DEVICE = re.compile(_ADDRESS + r"(?:[^:]*\[)?([0-9a-f]{4})\]?: (?:(.*) \[)?([0-9a-f]{4}:[0-9a-f]{4})\b", re.IGNORECASE)
_WITHOUT_IDS = re.compile(_ADDRESS + r"(VGA compatible|3D|Display) controller\b", re.IGNORECASE)
_DRIVER = re.compile(r"\s+Kernel driver in use: (\S+)")

# As provision_probe tells them from the same classes and ids.
_DISPLAY_CLASSES = ("0300", "0302", "0380")
_OTHER_BRIDGE = "0680"
_LAST_NFORCE = 0x0FFF

_TAKE_ALL = "take it anew with: lspci -nn"


@dataclass(frozen=True)
class Device:
    """One line of lspci: `kind` is the PCI class, `pci_id` is vendor:device, both hexadecimal."""

    address: str
    kind: str
    name: str
    pci_id: str
    driver: str | None = None


def parse(text: str, subject: str) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The display controllers, and the addresses of the NVSwitches. `subject` names where the text came from.

    Raises:
        ProvisionError: no output of lspci, one without ids or without any display controller, or that of two boxes.
    """
    lines = text.splitlines()
    devices = list(_devices(lines))
    bare = [number for number, line in enumerate(lines, 1) if _WITHOUT_IDS.match(line) and not _DEVICE.match(line)]
    gpus = tuple(
        Gpu(device.pci_id, device.address, device.name or device.pci_id, device.driver)
        for device in devices
        if device.kind in _DISPLAY_CLASSES
    )
    refusals = list(_twice(devices, subject))
    if bare:
        fact = f"names a display controller without its ids: line {', '.join(map(str, bare))}"
        refusals.append(Refusal(subject, fact, _TAKE_ALL))
    elif not devices:
        refusals.append(
            Refusal(subject, "is not what lspci -nn prints: no line names a device with its ids", _TAKE_ALL)
        )
    elif not gpus:
        hint = f"{_TAKE_ALL}, all of it; a box that has none is planned from hardware JSON"
        refusals.append(Refusal(subject, "lists no display controller (VGA, 3D or other)", hint))
    if refusals:
        raise ProvisionError(refusals)
    return gpus, tuple(device.address for device in devices if _is_nvswitch(device))


def _devices(lines: list[str]) -> Iterator[Device]:
    """Each device with the driver that `-k` names in the lines below it."""
    last: Device | None = None
    for line in lines:
        if match := _DEVICE.match(line):
            if last:
                yield last
            address, kind, name, pci_id = match.groups()
            full = address if address.count(":") == 2 else f"0000:{address}"
            last = Device(full.lower(), kind.lower(), name or "", pci_id.lower())
        elif last and (match := _DRIVER.match(line)):
            last = replace(last, driver=match[1])
    if last:
        yield last


def _twice(devices: list[Device], subject: str) -> Iterator[Refusal]:
    addresses = Counter(device.address for device in devices)
    for address in sorted(address for address, count in addresses.items() if count > 1):
        yield Refusal(f"{subject} {address}", "stands in it twice", "give each box a file of its own")


def _is_nvswitch(device: Device) -> bool:
    vendor, _, number = device.pci_id.partition(":")
    return (device.kind, vendor) == (_OTHER_BRIDGE, "10de") and int(number, 16) > _LAST_NFORCE
