"""Which driver serves all cards of a box on its distribution: branch, flavour of kernel modules, origin. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from provision import comparison
from provision.catalog.nvidia import Architecture, Branch, Nvidia, Origin
from provision.comparison import either
from provision.contradictions import Contradiction
from provision.model import Card
from provision.solver.box import BRANCH, MODULES, SOURCE, VERSION, Box, by_architecture, say

ENROLLED = "nvidia_driver_mok_enrolled"
FLAVOURS = ("open", "proprietary")

_STATUS = ("long-term", "production", "new-feature", "ended")  # the order in which they are taken
_ARCHIVES = {"ubuntu": "Ubuntu's archive", "debian": "Debian's archive", "cuda": "NVIDIA's CUDA repository"}
_WITHOUT_FABRIC_MANAGER = ("debian",)
_KEYS = {"ubuntu": "/var/lib/shim-signed/mok/MOK.der", "debian": "/var/lib/dkms/mok.pub"}  # where DKMS keeps its own


@dataclass(frozen=True)
class Way:
    """A branch with one flavour of its kernel modules, from wherever it comes."""

    branch: Branch
    modules: str

    def drives(self, card: Card) -> bool:
        served = self.branch.open_architectures if self.modules == "open" else self.branch.proprietary_architectures
        return card.architecture in served


@dataclass(frozen=True)
class Option(Way):
    """A way to drive the cards that one origin offers for this distribution."""

    origin: Origin


def faults(box: Box) -> list[Contradiction]:
    """Everything that forbids a driver for these cards; without any, `chosen` finds one."""
    told = [*_outside(box), *_undrivable(box)]
    if told or not box.cards:
        return told
    if box.left_alone:
        return [*_declared(box)]
    offered = options(box)
    if not offered:
        return [_not_offered(box)]
    told = [*_pins(box, offered)]
    return told or [*_last_obstacles(box, [option for option in offered if _as_pinned(option, box)])]


def chosen(box: Box) -> Option:
    """The best option: long-term before other branches, then signed prebuilt modules, then the newest."""
    admissible = [option for option in options(box) if _as_pinned(option, box) and not obstacle(option, box)]
    current = [option for option in admissible if option.branch.status != "ended"]
    return min(current or admissible, key=lambda option: _rank(option, box))


def reference(box: Box) -> Branch:
    """The branch that a driver from outside is taken for: the one that was declared, else the one we would choose."""
    declared = box.setting(BRANCH)
    fitting = [way.branch for way in ways(box.cards, box.nvidia) if declared in ("", str(way.branch.number))]
    return min(fitting, key=lambda branch: (_STATUS.index(branch.status), -branch.number))


def ways(cards: Iterable[Card], nvidia: Nvidia) -> list[Way]:
    """Every branch and flavour that drives all of the cards."""
    return [way for way in _every(nvidia) if all(way.drives(card) for card in cards)]


def here(box: Box) -> list[Option]:
    """Everything that somebody offers for this distribution, whatever the cards."""
    return [
        Option(way.branch, way.modules, origin)
        for way in _every(box.nvidia)
        for origin in way.branch.origins
        if origin.distribution == box.distribution and way.modules in origin.modules
    ]


def options(box: Box) -> list[Option]:
    """What of it drives all cards."""
    return [option for option in here(box) if all(option.drives(card) for card in box.cards)]


def obstacle(option: Option, box: Box) -> str:
    """Why this box cannot have an option that drives its cards; empty where it can."""
    if box.hardware.nvswitches and option.origin.source in _WITHOUT_FABRIC_MANAGER:
        return f"{_ARCHIVES[option.origin.source]} has no fabric manager, which the NVSwitches need"
    if _unsigned(option, box):
        return "its modules are built on the host, and Secure Boot loads none that are not signed"
    return ""


def archive(source: str) -> str:
    """`ubuntu` as `Ubuntu's archive`."""
    return _ARCHIVES[source]


def status(branch: Branch) -> str:
    """What NVIDIA says of a branch: `a production branch that ends 2027-03`."""
    if branch.status == "ended":
        return f"a branch that ended {branch.ends}"
    return f"a {branch.status} branch" + (f" that ends {branch.ends}" if branch.ends else "")


def architectures(nvidia: Nvidia) -> dict[str, Architecture]:
    return {product.architecture.name: product.architecture for product in nvidia.products.values()}


# -- what forbids it ---------------------------------------------------------------------------------------------


def _outside(box: Box) -> Iterator[Contradiction]:
    pinned = box.setting(SOURCE)
    if box.outside == "Windows" and pinned not in ("", "host"):
        yield SOURCE, f"is {pinned}, and under WSL the driver is that of Windows", "leave it out"
    slices = [card for card, gpu in zip(box.cards, comparison.nvidia(box.hardware), strict=False) if gpu.virtual]
    if slices and pinned != "host" and not box.outside:
        fact = f"has a vGPU, which only the guest driver of its hypervisor's own version drives: {say(slices)}"
        yield "", fact, f"install that guest (GRID) driver, then set {SOURCE}=host"


def _undrivable(box: Box) -> Iterator[Contradiction]:
    """Cards that no driver drives, or none together, wherever it comes from."""
    if not box.cards or ways(box.cards, box.nvidia):
        return
    lost = by_architecture(card for card in box.cards if not ways([card], box.nvidia))
    for name, cards in lost.items():
        last = architectures(box.nvidia)[name].last_branch
        history = f"; NVIDIA's last branch for it was {last}" if last else ""
        fact = f"has {say(cards)} ({name}), which no driver of the catalogue drives{history}"
        yield "", fact, "take it out, or apply roles that need no card: --only base --only uv --only model_cache"
    rest = [card for card in box.cards if card.architecture not in lost]
    if rest and not ways(rest, box.nvidia):
        groups = by_architecture(rest)
        pairs = itertools.combinations(groups.values(), 2)
        at_odds = next((pair for pair in pairs if not ways([*pair[0], *pair[1]], box.nvidia)), groups.values())
        told = "; ".join(f"{say(cards)} needs {_needs(cards, box.nvidia)}" for cards in at_odds)
        yield "", f"has cards that no driver serves together: {told}", "put one kind of them into another machine"


def _needs(cards: Sequence[Card], nvidia: Nvidia) -> str:
    """`proprietary modules of 535 or 580 (Volta)`."""
    found = ways(cards, nvidia)
    flavours = {way.modules: [other.branch.number for other in found if other.modules == way.modules] for way in found}
    told = " or ".join(f"{modules} modules of {either(numbers)}" for modules, numbers in flavours.items())
    return f"{told} ({cards[0].architecture})"


def _not_offered(box: Box) -> Contradiction:
    fitting = ways(box.cards, box.nvidia)
    numbers = either(sorted({way.branch.number for way in fitting}))
    fact = f"needs driver {numbers} for {say(box.cards)}, and nobody offers that for {box.distribution}"
    return "", fact, f"install {_elsewhere(box)}, or bring a driver yourself and set {SOURCE}=host"


def _elsewhere(box: Box) -> str:
    """The distributions that have a driver with fixes for these cards."""
    current = [way.branch for way in ways(box.cards, box.nvidia) if way.branch.status != "ended"]
    places = {origin.distribution for branch in current for origin in branch.origins}
    return either(sorted(places - {box.distribution})) if places else "a distribution that NVIDIA still supports"


def _declared(box: Box) -> Iterator[Contradiction]:
    """A driver from outside: the branch that the user says it is has to drive the cards, and may have ended."""
    fitting = ways(box.cards, box.nvidia)
    if box.setting(BRANCH):
        if not any(_is(way, BRANCH, box.pins[BRANCH]) for way in fitting):
            yield _misfit(BRANCH, box, _every(box.nvidia))
    elif not box.setting(SOURCE) and all(way.branch.status == "ended" for way in fitting):
        yield _ended(box, fitting)


def _pins(box: Box, offered: Sequence[Option]) -> Iterator[Contradiction]:
    """Pins that no option has, each alone; else those that none has together."""
    pinned = [name for name in (VERSION, BRANCH, MODULES, SOURCE) if box.setting(name)]
    alone = [name for name in pinned if not any(_is(option, name, box.pins[name]) for option in offered)]
    yield from (_misfit(name, box, here(box)) for name in alone)
    if not alone and not any(_as_pinned(option, box) for option in offered):
        first, *others = pinned
        rest = ", ".join(f"{name}={box.pins[name]}" for name in others)
        yield first, f"is {box.pins[first]}, and nobody offers that with {rest}", "leave one of them out"


def _misfit(name: str, box: Box, every: Sequence[Way]) -> Contradiction:
    """Why a pin is none that the cards can have, given every way there is."""
    value = box.pins[name]
    driving = [way for way in every if all(way.drives(card) for card in box.cards)]
    current = [way for way in driving if way.branch.status != "ended"]
    fitting = sorted({_value(way, name) for way in current or driving})
    hint = f"use {'a version of ' if name == VERSION else ''}{either(fitting)}, or leave it out"
    like = [way for way in every if _is(way, name, value)]
    if name == SOURCE and not like:
        return name, f"is {value}, which has no driver for {box.distribution}", hint
    if not like:
        known = any(_is(Way(branch, ""), name, value) for branch in box.nvidia.branches)
        fact = f"which nobody offers for {box.distribution}" if known else "which the catalogue does not know"
        return name, f"is {value}, {fact}", hint
    undriven = [card for card in box.cards if not any(way.drives(card) for way in like)]
    if not undriven:
        return name, f"is {value}, and no one flavour of its modules drives all of {say(box.cards)}", hint
    groups = " and ".join(f"{say(cards)} ({kind})" for kind, cards in by_architecture(undriven).items())
    has = f", which only has {either(sorted({way.branch.number for way in like}))}" if name == SOURCE else ""
    return name, f"is {value}{has}, which does not drive {groups}", hint


def _last_obstacles(box: Box, fitting: Sequence[Option]) -> Iterator[Contradiction]:
    """What is left when cards, distribution and pins agree: the box itself, and branches that ended."""
    free = [option for option in fitting if not obstacle(option, box)]
    unsigned = [option for option in fitting if _unsigned(option, box)]
    if not free and unsigned:
        yield _secure_boot(box, unsigned)
    elif not free:
        yield SOURCE, f"is {box.setting(SOURCE)}: {obstacle(fitting[0], box)}", "leave it out"
    elif all(option.branch.status == "ended" for option in free) and not any(
        box.setting(name) for name in (SOURCE, BRANCH, VERSION)
    ):
        yield _ended(box, free)


def _ended(box: Box, fitting: Sequence[Way]) -> Contradiction:
    newest = max(fitting, key=lambda way: way.branch.number).branch
    fact = f"could only have driver {newest.number}, {status(newest)}, for {say(box.cards)} on {box.distribution}"
    return "", fact, f"install {_elsewhere(box)}, or set {BRANCH}={newest.number} and live without fixes"


def _secure_boot(box: Box, unsigned: Sequence[Option]) -> Contradiction:
    best = min(unsigned, key=lambda option: _rank(option, box))
    what = f"driver {best.branch.number} from {archive(best.origin.source)}"
    fact = f"has Secure Boot on, and the modules of {what} are built on it: the kernel loads none with an unknown key"
    enrol = f"mokutil --import {_KEYS[box.hardware.os.id]}, reboot, enrol the key at the console"
    steps = f"make a key as docs/selection.md says, {enrol}, then set {ENROLLED}=true"
    signed = any(not obstacle(option, box) for option in options(box))
    return "", fact, f"leave the pins out: others come signed; or {steps}" if signed else steps


def _unsigned(option: Option, box: Box) -> bool:
    secure = box.hardware.firmware.secure_boot is True
    return secure and not option.origin.prebuilt and not box.setting(ENROLLED)


def _every(nvidia: Nvidia) -> list[Way]:
    return [Way(branch, modules) for branch in nvidia.branches for modules in FLAVOURS]


# -- pins and ranks ----------------------------------------------------------------------------------------------


def _as_pinned(option: Option, box: Box) -> bool:
    return all(_is(option, name, box.pins[name]) for name in (SOURCE, BRANCH, MODULES, VERSION) if box.setting(name))


def _is(way: Way, name: str, value: str) -> bool:
    """Whether a way is what a pin says; a version means its branch."""
    return _value(way, name) == (value.partition(".")[0] if name == VERSION else value)


def _value(way: Way, name: str) -> str:
    if name == MODULES:
        return way.modules
    if name == SOURCE:
        return way.origin.source if isinstance(way, Option) else ""
    return str(way.branch.number)


def _rank(option: Option, box: Box) -> tuple[int, bool, int, int, bool]:
    known = architectures(box.nvidia)
    flavour = sum(known[name].modules.index(option.modules) for name in by_architecture(box.cards))
    own = option.origin.source == box.hardware.os.id
    return _STATUS.index(option.branch.status), not option.origin.prebuilt, -option.branch.number, flavour, not own
