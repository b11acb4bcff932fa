"""From a box, a tier and the user's settings to a plan with reasons, or to every reason why not. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provision import comparison, contradictions
from provision.catalog import Catalog, Distribution, TorchBuild
from provision.errors import ProvisionError
from provision.model import Frameworks, Hardware, HostPlan, OperatingSystem, Reason, Refusal, Tier
from provision.nearest import did_you_mean
from provision.schema import show
from provision.settings import MIRRORS
from provision.translate import role_variables

Layer = tuple[str, Mapping[str, Any]]
"""Where values come from (`inventory`, `--set`) and the values; later layers win over earlier ones."""

_ROTATING = ("json-file", "local")  # the log drivers that take max-size and max-file
_SAID = {"inventory": "the inventory says so", "--set": "the command line says so"}


@dataclass(frozen=True)
class Choice:
    """What one call asks for besides settings: `--only`, `--skip` and `--assume-gpu`."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    assume_gpu: str = ""  # a product, as the catalogue names it


@dataclass(frozen=True)
class Decision:
    """A setting's value, and who decided it why."""

    value: Any
    because: str
    source: str


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
    refusals = check(host, tier, layers, catalog, choice)
    refusals += _system_faults(host, hardware.os, catalog)
    if refusals:
        raise ProvisionError(refusals)
    decided = _decide(hardware, [(f"tier {tier.name}", tier.settings), *layers], catalog)
    settings = {name: decision.value for name, decision in decided.items()}
    roles = choose_roles(tier, choice)
    found = contradictions.of_host(settings, roles, hardware, catalog)
    if found:
        raise ProvisionError([_accuse(host, name, decided[name].source, fact, hint) for name, fact, hint in found])
    return HostPlan(
        host=host,
        tier=tier.name,
        os=hardware.os,
        roles=roles,
        frameworks=Frameworks(str(settings["python_ml_torch_backend"]), str(settings["python_ml_python"])),
        settings=settings,
        reasons=tuple(_reasons(hardware.os, tier, roles, decided, catalog)),
        shortfalls=comparison.shortfalls(tier, hardware),
        not_managed_yet=tier.not_managed_yet,
        warnings=(*comparison.warnings(tier, hardware), *_strangers(layers, catalog)),
    )


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
    if refusals:
        raise ProvisionError(refusals)
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


def _decide(hardware: Hardware, layers: Sequence[Layer], catalog: Catalog) -> dict[str, Decision]:
    """Every setting's value by precedence. A role variable that somebody sets beats what `mirrors` says about it."""
    registry = catalog.settings
    decided = {name: Decision(value, "the role's default", "catalogue") for name, value in registry.defaults().items()}
    for source, values in (("catalogue", {MIRRORS: registry.mirrors()}), *layers):
        for name, key, value in role_variables(values.get(MIRRORS, {})):
            decided[name] = Decision(value, f"{key} stands for it", source)
    decided |= _from_hardware(hardware, catalog)
    for source, values in layers:
        for name, value in registry.known(values).items():
            if name != MIRRORS:
                decided[name] = Decision(value, _SAID.get(source, "the tier says so"), source)
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


def _from_hardware(hardware: Hardware, catalog: Catalog) -> dict[str, Decision]:
    build, because = _torch_build(hardware, catalog)
    python, python_because = _python(hardware.os, build, catalog)
    return {
        "python_ml_torch_backend": Decision(build.backend, because, "hardware"),
        "python_ml_python": Decision(python, python_because, "hardware"),
        "model_cache_python": Decision(python, "as the environments", "hardware"),
    }


def _torch_build(hardware: Hardware, catalog: Catalog) -> tuple[TorchBuild, str]:
    gpus = comparison.nvidia(hardware)
    cpu = next(build for build in catalog.torch if not build.gpu)
    cuda = next((build for build in catalog.torch if build.gpu), None)
    if not gpus:
        return cpu, "there is no NVIDIA GPU, so torch computes on the CPU"
    if cuda is None:
        return cpu, f"{gpus[0].name} is there, but no CUDA build is locked yet, so torch computes on the CPU"
    return cuda, f"{gpus[0].name} is there"


def _python(system: OperatingSystem, build: TorchBuild, catalog: Catalog) -> tuple[str, str]:
    version = comparison.system_python(system, catalog)
    if version in build.pythons:
        return "system", f"the system's Python {version} is one that the torch {build.version} lock covers"
    covered = f"{build.pythons[0]} to {build.pythons[-1]}"
    return catalog.managed_python, f"the system's Python is {version}; the torch {build.version} lock covers {covered}"


def _reasons(
    system: OperatingSystem, tier: Tier, roles: Sequence[str], decided: Mapping[str, Decision], catalog: Catalog
) -> Iterator[Reason]:
    known = _distribution(system, catalog)
    note = known.note if known and known.note else "supported"
    yield Reason("distribution", f"{system.id} {system.version}", note, "hardware")
    narrowed = tuple(roles) != tier.roles
    because = "what --only and --skip leave of the tier's" if narrowed else "the tier's"
    yield Reason("roles", ", ".join(roles), because, "--only/--skip" if narrowed else f"tier {tier.name}")
    for name, decision in decided.items():
        setting = catalog.settings.settings[name]
        if decision.source != "catalogue" and setting.role in roles:
            value = "(secret)" if setting.secret else show(decision.value)
            yield Reason(name, value, decision.because, decision.source)


def _label(host: str, source: str) -> str:
    return f"inventory {host}" if source == "inventory" else source


def _accuse(host: str, name: str, source: str, fact: str, hint: str) -> Refusal:
    """A contradiction, laid at the door of the layer that set the value."""
    return Refusal(f"{_label(host, source)} {name}", fact, hint)


def _strangers(layers: Sequence[Layer], catalog: Catalog) -> Iterator[str]:
    for source, values in layers:
        for name, hint in catalog.settings.strangers(values).items():
            yield f"{source}: {name} is not a setting and does nothing; {hint}"
