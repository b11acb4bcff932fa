"""Which CUDA toolkits a box gets: what its driver was made for, and what compiles for its cards. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provision.catalog.nvidia import Branch, CudaRelease, parts
from provision.comparison import either
from provision.contradictions import Contradiction
from provision.solver.box import VERSION, Box, Decision, kinds, say

VERSIONS = "cuda_versions"


def decision(box: Box, branch: Branch) -> Decision:
    """The newest toolkit that came with this driver or an older one, and compiles for every card; or none."""
    rejected: list[str] = []
    for release in sorted(box.nvidia.cuda, key=lambda release: parts(release.version), reverse=True):
        why = _objection(release, box) or _newer_than_driver(release, box, branch)
        if not why:
            because = f"the newest that driver {branch.number} was made for and that compiles for {kinds(box.cards)}"
            return Decision([release.version], because, "hardware", tuple(rejected))
        rejected.append(f"{release.version}: {why}")
    return Decision([], "no release fits", "hardware", tuple(rejected))


def _objection(release: CudaRelease, box: Box) -> str:
    if box.distribution not in release.distributions:
        return f"NVIDIA's repository has none for {box.distribution}"
    lost = [card for card in box.cards if card.architecture not in release.architectures]
    return f"compiles nothing for {say(lost)}" if lost else ""


def _newer_than_driver(release: CudaRelease, box: Box, branch: Branch) -> str:
    pinned = box.setting(VERSION)
    ceiling = parts(pinned) if pinned else (branch.number, float("inf"))
    if parts(release.matched) <= ceiling:
        return ""
    return f"came with driver {release.matched}, which is newer than {pinned or branch.number}"


def faults(box: Box, branch: Branch | None) -> Iterator[Contradiction]:
    """Pinned toolkits that are not to be had, compile for no card, or need a newer driver."""
    known = {release.version: release for release in box.nvidia.cuda}
    for index, version in enumerate(box.setting(VERSIONS)):
        release = known.get(version)
        if release is None:
            yield VERSIONS, f"has {version}, which the catalogue does not know", f"use {either(known)}"
            continue
        lost = [card for card in box.cards if card.architecture not in release.architectures]
        if box.distribution not in release.distributions:
            fact = f"has {version}, of which NVIDIA's repository has none for {box.distribution}"
            yield VERSIONS, fact, "leave it out: the plan then takes one that is there"
        elif lost and index == 0:  # the others are beside it for who asks for them
            fact = f"has {version} first, which compiles nothing for {say(lost)}"
            yield VERSIONS, fact, "put one first that compiles for all cards"
        elif branch and release.floor > branch.number:
            fact = f"has {version}, which needs driver {release.floor} or newer, and the driver is {branch.number}"
            yield VERSIONS, fact, "leave it out: the plan then takes one that the driver serves"


def warnings(box: Box, branch: Branch, wanted: Sequence[str]) -> Iterator[str]:
    """No toolkit where one was to be expected, and one that the driver serves only in part."""
    if not wanted and VERSIONS not in box.pins:
        fact = f"NVIDIA's repository has none for {box.distribution} that compiles for all cards"
        yield f"no CUDA toolkit: {fact} and came with driver {branch.number} or an older one"
    for release in box.nvidia.cuda:
        if release.version in wanted and (why := _newer_than_driver(release, box, branch)):
            yield f"CUDA {release.version} {why}: programs that compile PTX when they run fail on it"
