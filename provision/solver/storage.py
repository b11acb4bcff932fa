"""Which disks become the fast tier and the archive, and what is kept there. Pure.

A disk is taken by itself only where nothing is on it; what an earlier run made is known by the host's record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.contradictions import Contradiction
from provision.solver import disks, storage_tiers
from provision.solver.box import Box, Decision
from provision.solver.storage_tiers import ARCHIVE, FAST, Found

LAYOUT, WIPE, QUOTAS = "storage_layout", "storage_wipe", "storage_quotas"
# What other roles keep, and where on the fast tier.
_KEPT = {"model_cache_root": "models", "docker_data_root": "docker", "docker_containerd_root": "containerd"}
_OWN = {FAST: ("scratch",), ARCHIVE: ("datasets", "models", "outputs")}


def decisions(box: Box) -> dict[str, Decision]:
    """The layout, and the directories of other roles that belong on the fast tier."""
    found = storage_tiers.find(box)
    told = "; ".join(f"{name}: {tier.because}" for name, tier in found.items())
    rejected = tuple(line for tier in found.values() for line in tier.rejected)
    layout = [_drawn(box, name, tier) for name, tier in found.items() if tier.disks]
    decided = {LAYOUT: Decision(layout, told, "hardware", rejected)}
    # Without a fast tier, or one made in this run, data stay where they are; off a lost one nothing moves.
    if found[FAST].made or (found[FAST].disks and "storage" in box.roles):
        place = storage_tiers.setting(box, FAST, "mountpoint")
        for name, folder in _KEPT.items():
            decided[name] = Decision(f"{place}/{folder}", "the fast tier holds it", "hardware")
    return decided


def faults(box: Box) -> list[Contradiction]:
    """Disks that are named and must not be touched, tiers that lost a disk, and what no disks can be."""
    found = storage_tiers.find(box)
    taken = [disk for tier in found.values() for disk in tier.disks]
    told = [fault for tier in found.values() for fault in tier.faults]
    for disk in {disk.name: disk for disk in taken if taken.count(disk) > 1}.values():
        told.append(("storage_archive", f"names {disks.label(disk)}, which is in storage_fast too", "name it once"))
    if box.setting(LAYOUT):
        told.append(
            (LAYOUT, "is decided from the disks that are there", "name disks in storage_fast or storage_archive")
        )
    return told + _wipe_faults(box, taken) + _mountpoint_faults(box) + _quota_faults(box, found)


def warnings(box: Box) -> list[str]:
    """Disks that nobody named and that are left alone because something is on them, and permissions that are spent."""
    if "storage" not in box.roles:
        return []
    found = storage_tiers.find(box)
    told = [line for tier in found.values() for line in tier.warnings]
    kept = [disk for tier in found.values() if tier.made for disk in tier.disks]
    for name in box.setting(WIPE):
        if any(name in disk.by_id for disk in kept):
            told.append(f"{WIPE} still names {name}, which is in use: take it out of the inventory")
    return told


def dropped(box: Box) -> str:
    """Why this box does not get the role; empty where it does."""
    return f"the disks are those of {box.outside}" if box.outside else ""


def _drawn(box: Box, name: str, tier: Found) -> dict[str, Any]:
    place, filesystem = storage_tiers.setting(box, name, "mountpoint"), storage_tiers.setting(box, name, "filesystem")
    # A missing disk must not keep the machine from booting: a mirror that lost one starts after half a minute.
    options = ["noatime", "nofail", "x-systemd.device-timeout=90s"]
    if any(_below(path, place) for path in box.setting(QUOTAS)):
        options.append("prjquota")
    kept = [folder for setting, folder in _KEPT.items() if name == FAST and setting not in box.pins]
    sizes = [disk.size_bytes for disk in tier.disks]
    return {
        "name": name,
        "disks": [disks.by_id(disk) for disk in tier.disks],
        "level": tier.level,
        "filesystem": filesystem,
        "mountpoint": place,
        "options": options,
        "size_gb": (min(sizes) if tier.level == "mirror" else sum(sizes)) // 10**9,
        "holds": [f"{place}/{folder}" for folder in (*kept, *_OWN[name])],
    }


def _wipe_faults(box: Box, taken: Sequence[Any]) -> list[Contradiction]:
    told = []
    for name in box.setting(WIPE):
        disk = disks.named(box, name)
        if disk is None:
            told.append((WIPE, f"names {name}, and no disk of this box has that name", disks.known(box)))
        elif disk not in taken:
            guard = disks.guard(disk)
            why = guard or "which no tier takes"
            told.append((WIPE, f"names {disks.label(disk)}, {why}", "take it out"))
    return told


def _mountpoint_faults(box: Box) -> list[Contradiction]:
    fast, archive = (storage_tiers.setting(box, name, "mountpoint") for name in (FAST, ARCHIVE))
    if _below(fast, archive) or _below(archive, fast):
        return [("storage_archive_mountpoint", f"is {archive}, and the fast tier is at {fast}", "keep them apart")]
    return []


def _quota_faults(box: Box, found: Mapping[str, Found]) -> list[Contradiction]:
    told = []
    for path in box.setting(QUOTAS):
        name = next((each for each in found if _below(path, storage_tiers.setting(box, each, "mountpoint"))), "")
        if not name or not found[name].disks or path == storage_tiers.setting(box, name, "mountpoint"):
            told.append((QUOTAS, f"limits {path}, which is a directory of no tier", "name one below a mount point"))
        elif storage_tiers.setting(box, name, "filesystem") != "xfs":
            told.append((QUOTAS, f"limits {path}, and only xfs limits directories", "make the tier xfs, or drop it"))
    return told


def _below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
