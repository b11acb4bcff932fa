"""From a box, a tier and the user's settings to a plan with reasons, or to every reason why not. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provision import comparison, contradictions, solver
from provision.catalog import Catalog, Distribution
from provision.errors import ProvisionError
from provision.model import Card, Frameworks, Hardware, HostPlan, OperatingSystem, Reason, Refusal, Tier
from provision.nearest import did_you_mean
from provision.schema import show
from provision.settings import MIRRORS
from provision.solver import Box, Decision
from provision.translate import role_variables

Layer = tuple[str, Mapping[str, Any]]
"""Where values come from (`inventory`, `--set`) and the values; later layers win over earlier ones."""

_ROTATING = ("json-file", "local")  # the log drivers that take max-size and max-file
_FRAMEWORKS = ("torch_backend", "python", "tensorflow_backend")
_SAID = {"inventory": "the inventory says so", "--set": "the command line says so"}


@dataclass(frozen=True)
class Choice:
    """What one call asks for besides settings: `--only`, `--skip` and `--assume-gpu`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    assume_gpu: str = ""  # a product, as the catalogue names it


def resolve(
    host: str,
    hardware: Hardware,
    tier: Tier,
    layers: Sequence[Layer],
    catalog: Catalog,
    choice: Choice = Choice(),
) -> HostPlan:
    """What `host` should become. Precedence: catalogue < mirrors and hardware < tier < `layers`, in their order.

    Variables in `layers` that are no settings are left alone, with a warning where one looks like a mistyped setting.

    Raises:
        ProvisionError: everything that forbids the plan, at once.
    """
    _raise([*check(host, tier, layers, catalog, choice), *_system_faults(host, hardware.os, catalog)])
    chosen = choose_roles(tier, choice)
    every = [(f"tier {tier.name}", tier.settings), *layers]
    box = _box(host, hardware, every, chosen, catalog, choice)
    solution = solver.solve(box, tier.roles, catalog)
    decided = _decide(solution.decisions, every, catalog)
    roles = tuple(role for role in chosen if role not in solution.dropped)
    faults = [(name, decided[name].source if name else "", *why) for name, *why in solver.faults(box, chosen, catalog)]
    _raise([*(_accuse(host, *fault) for fault in faults), *_lost_roles(host, roles, solution.dropped, choice)])
    settings = {name: decision.value for name, decision in decided.items()}
    return HostPlan(
        host=host,
        tier=tier.name,
        os=hardware.os,
        roles=roles,
        frameworks=Frameworks(**{name: str(settings[f"python_ml_{name}"]) for name in _FRAMEWORKS}),
        settings=settings,
        cards=box.cards,
        driver=solution.driver,
        cuda=tuple(settings["cuda_versions"]) if solution.driver and "cuda" in tier.roles else (),
        reasons=tuple(_reasons(box, tier, roles, solution.dropped, decided, catalog)),
        shortfalls=comparison.shortfalls(tier, hardware, box.cards),
        not_managed_yet=tier.not_managed_yet,
        warnings=(*_warnings(box, tier, choice), *solution.warnings, *_strangers(layers, catalog)),
    )


def _raise(refusals: Sequence[Refusal]) -> None:
    if refusals:
        raise ProvisionError(refusals)


def check(
    host: str, tier: Tier | None, layers: Sequence[Layer], catalog: Catalog, choice: Choice = Choice()
) -> list[Refusal]:
    """Every fault of the input that shows before the host is looked at; without a tier, those of single values."""
    refusals: list[Refusal] = []
    try:
        if tier:
            choose_roles(tier, choice)
    except ProvisionError as error:
        refusals += error.refusals
    try:
        if choice.assume_gpu:
            solver.product_named(choice.assume_gpu, catalog.nvidia)
    except ProvisionError as error:
        refusals += error.refusals
    for source, values in layers:
        refusals += catalog.settings.validate(catalog.settings.known(values), _label(host, source))
    if tier and not refusals:
        every: dict[str, Decision] = {}
        for source, values in ((f"tier {tier.name}", tier.settings), *layers):
            every |= {name: Decision(value, "", source) for name, value in catalog.settings.known(values).items()}
        given = {name: decision.value for name, decision in every.items()}
        found = contradictions.of_settings({**catalog.settings.defaults(), **given})
        refusals += [
            _accuse(host, name, every[name].source if name in every else "catalogue", fact, hint)
            for name, fact, hint in found
        ]
    return refusals


def choose_roles(tier: Tier, choice: Choice) -> tuple[str, ...]:
    """The tier's roles, narrowed by `--only` and `--skip`, in the tier's order.

    Raises:
        ProvisionError: roles the tier does not have, a role in both, or none left.
    """
    refusals = []
    for option, names in (("--only", choice.only), ("--skip", choice.skip)):
        for name in names:
            if name not in tier.roles:
                hint = did_you_mean(name, tier.roles, f"use {', '.join(tier.roles)}")
                refusals.append(Refusal(f"{option} {name}", f"is no role of the tier {tier.name}", hint))
    for name in sorted(set(choice.only) & set(choice.skip)):
        refusals.append(Refusal(f"role {name}", "is both in --only and in --skip", "name it in one of the two"))
    roles = tuple(role for role in tier.roles if role not in choice.skip and (not choice.only or role in choice.only))
    if not roles and not refusals:
        refusals.append(Refusal("--skip", "leaves no role to apply", "skip fewer of them"))
    _raise(refusals)
    return roles


def _system_faults(host: str, system: OperatingSystem, catalog: Catalog) -> list[Refusal]:
    found = []
    if _distribution(system, catalog) is None:
        names = ", ".join(f"{known.id.capitalize()} {known.version}" for known in catalog.distributions)
        fact = f"runs {system.id} {system.version}, which is not supported"
        found.append(Refusal(host, fact, f"install one of {names}"))
    if system.architecture not in catalog.architectures:
        fact = f"has the architecture {system.architecture}, which is not supported"
        found.append(Refusal(host, fact, f"use a machine with {' or '.join(catalog.architectures)}"))
    return found


def _distribution(system: OperatingSystem, catalog: Catalog) -> Distribution | None:
    matching = (known for known in catalog.distributions if (known.id, known.version) == (system.id, system.version))
    return next(matching, None)


def _box(
    host: str,
    hardware: Hardware,
    layers: Sequence[Layer],
    roles: tuple[str, ...],
    catalog: Catalog,
    choice: Choice,
) -> Box:
    """What the solver looks at."""
    cards = _cards(host, hardware, roles, catalog, choice)
    return Box(hardware, cards, _pins(layers, catalog), catalog.settings.defaults(), catalog.nvidia, roles)


def _cards(host: str, hardware: Hardware, roles: Sequence[str], catalog: Catalog, choice: Choice) -> tuple[Card, ...]:
    """The box's cards; none where they are not known and no role that is applied asks for them."""
    try:
        return solver.identify(host, hardware, catalog.nvidia, choice.assume_gpu)
    except ProvisionError:
        if solver.NEED_CARDS & set(roles):
            raise
        return ()


def _warnings(box: Box, tier: Tier, choice: Choice) -> Iterator[str]:
    yield from comparison.warnings(tier, box.hardware)
    if choice.assume_gpu and not any(card.assumed for card in box.cards):
        yield f"--assume-gpu {choice.assume_gpu} changes nothing: the catalogue knows every card of the box"


def _pins(layers: Sequence[Layer], catalog: Catalog) -> dict[str, Any]:
    """What somebody has set, the last word of each setting. An empty text leaves the decision to the plan."""
    pins: dict[str, Any] = {}
    for _, values in layers:
        pins |= catalog.settings.known(values)
    return {name: value for name, value in pins.items() if value != ""}


def _decide(solved: Mapping[str, Decision], layers: Sequence[Layer], catalog: Catalog) -> dict[str, Decision]:
    """Every setting's value by precedence. A role variable that somebody sets beats what `mirrors` says about it."""
    registry = catalog.settings
    decided = {name: Decision(value, "the role's default", "catalogue") for name, value in registry.defaults().items()}
    for source, values in (("catalogue", {MIRRORS: registry.mirrors()}), *layers):
        for name, key, value in role_variables(values.get(MIRRORS, {})):
            decided[name] = Decision(value, f"{key} stands for it", source)
    pinned: dict[str, Decision] = {}
    for source, values in layers:
        for name, value in registry.known(values).items():
            pinned[name] = Decision(value, _SAID.get(source, "the tier says so"), source)
    pinned = {name: pin for name, pin in pinned.items() if name != MIRRORS and (pin.value != "" or name not in solved)}
    decided |= {**solved, **pinned}
    return decided | _log_options(decided, [source for source, _ in layers])


def _log_options(decided: Mapping[str, Decision], sources: Sequence[str]) -> dict[str, Decision]:
    """dockerd does not start with options that its log driver lacks: a driver chosen above them leaves them behind."""
    driver, options = decided["docker_log_driver"], decided["docker_log_options"]
    if driver.value in _ROTATING or not options.value or _rank(driver, sources) <= _rank(options, sources):
        return {}
    because = f"{show(options.value)} belongs to another log driver"
    return {"docker_log_options": Decision({}, because, driver.source)}


def _rank(decision: Decision, sources: Sequence[str]) -> int:
    return sources.index(decision.source) if decision.source in sources else -1


def _lost_roles(host: str, roles: Sequence[str], dropped: Mapping[str, str], choice: Choice) -> list[Refusal]:
    """Roles that were asked for by name and that this box does not get; or that none is left."""
    asked = [name for name in choice.only if name in dropped]
    found = [Refusal(f"--only {name}", f"is not applied to {host}: {dropped[name]}", "leave it out") for name in asked]
    if not roles and not found:
        found.append(Refusal(host, "gets none of the roles that are left", "skip fewer, or choose another tier"))
    return found


def _reasons(
    box: Box,
    tier: Tier,
    roles: Sequence[str],
    dropped: Mapping[str, str],
    decided: Mapping[str, Decision],
    catalog: Catalog,
) -> Iterator[Reason]:
    system = box.hardware.os
    known = _distribution(system, catalog)
    yield Reason("distribution", f"{system.id} {system.version}", (known and known.note) or "supported", "hardware")
    lost = tuple(f"{role}: {why}" for role, why in dropped.items() if role in tier.roles)
    asked = set(tier.roles) - set(dropped) != set(roles)
    because = "what --only and --skip leave of the tier's" if asked else "the tier's"
    source = "--only/--skip" if asked else f"tier {tier.name}"
    yield Reason("roles", ", ".join(roles), because, source, lost)
    for card in box.cards:
        because = "--assume-gpu says so" if card.assumed else f"{card.pci_id} is known to the catalogue"
        what = f"{card.product}: {card.architecture}, compute capability {card.compute_capability}"
        yield Reason(f"card {card.address}".strip(), what, because, "--assume-gpu" if card.assumed else "hardware")
    for name, decision in decided.items():
        setting = catalog.settings.settings[name]
        if decision.source != "catalogue" and setting.role in roles:
            value = "(secret)" if setting.secret else show(decision.value)
            yield Reason(name, value, decision.because, decision.source, decision.rejected)


def _label(host: str, source: str) -> str:
    return f"inventory {host}" if source == "inventory" else source


def _accuse(host: str, name: str, source: str, fact: str, hint: str) -> Refusal:
    """A contradiction, laid at the door of the layer that set the value, or of the host itself."""
    return Refusal(f"{_label(host, source)} {name}" if name else host, fact, hint)


def _strangers(layers: Sequence[Layer], catalog: Catalog) -> Iterator[str]:
    for source, values in layers:
        for name, hint in catalog.settings.strangers(values).items():
            yield f"{source}: {name} is not a setting and does nothing; {hint}"
