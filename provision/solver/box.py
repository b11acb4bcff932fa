"""What the solver looks at, what it says of one setting, and how cards are named in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provision import comparison
from provision.catalog.nvidia import Nvidia
from provision.model import Card, Hardware

SOURCE, BRANCH = "nvidia_driver_source", "nvidia_driver_branch"
MODULES, VERSION = "nvidia_driver_modules", "nvidia_driver_version"


@dataclass(frozen=True)
class Box:
    """The machine. `pins` are the settings that somebody has set, by name; empty texts are none. `defaults` are the
    roles' own, of every setting.
    """

    hardware: Hardware
    cards: tuple[Card, ...]
    pins: Mapping[str, Any]
    defaults: Mapping[str, Any]
    nvidia: Nvidia
    roles: tuple[str, ...] = ()  # those that are applied, as far as --only and --skip choose

    def setting(self, name: str) -> Any:
        """What somebody has set, or the role's default."""
        return self.pins.get(name, self.defaults[name])

    @property
    def distribution(self) -> str:
        return f"{self.hardware.os.id}-{self.hardware.os.version}"

    @property
    def outside(self) -> str:
        """What the host runs in and gets its driver from; empty where it is a machine of its own."""
        kind, _, engine = self.hardware.firmware.virtualization.partition(":")
        if kind == "wsl":
            return "Windows"
        return f"the host of this {engine or 'unknown'} container" if kind == "container" else ""

    @property
    def guest(self) -> bool:
        """Whether it is a virtual machine: links, processors and bridges are what its hypervisor shows."""
        return self.hardware.firmware.virtualization.startswith("vm:")

    @property
    def why_none(self) -> str:
        """Why there is no driver, where there is none."""
        return f"there is no {'driver for the cards' if comparison.nvidia(self.hardware) else 'NVIDIA card'}"

    @property
    def left_alone(self) -> bool:
        """Whether the driver is somebody else's."""
        return self.setting(SOURCE) == "host" or bool(self.outside and not self.setting(SOURCE))


@dataclass(frozen=True)
class Decision:
    """A setting's value, who decided it why, and what else there was, each with why not."""

    value: Any
    because: str
    source: str
    rejected: tuple[str, ...] = ()


def say(cards: Iterable[Card]) -> str:
    """Each product with the addresses of its cards: `GeForce RTX 3080 at 0000:01:00.0`; without any it is assumed."""
    places: dict[str, list[str]] = {}
    for card in cards:
        places.setdefault(card.product, []).append(card.address)
    return " and ".join(
        f"{product} at {', '.join(addresses)}" if any(addresses) else f"an assumed {product}"
        for product, addresses in places.items()
    )


def by_architecture(cards: Iterable[Card]) -> Mapping[str, Sequence[Card]]:
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(card.architecture, []).append(card)
    return groups


def kinds(cards: Iterable[Card]) -> str:
    """`Volta and Ada`, for what depends on the architecture alone."""
    return " and ".join(by_architecture(cards))
