"""The settings of the chosen driver, each with why it was chosen and why not another. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provision.catalog.nvidia import Branch
from provision.comparison import either
from provision.contradictions import Contradiction
from provision.model import Driver
from provision.solver import driver
from provision.solver.box import BRANCH, MODULES, SOURCE, Box, Decision, by_architecture, kinds, say
from provision.solver.driver import Option, Way

FABRIC_MANAGER = "nvidia_driver_fabric_manager"
_HARDWARE = "hardware"
# Their boards have NVSwitches of the fourth generation (docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide).
_HIDDEN = ("10.0", "10.3")
_REPOSITORY = "cuda_repository_driver"


def plan(box: Box) -> tuple[Driver, dict[str, Decision]]:
    """The driver of a box whose cards have one, and what it makes of the settings."""
    if box.left_alone:
        because = f"it is that of {box.outside}" if box.outside else "somebody else brings it"
        return Driver("", "", "host"), {SOURCE: Decision("host", because, _HARDWARE)}
    option = driver.chosen(box)
    origin = option.origin
    found = {
        BRANCH: Decision(str(option.branch.number), *_why_branch(box, option)),
        MODULES: Decision(option.modules, *_why_modules(box, option)),
        SOURCE: Decision(origin.source, *_why_source(box, option)),
    }
    if origin.source == "cuda":
        found[_REPOSITORY] = Decision(True, "the driver comes from there", _HARDWARE)
    if box.hardware.nvswitches:
        found[FABRIC_MANAGER] = Decision(True, "there are NVSwitches, and CUDA needs it to use them", _HARDWARE)
    manager = box.pins.get(FABRIC_MANAGER, bool(box.hardware.nvswitches))
    return Driver(str(option.branch.number), option.modules, origin.source, origin.prebuilt, manager), found


def faults(box: Box) -> Iterator[Contradiction]:
    """A pin that would open or close NVIDIA's repository to the wrong driver."""
    source, pinned = plan(box)[0].source, box.pins.get(_REPOSITORY)
    if pinned is not None and pinned != (source == "cuda"):
        yield _REPOSITORY, f"is {str(pinned).lower()}, and the driver's source is {source}", "leave it out"


def warnings(box: Box, branch: Branch) -> Iterator[str]:
    """What the operator has to know of a driver of this branch."""
    if box.left_alone and not box.setting(BRANCH):
        newer = {way.branch.number for way in driver.ways(box.cards, box.nvidia)} - set(range(branch.number))
        yield f"the driver is left to {box.outside or 'you'}: it has to be of branch {either(sorted(newer))}"
    elif not box.left_alone:
        if box.outside:
            yield f"the modules are those of {box.outside}, whatever is installed here"
        if branch.status == "ended":
            yield f"driver {branch.number} is {driver.status(branch)}: it gets no more fixes"
    if box.hardware.nvswitches and box.pins.get(FABRIC_MANAGER) is False:
        yield "there are NVSwitches and no fabric manager is wanted: CUDA does not start without it"
    hidden = dict.fromkeys(card.product for card in box.cards if card.compute_capability in _HIDDEN)
    if hidden and not box.hardware.nvswitches and not box.left_alone:
        where = f"the NVSwitches of a board with {' and '.join(hidden)}"
        yield f"{where} do not show on the PCI bus: CUDA needs {FABRIC_MANAGER}=true there, and NVIDIA's nvlsm"


def _why_branch(box: Box, option: Option) -> tuple[str, str, tuple[str, ...]]:
    rejected = []
    for branch in box.nvidia.branches:
        others = [other for other in driver.here(box) if other.branch == branch]
        if branch != option.branch and others:
            rejected.append(f"{branch.number}: {_worse_branch(box, option, others)}")
    return f"{driver.status(option.branch)}, and it drives {kinds(box.cards)}", _HARDWARE, tuple(rejected)


def _worse_branch(box: Box, option: Option, others: Sequence[Option]) -> str:
    """Why not another branch, given everything that it is offered as here."""
    undriven = [card for card in box.cards if not any(other.drives(card) for other in others)]
    if undriven:
        return f"does not drive {say(undriven)}"
    fitting = [other for other in others if all(other.drives(card) for card in box.cards)]
    if not fitting:
        return "has no one flavour of modules that drives all cards"
    obstacles = [driver.obstacle(other, box) for other in fitting]
    if all(obstacles):
        return obstacles[0]
    best = next(other for other, obstacle in zip(fitting, obstacles, strict=True) if not obstacle)
    if best.branch.status != option.branch.status:
        return f"{driver.status(best.branch)}; {option.branch.number} is {option.branch.status}"
    if best.origin.prebuilt != option.origin.prebuilt:
        return f"its modules are built on the host; those of {option.branch.number} come signed"
    return f"older than {option.branch.number}"


def _why_modules(box: Box, option: Option) -> tuple[str, str, tuple[str, ...]]:
    flavours = [modules for modules in driver.FLAVOURS if modules != option.modules]
    rejected = []
    for modules in flavours:
        undriven = [card for card in box.cards if not Way(option.branch, modules).drives(card)]
        why = f"cannot drive {say(undriven)}" if undriven else "NVIDIA recommends the open ones for these cards"
        rejected.append(f"{modules}: {why}")
    known = driver.architectures(box.nvidia)
    bound = [name for name in by_architecture(box.cards) if known[name].modules == (option.modules,)]
    because = f"{' and '.join(bound)} takes no others" if bound else f"recommended for {kinds(box.cards)}"
    return because, _HARDWARE, tuple(rejected)


def _why_source(box: Box, option: Option) -> tuple[str, str, tuple[str, ...]]:
    built = "with prebuilt, signed modules" if option.origin.prebuilt else "with modules to be built on the host"
    because = f"{driver.archive(option.origin.source)} has it for {box.distribution}, {built}"
    others = [origin for origin in option.branch.origins if origin.distribution == box.distribution]
    rejected = [
        f"{origin.source}: {driver.archive(origin.source)} has it too"
        + (", to be built on the host" if option.origin.prebuilt and not origin.prebuilt else "")
        for origin in others
        if origin != option.origin
    ]
    return because, _HARDWARE, tuple(rejected)
