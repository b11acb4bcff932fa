"""`provision explain`: why a plan is as it is, from the cards upward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from provision.catalog import load_catalog
from provision.model import HostPlan, Reason, Refusal
from provision.nearest import did_you_mean
from provision.report import Report
from provision.schema import show
from provision.settings import Registry

# What each decision rests on, the lowest first; of the others every one is the word of a tier or of a user.
RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "distribution": (),
    "cards": (),
    "nvidia_driver_branch": ("distribution", "cards"),
    "nvidia_driver_modules": ("cards", "nvidia_driver_branch"),
    "nvidia_driver_source": ("distribution", "nvidia_driver_branch", "nvidia_driver_modules"),
    "nvidia_driver_fabric_manager": ("cards", "nvidia_driver_source"),
    "cuda_repository_driver": ("nvidia_driver_source",),
    "cuda_versions": ("distribution", "cards", "nvidia_driver_branch"),
    "python_ml_torch_backend": ("cards", "nvidia_driver_branch"),
    "python_ml_tensorflow_backend": ("cards", "nvidia_driver_branch"),
    "python_ml_python": ("distribution", "python_ml_torch_backend", "python_ml_tensorflow_backend"),
    "model_cache_python": ("python_ml_python",),
    "roles": ("cards", "nvidia_driver_source"),
    "docker_nvidia": ("cards", "roles"),
}
SHORT = {
    "driver": "nvidia_driver",
    "torch": "python_ml_torch_backend",
    "tensorflow": "python_ml_tensorflow_backend",
    "python": "python_ml_python",
}


@dataclass(frozen=True)
class Explained:
    """One decision about one host, with the subjects on which it rests."""

    host: str
    subject: str
    choice: str
    because: str
    source: str
    rejected: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()


def subjects() -> tuple[str, ...]:
    """What one may ask for: short names, the decisions of every plan, roles and settings."""
    settings = load_catalog().settings
    names = [name for name, setting in settings.settings.items() if setting.role]
    return tuple(dict.fromkeys((*SHORT, "cards", "distribution", "roles", *settings.roles(), *names)))


def unknown(asked: Iterable[str]) -> tuple[Refusal, ...]:
    """What of it nobody decides about."""
    known = subjects()
    hint = "see them all: provision explain without a SUBJECT; or docs/settings.md"
    return tuple(
        Refusal(f"subject {name}", "is nothing that is decided", did_you_mean(name, known, hint))
        for name in asked
        if name not in known
    )


def explained(report: Report, asked: tuple[str, ...]) -> Report:
    """The report of a plan with the decisions behind it in `data`: all of them, or those that `asked` rest on."""
    registry = load_catalog().settings
    plans = [outcome.plan for outcome in report.hosts if outcome.plan]
    decisions = [asdict(decision) for plan in plans for decision in _of_plan(plan, asked, registry)]
    return replace(report, data={**report.data, "decisions": decisions}) if plans else report


def _of_plan(plan: HostPlan, asked: tuple[str, ...], registry: Registry) -> list[Explained]:
    every = {decision.subject: decision for decision in _every(plan, asked, registry)}
    wanted = _chain(asked, every, registry) if asked else set(every)
    order = {name: at for at, name in enumerate(RESTS_ON)}
    chosen = [every[name] for name in sorted(every, key=lambda name: order.get(name, len(order))) if name in wanted]
    return [replace(one, rests_on=tuple(name for name in one.rests_on if name in every)) for one in chosen]


def _chain(asked: tuple[str, ...], every: Mapping[str, Explained], registry: Registry) -> set[str]:
    """The decisions that are asked for, and everything they rest on."""
    found: set[str] = set()
    left = [name for word in asked for name in _named(SHORT.get(word, word), every, registry)]
    while left:
        name = left.pop()
        if name in every and name not in found:
            found.add(name)
            left += every[name].rests_on
    return found


def _named(subject: str, every: Iterable[str], registry: Registry) -> list[str]:
    """One decision; of a role whether it is applied, and every setting of it that somebody decided."""
    if subject in registry.roles():
        return ["roles", *(n for n in every if n in registry.settings and registry.settings[n].role == subject)]
    return [subject]


def _every(plan: HostPlan, asked: Iterable[str], registry: Registry) -> Iterator[Explained]:
    yield _cards(plan)
    told = set()
    for reason in plan.reasons:
        if reason.subject.partition(" ")[0] != "card":  # they were told together
            told.add(reason.subject)
            yield _explained(plan, reason)
    for name in (SHORT.get(word, word) for word in asked):
        if name in registry.settings and name not in told:
            yield _explained(plan, _default(plan, name, registry))


def _cards(plan: HostPlan) -> Explained:
    if not plan.cards:
        return Explained(plan.host, "cards", "none", "the box shows no NVIDIA GPU", "hardware")
    kinds = Counter(map(str, plan.cards))
    choice = ", ".join(f"{count}x {kind}" if count > 1 else kind for kind, count in kinds.items())
    assumed = [card for card in plan.cards if card.assumed]
    known = ", ".join(f"{card.pci_id} at {card.address}" for card in plan.cards if not card.assumed)
    because = "; ".join(
        [*([f"the catalogue knows {known}"] if known else []), *(["--assume-gpu says so"] if assumed else [])]
    )
    return Explained(plan.host, "cards", choice, because, "--assume-gpu" if assumed else "hardware")


def _explained(plan: HostPlan, reason: Reason) -> Explained:
    rests_on = RESTS_ON.get(reason.subject, ())
    return Explained(plan.host, reason.subject, reason.choice, reason.because, reason.source, reason.rejected, rests_on)


def _default(plan: HostPlan, name: str, registry: Registry) -> Reason:
    """A setting that nobody decided about, and that does nothing where its role is not applied."""
    setting = registry.settings[name]
    value = "(secret)" if setting.secret else show(plan.settings.get(name, setting.default))
    applied = setting.role in plan.roles
    because = "the role's default" if applied else f"does nothing: {setting.role} is not applied"
    return Reason(name, value, because, "catalogue")
