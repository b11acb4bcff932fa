"""Which fans of a box follow which temperatures on which curve: settings, and every reason why not. Pure.

A curve of the setting `cooling_curves` leads from the hottest of its sources to a duty for its outputs; an output that
has several curves gets the highest duty. How sources and outputs are written stands in roles/cooling/files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from provision.contradictions import Contradiction
from provision.model import Card, HwmonChip
from provision.solver.box import Box, Decision, say

CURVES, PROFILE, SPARED = "cooling_curves", "cooling_profile", "cooling_spared"

Curve = Mapping[str, Any]


@dataclass(frozen=True)
class Profile:
    """The duties of a curve's first and second point, and how far below the limit it reaches 100 %, in Celsius."""

    floor_percent: int
    middle_percent: int
    margin_c: int
    hysteresis_c: int


PROFILES = {
    "quiet": Profile(25, 45, 5, 5),
    "balanced": Profile(30, 55, 8, 4),
    "performance": Profile(40, 70, 12, 3),
}
# Where nothing slows down yet. GPU: the lowest that a driver told of a recorded card (87, Tesla V100S, in
# tests/cases/nvidia_smi), for cards of which the catalogue has no document. CPU: below what Intel and AMD give as the
# highest junction temperature of the documented ones (95 for EPYC and Threadripper PRO, 100 for Core and most Xeons).
# Liquid: coolers go to full by themselves at 59 to 60 (liquidctl's drivers of Asetek and NZXT coolers).
LIMITS_C = {"gpu": 87, "cpu": 90, "liquid": 59}
_SPANS_C = {"gpu": (45, 20), "cpu": (45, 20), "liquid": (28, 14)}  # where a curve begins and bends, below the limit
_PUMP_FLOOR = 60  # a pump that is too slow moves no heat, however its fans run

_CPU_CHIPS = ("coretemp", "k10temp", "zenpower")
_NOT_OURS = re.compile(r"amdgpu|radeon|nouveau|i915|xe|dell_smm|thinkpad|(x53|z53|kraken.*)")  # cards, laptops, coolers
# Coolers whose channels are known, as liquidctl 1.12 of Debian 12 names them. The others keep to their own firmware.
_CHANNELS = {
    "1e71:170e": ("fan", "pump"),
    "1e71:2007": ("pump",),
    "1e71:2014": ("pump",),
    "1e71:3008": ("fan", "pump"),
    "2433:b200": ("fan", "pump"),
}
_SUPERMICRO = re.compile(r"\b(X1[0-3]|H1[0-3])[A-Z]")  # boards whose BMC takes duties
_OLD_DELL = re.compile(r"PowerEdge [RT]\d[1-3]\d\b")  # 11th to 13th generation; iDRAC 9 forbade it in 3.30.30.30


def decisions(box: Box) -> Mapping[str, Decision]:
    """Curves for what can be driven, and what they need on the host."""
    profile = str(box.setting(PROFILE))
    chosen = planned(box, PROFILES[profile])
    curves = box.pins.get(CURVES, chosen)
    found = {
        CURVES: Decision(chosen, _because(box, profile), "hardware", tuple(_rejected(box))),
        "cooling_monitored": Decision(_monitored(box), _why_monitored(box), "hardware"),
    }
    if modules := _modules(box, curves):
        because = "unloading one of these would leave its fans as they are"
        found["cooling_modules"] = Decision(modules, because, "hardware")
    if packages := list(_packages(box, curves)):
        because = "they talk to the coolers and the BMC of this box"
        found["cooling_packages"] = Decision(packages, because, "hardware")
    return found


def faults(box: Box) -> list[Contradiction]:
    """Curves of somebody's own that this box cannot follow safely."""
    return [fault for curve in box.setting(CURVES) for fault in _curve_faults(box, curve)]


def warnings(box: Box) -> list[str]:
    """Fans that stay with their firmware although a GPU's heat is nothing that it could know of."""
    told = []
    chassis = [each for each in _outputs(_curves(box)) if not each.startswith(("nvml:", "liquidctl:"))]
    passive = [card for card in box.cards if card.passive]
    if passive and not chassis and "cooling" not in box.hardware.unknown:
        told.append(
            f"only the chassis fans cool {say(passive)}, and the firmware drives them: set its fan mode to full"
        )
    for cooler in box.hardware.cooling.aio:
        if cooler not in _CHANNELS:
            told.append(f"the liquid cooler {cooler} keeps to its own firmware: its channels are not known here")
    return told


def dropped(box: Box) -> str:
    """Why this box does not get the role; empty where it does."""
    if box.outside:
        return f"the fans are those of {box.outside}"
    undone = {CURVES, SPARED} & set(box.pins)  # what an earlier run drives has to be given back
    if not box.hardware.cooling.bmc and not _curves(box) and not undone:
        if "cooling" in box.hardware.unknown:
            return "nobody has looked for its fans"
        return "no chip, card, cooler or BMC here lets anybody drive or watch a fan: the firmware does"
    return ""


# -- what there is -------------------------------------------------------------------------------------------------


def planned(box: Box, profile: Profile = PROFILES["balanced"]) -> list[dict[str, Any]]:
    """The curves of a box: chassis fans by processors and by cards, each card's own fans, the liquid cooler."""
    chassis = [output for output in (*_pwms(box), *_zones(box)) if not _spared(box, output)]
    cards = [card for card in box.cards if card.address and not card.assumed]
    slowest = min((_limit(box, card) for card in cards), default=LIMITS_C["gpu"])
    every = [
        _curve("cpu", _processors(box), chassis, profile, LIMITS_C["cpu"]),
        _curve("gpus", [_nvml(card) for card in cards], chassis, profile, slowest),
    ]
    for card in cards:
        own = [] if card.passive or _spared(box, _nvml(card)) else [_nvml(card)]
        every.append(_curve(f"gpu {card.address}", [_nvml(card)], own, profile, _limit(box, card)))
    for cooler in box.hardware.cooling.aio:
        for channel in _CHANNELS.get(cooler, ()):
            output = f"liquidctl:{cooler}#{channel}"
            outputs = [] if _spared(box, output) else [output]
            every.append(_curve(f"{channel} {cooler}", [f"liquidctl:{cooler}#liquid"], outputs, profile, 0))
    return [curve for curve in every if curve["sources"] and curve["outputs"]]


def _curves(box: Box) -> Sequence[Curve]:
    """The curves that the box gets: somebody's own, or the plan's."""
    found: Sequence[Curve] = box.pins.get(CURVES, planned(box))
    return found


def _curve(name: str, sources: Sequence[str], outputs: Sequence[str], profile: Profile, limit: int) -> dict[str, Any]:
    """A profile's curve below a limit in Celsius; 0 is the limit of a liquid."""
    kind = "gpu" if limit else "liquid"
    top = limit or LIMITS_C["liquid"]
    floor = max(profile.floor_percent, _PUMP_FLOOR if name.startswith("pump") else 0)
    begin, bend = (top - span for span in _SPANS_C[kind])
    return {
        "name": name,
        "sources": list(sources),
        "outputs": list(outputs),
        "points": [[begin, floor], [bend, max(profile.middle_percent, floor)], [top - profile.margin_c, 100]],
        "hysteresis_c": profile.hysteresis_c if limit else 2,
        "floor_percent": floor,
        "failsafe_percent": 100,
    }


def _limit(box: Box, card: Card) -> int:
    product = box.nvidia.products.get(card.pci_id)
    return (product.slowdown_c if product else None) or LIMITS_C["gpu"]


def _nvml(card: Card) -> str:
    return f"nvml:{card.address}"


def _address(chip: HwmonChip, channel: str = "") -> str:
    return f"hwmon:{chip.name}@{chip.place}" + (f"#{channel}" if channel else "")


def _fan_chips(box: Box) -> list[HwmonChip]:
    chips = box.hardware.cooling.chips
    return [chip for chip in chips if chip.outputs and chip.place and not _NOT_OURS.fullmatch(chip.name)]


def _pwms(box: Box) -> list[str]:
    return [_address(chip, output) for chip in _fan_chips(box) for output in chip.outputs]


def _processors(box: Box) -> list[str]:
    """The processors' own sensors; without any, those of the chips that drive the fans."""
    chips = [chip for chip in box.hardware.cooling.chips if chip.name in _CPU_CHIPS and chip.place]
    fallback = [chip for chip in _fan_chips(box) if chip.temperatures]
    return list(dict.fromkeys(_address(chip) for chip in chips or fallback))


def _zones(box: Box) -> list[str]:
    """What the BMC drives on our word."""
    firmware, cooling = box.hardware.firmware, box.hardware.cooling
    if cooling.bmc and firmware.vendor.lower().startswith("supermicro") and _SUPERMICRO.search(cooling.board):
        return ["supermicro:#0", "supermicro:#1"]
    return ["dell:"] if cooling.bmc and _OLD_DELL.search(firmware.product) else []


def _spared(box: Box, output: str) -> bool:
    return any(fnmatchcase(output, pattern) for pattern in box.setting(SPARED))


def _outputs(curves: Sequence[Curve]) -> list[str]:
    return [output for curve in curves for output in curve["outputs"]]


def _modules(box: Box, curves: Sequence[Curve]) -> dict[str, str]:
    """The kernel modules of the chips that are driven."""
    driven = {output.split("#")[0] for output in _outputs(curves)}
    return {chip.name: chip.module for chip in box.hardware.cooling.chips if chip.module and _address(chip) in driven}


def _packages(box: Box, curves: Sequence[Curve]) -> Iterator[str]:
    outputs = _outputs(curves)
    if any(output.startswith("liquidctl:") for output in outputs):
        yield "liquidctl"
    if _monitored(box) or any(output.startswith(("supermicro:", "dell:")) for output in outputs):
        yield "ipmitool"


def _monitored(box: Box) -> bool:
    """Whether the BMC drives fans by itself."""
    return bool(box.hardware.cooling.bmc) and not _zones(box)


# -- what is said of it --------------------------------------------------------------------------------------------


def _because(box: Box, profile: str) -> str:
    documented = [card for card in box.cards if _limit(box, card) != LIMITS_C["gpu"]]
    rest = [card for card in box.cards if card.address and card not in documented]
    told = [f"the profile {profile} reaches 100 % {PROFILES[profile].margin_c} C before anything slows down"]
    told += [f"{say([card])} does at {_limit(box, card)} C" for card in documented]
    if rest:
        told.append(f"no document says where {say(rest)} does, and {LIMITS_C['gpu']} C is below all that are known")
    return "; ".join(told)


def _rejected(box: Box) -> Iterator[str]:
    passive = [card for card in box.cards if card.passive]
    if passive:
        yield f"fans of {say(passive)}: there are none, its heat counts for the chassis fans"
    for chip in box.hardware.cooling.chips:
        if chip.outputs and chip not in _fan_chips(box):
            yield f"{chip.name}: its own firmware drives it"


def _why_monitored(box: Box) -> str:
    if not box.hardware.cooling.bmc:
        return "there is no BMC"
    name = " ".join(word for word in (box.hardware.firmware.vendor, box.hardware.firmware.product) if word)
    if _zones(box):
        return f"the BMC of {name} takes duties"
    return f"no way to drive the fans of {name or 'this machine'} through its BMC is documented: its events are logged"


# -- what cannot be ------------------------------------------------------------------------------------------------


def _curve_faults(box: Box, curve: Curve) -> Iterator[Contradiction]:
    name, points = curve["name"], curve["points"]
    if not all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points):
        yield CURVES, f"has no points in {name}", "write them as [[40, 30], [80, 100]], Celsius and percent"
        return
    for (cooler, less), (hotter, more) in itertools.pairwise(points):
        if hotter <= cooler or more < less:
            fact = f"falls in {name} at [{hotter:g}, {more:g}], after [{cooler:g}, {less:g}]"
            yield CURVES, fact, "let temperatures rise, and no duty sink"
    limit, why = min(((_ceiling(box, source), source) for source in curve["sources"]), default=(0, ""))
    full = min((celsius for celsius, percent in points if percent >= 100), default=None)
    if full is None:
        yield CURVES, f"never reaches 100 % in {name}: it ends at {points[-1:]}", f"end it at 100 % below {limit} C"
    elif why and full >= limit:
        fact = f"reaches 100 % in {name} at [{full:g}, 100], and {why} slows down at {limit} C"
        yield CURVES, fact, f"reach 100 % below {limit} C"
    if curve["failsafe_percent"] != 100:
        yield CURVES, f"has a failsafe of {curve['failsafe_percent']} % in {name}", "a failsafe is 100 %"
    there = _there(box)
    for address in (*curve["sources"], *curve["outputs"]):
        if address.split("#")[0] not in there and "cooling" not in box.hardware.unknown:
            yield CURVES, f"names {address} in {name}, which this box lacks", f"there are {', '.join(sorted(there))}"
    for address in curve["outputs"]:
        if any(_nvml(card) == address and card.passive for card in box.cards):
            yield CURVES, f"drives {address} in {name}, a card without a fan", "leave it to the sources"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ceiling(box: Box, source: str) -> int:
    """Where what a source measures slows down, in Celsius."""
    cards = {_nvml(card): _limit(box, card) for card in box.cards}
    return cards.get(source, LIMITS_C["liquid" if source.startswith("liquidctl:") else "cpu"])


def _there(box: Box) -> set[str]:
    cooling = box.hardware.cooling
    return {
        *(_address(chip) for chip in cooling.chips if chip.place),
        *(_nvml(card) for card in box.cards if card.address),
        *(f"liquidctl:{cooler}" for cooler in cooling.aio),
        *(zone.split("#")[0] for zone in _zones(box)),
    }
