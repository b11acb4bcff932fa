"""What a box gets: driver, CUDA and frameworks for its cards, a plan for its disks, links, fans and kernel; or every
reason why not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from provision.catalog import Catalog
from provision.catalog.nvidia import Branch
from provision.contradictions import Contradiction
from provision.model import Driver
from provision.solver import because, cooling, driver, frameworks, kernel_tuning, network, storage, toolkit
from provision.solver.box import Box, Decision
from provision.solver.cards import identify, mig_faults, product_named

__all__ = ["GPU_ROLES", "NEED_CARDS", "Box", "Decision", "Solution", "faults", "identify", "product_named", "solve"]

GPU_ROLES = ("cuda_repository", "nvidia_driver", "cuda", "nvidia_container_toolkit", "gpu_power")
NEED_CARDS = frozenset((*GPU_ROLES, "docker", "python_ml"))
"""Roles whose plan depends on the cards: where none of them is applied, cards without a solution forbid nothing."""


class Area(Protocol):
    """A module that decides for one role of the machine's own parts."""

    def decisions(self, box: Box) -> Mapping[str, Decision]:
        """The role's settings that the hardware decides."""

    def faults(self, box: Box) -> list[Contradiction]:
        """Everything that forbids the role on this box."""

    def warnings(self, box: Box) -> list[str]:
        """What the operator should know of the plan."""

    def dropped(self, box: Box) -> str:
        """Why this box does not get the role; empty where it does."""


AREAS: Mapping[str, Area] = {"storage": storage, "network": network, "kernel_tuning": kernel_tuning, "cooling": cooling}
"""The areas by role."""


@dataclass(frozen=True)
class Solution:
    """The settings that the hardware decides, by name, and what the plan says besides."""

    decisions: Mapping[str, Decision]
    driver: Driver | None = None  # None: there is no card, or no driver for them and no role that needs one
    warnings: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)  # roles that this box does not get, each with why


def faults(box: Box, roles: Collection[str], catalog: Catalog) -> list[Contradiction]:
    """Everything that forbids a plan in which these roles are applied; an empty setting's name means the box itself."""
    undrivable = driver.faults(box)
    branch = None if undrivable or not box.cards else _branch(box)
    told = undrivable if NEED_CARDS & set(roles) else []
    if branch:
        told += because.faults(box)
    if "cuda" in roles and box.cards:
        told += toolkit.faults(box, branch)
    if "python_ml" in roles:
        told += frameworks.faults(box, branch, catalog)
    if "gpu_power" in roles and box.cards:
        told += mig_faults(box)
    return told + [fault for area in _areas(box, roles).values() for fault in area.faults(box)]


def solve(box: Box, roles: Collection[str], catalog: Catalog) -> Solution:
    """The plan for a box whose tier has these roles."""
    found = _solve_cards(box, roles, catalog)
    areas = _areas(box, roles).values()
    return replace(
        found,
        decisions={**found.decisions, **{name: each for area in areas for name, each in area.decisions(box).items()}},
        warnings=(*found.warnings, *(warning for area in areas for warning in area.warnings(box))),
        dropped={**found.dropped, **{role: why for role in AREAS if (why := AREAS[role].dropped(box))}},
    )


def _areas(box: Box, roles: Collection[str]) -> Mapping[str, Area]:
    """The areas of these roles that the box gets."""
    return {role: area for role, area in AREAS.items() if role in roles and not area.dropped(box)}


def _solve_cards(box: Box, roles: Collection[str], catalog: Catalog) -> Solution:
    """The plan for the cards of a box whose tier has these roles. Where `driver.faults` told something: without one."""
    if not box.cards or driver.faults(box):
        decided = frameworks.decisions(box, None, catalog)
        return Solution(decided, None, tuple(_unseen(box)), dict.fromkeys(GPU_ROLES, box.why_none))
    branch = _branch(box)
    decisions = {**frameworks.decisions(box, branch, catalog), toolkit.VERSIONS: toolkit.decision(box, branch)}
    wanted = box.pins.get(toolkit.VERSIONS, decisions[toolkit.VERSIONS].value) if "cuda" in roles else []
    if "nvidia_container_toolkit" in roles:
        decisions["docker_nvidia"] = Decision(True, "containers are to see the cards", "hardware")
    found, settings = because.plan(box)
    told = [*because.warnings(box, branch), *(toolkit.warnings(box, branch, wanted) if "cuda" in roles else ())]
    if "cuda_repository" not in roles and (wanted or (found.source == "cuda" and "nvidia_driver" in roles)):
        told.append("the tier has no role cuda_repository: set NVIDIA's CUDA repository up yourself")
    return Solution(decisions | settings, found, tuple(told), _dropped(found, wanted))


def _branch(box: Box) -> Branch:
    return driver.reference(box) if box.left_alone else driver.chosen(box).branch


def _dropped(found: Driver, toolkits: Collection[str]) -> dict[str, str]:
    dropped: dict[str, str] = {}
    if found.source == "host":
        dropped |= dict.fromkeys(("nvidia_driver", "gpu_power"), "the driver is not this system's own")
    if not toolkits:
        dropped["cuda"] = "there is no toolkit for it to install"
        if found.source != "cuda":
            dropped["cuda_repository"] = "neither the driver nor a toolkit comes from it"
    return dropped


def _unseen(box: Box) -> Iterator[str]:
    if box.outside == "Windows" and not box.cards:
        yield 'WSL shows no card by PCI id: where Windows has an NVIDIA GPU, name it, --assume-gpu "RTX 3080"'
