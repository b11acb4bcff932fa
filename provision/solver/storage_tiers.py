"""Which disks a tier has: those that an earlier run took, those that are named, or empty ones that fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provision.contradictions import Contradiction
from provision.model import Disk, Volume
from provision.solver.box import Box
from provision.solver.disks import by_id, guard, known, label, named, what_is_on

FAST, ARCHIVE = "fast", "archive"
RECORD = "/var/lib/provision/storage/volumes.json"
_FITS = {FAST: "NVMe disk", ARCHIVE: "rotating disk"}
_LOST = "put it back, or go on without it: --skip storage; to give the tier up, delete it from the host's {record}"


@dataclass(frozen=True)
class Found:
    """A tier's disks, why these, and what is to be said of the others. `made`: it is there already."""

    because: str
    disks: tuple[Disk, ...] = ()
    level: str = "single"
    made: bool = False
    rejected: tuple[str, ...] = ()
    faults: tuple[Contradiction, ...] = ()
    warnings: tuple[str, ...] = ()


def find(box: Box) -> Mapping[str, Found]:
    """The fast tier and the archive, in this order."""
    if "disks" in box.hardware.unknown:
        return dict.fromkeys((FAST, ARCHIVE), Found("nobody looked at the disks"))
    made = {volume.name: volume for volume in box.hardware.volumes}
    return {
        name: _made(box, made[name]) if name in made else _named(box, name) if _pins(box, name) else _free(box, name)
        for name in (FAST, ARCHIVE)
    }


def setting(box: Box, tier: str, what: str) -> str:
    """The tier's mount point or file system; slashes at its end do not count."""
    return str(box.setting(f"storage_{tier}_{what}")).rstrip("/")


def _pins(box: Box, name: str) -> list[str]:
    return list(box.setting(f"storage_{name}"))


def _level(box: Box, name: str) -> str:
    if name in box.setting("storage_mirror"):
        return "mirror"
    return "lvm" if name in box.setting("storage_lvm") else "single"


def _may_go(box: Box, disk: Disk) -> bool:
    """Whether what is on it may be destroyed."""
    return any(name.rpartition("/")[2] in disk.by_id for name in box.setting("storage_wipe"))


def _made(box: Box, volume: Volume) -> Found:
    """A tier that is there stays what it is; where a disk of it is gone, or is not what it was, nothing is touched."""
    there = {name: named(box, name) for name in volume.disks}
    disks = tuple(disk for disk in there.values() if disk)
    gone = [name for name, disk in there.items() if disk is None]
    strange = [disk for disk in disks if disk.name not in volume.carried_by]
    if not gone and len(strange) == len(disks) and all(disk.empty or _may_go(box, disk) for disk in disks):
        told = f"the {volume.name} tier's {', '.join(map(label, disks))} lost what was on it: it is made anew"
        return Found("as before, and empty", disks, volume.level, warnings=(told,))
    faults = [*_lost(volume, disks, gone, strange), *_moved(box, volume, disks)]
    return Found("made by an earlier run", disks, volume.level, made=True, faults=tuple(faults))


def _lost(volume: Volume, disks: Sequence[Disk], gone: list[str], strange: list[Disk]) -> list[Contradiction]:
    hint = _LOST.format(record=RECORD)
    if not gone and not strange:
        return []
    if volume.level == "mirror" and any(disk.name in volume.carried_by for disk in disks):
        left = next(disk for disk in disks if disk.name in volume.carried_by)
        lost = [*gone, *(f"{label(disk)} (on it: {what_is_on(disk)})" for disk in strange)]
        fact = f"has a degraded mirror: {label(left)} (on it: {what_is_on(left)}) is left, and of it {lost[0]} is gone"
        return [("", fact, hint)]
    told = [("", f"lacks {name}, which the {volume.name} tier lies on", hint) for name in gone]
    for disk in strange:
        fact = f"finds no {volume.name} tier on {label(disk)} any more (on it: {what_is_on(disk)})"
        told.append(("", fact, hint))
    return told


def _moved(box: Box, volume: Volume, disks: Sequence[Disk]) -> list[Contradiction]:
    """Settings that want the tier elsewhere, or otherwise."""
    wanted = [named(box, name) for name in _pins(box, volume.name)]
    told = []
    if wanted and {disk.name if disk else "" for disk in wanted} != {disk.name for disk in disks}:
        fact = f"names {', '.join(_pins(box, volume.name))}, and the tier lies on {', '.join(volume.disks)}"
        told.append((f"storage_{volume.name}", fact, f"name {', '.join(volume.disks)}, and move the data yourself"))
    level = _level(box, volume.name)
    asked = level != "single" or wanted
    if asked and level != volume.level:
        which = "storage_mirror" if "mirror" in (level, volume.level) else "storage_lvm"
        fact = f"makes the {volume.name} tier {level}, and on {', '.join(volume.disks)} it is {volume.level}"
        told.append((which, fact, "leave it as it is: its data would be lost"))
    return told


def _named(box: Box, name: str) -> Found:
    """The disks that somebody named, where each may be taken."""
    which, level = f"storage_{name}", _level(box, name)
    disks, faults = [], []
    for pin in dict.fromkeys(_pins(box, name)):
        disk = named(box, pin)
        fault = _refused(box, pin, disk)
        if fault:
            faults.append((which, *fault))
        elif disk and disk not in disks:
            disks.append(disk)
    if not faults:
        faults += _misfits(name, which, level, disks)
    return Found("somebody named them", tuple(disks), level, faults=tuple(faults))


def _refused(box: Box, pin: str, disk: Disk | None) -> tuple[str, str] | None:
    """Why a named disk is not taken, and what to do next."""
    if disk is None:
        moving = next((each for each in box.hardware.disks if pin in (each.name, f"/dev/{each.name}")), None)
        if moving and by_id(moving):
            return f"names {pin}, and the next boot may give that name to another disk", f"use {by_id(moving)}"
        return f"names {pin}, and no disk of this box has that name", known(box)
    if told := guard(disk):
        system = told.startswith("the disk")
        return f"names {label(disk)}, {told}", "name another disk" if system else "unmount it first, or name another"
    if not disk.empty and not _may_go(box, disk):
        hint = f"name another, or give up what is on it: --set 'storage_wipe=[{label(disk)}]'"
        return f"names {label(disk)}, which is not empty: {what_is_on(disk)}", hint
    return None


def _misfits(name: str, which: str, level: str, disks: Sequence[Disk]) -> list[Contradiction]:
    told = ", ".join(map(label, disks))
    if level == "mirror" and (len(disks) != 2 or disks[0].size_bytes != disks[1].size_bytes):
        sizes = ", ".join(f"{label(disk)} with {disk.size_bytes} bytes" for disk in disks)
        return [("storage_mirror", f"wants two equal disks for {name}, and there is {sizes}", "name two of one size")]
    if level == "single" and len(disks) > 1:
        hint = f"join them: storage_mirror=[{name}] or storage_lvm=[{name}]; or name one"
        return [(which, f"names several disks, {told}, and nothing joins them", hint)]
    return []


def _free(box: Box, name: str) -> Found:
    """Empty disks of the kind that fits. Of several, one: the largest, unless somebody wants them joined."""
    kind, level = _FITS[name], _level(box, name)
    fitting = [disk for disk in box.hardware.disks if _fits(disk, name) and not _elsewhere(box, disk)]
    mine = sorted((disk for disk in fitting if _takes(box, disk)), key=lambda disk: (-disk.size_bytes, by_id(disk)))
    others = [disk for disk in fitting if disk not in mine]
    system = [disk for disk in others if guard(disk).startswith("the disk")]
    warnings = [] if mine else [_left_alone(disk, name) for disk in others if disk not in system]
    rejected = tuple(f"{name} on {label(disk)}: {_why_not(disk)}" for disk in others)
    if level == "mirror":
        pair = [disk for disk in mine if sum(disk.size_bytes == each.size_bytes for each in mine) > 1][:2]
        if len(pair) != 2 or pair[0].size_bytes != pair[1].size_bytes:
            fault = ("storage_mirror", f"wants two equal empty {kind}s for {name}, and there are none", known(box))
            return Found("no two equal disks are empty", rejected=rejected, faults=(fault,))
        return Found(f"two equal empty {kind}s", tuple(pair), level, rejected=rejected)
    if not mine:
        only = f"the only {kind} is the one this system runs from" if system and len(fitting) == len(system) else ""
        because = only or (f"no {kind} is free" if fitting else f"there is no {kind}")
        return Found(because, rejected=rejected, warnings=tuple(warnings))
    if level == "lvm" or len(mine) == 1:
        return Found(f"empty {kind}{'s' if len(mine) > 1 else ''}", tuple(mine), level, rejected=rejected)
    idle = f"{', '.join(label(disk) for disk in mine[1:])} stay{'s' if len(mine) == 2 else ''} empty"
    told = f"{idle}: to use more than one for {name}, set storage_mirror=[{name}] or storage_lvm=[{name}]"
    return Found(f"the largest empty {kind}", tuple(mine[:1]), level, rejected=rejected, warnings=(told,))


def _fits(disk: Disk, name: str) -> bool:
    """A stick or a virtual disk that says that it rotates is no archive."""
    return disk.transport == "nvme" if name == FAST else disk.rotational and disk.transport in ("sata", "sas")


def _elsewhere(box: Box, disk: Disk) -> bool:
    """Whether a tier has the disk already, or somebody named it for one."""
    made = any(set(volume.disks) & set(disk.by_id) for volume in box.hardware.volumes)
    return made or any(set(_pins(box, tier)) & set(disk.by_id) for tier in (FAST, ARCHIVE))


def _takes(box: Box, disk: Disk) -> bool:
    return bool(by_id(disk)) and not guard(disk) and (disk.empty or _may_go(box, disk))


def _why_not(disk: Disk) -> str:
    return "it has no stable name" if not by_id(disk) else guard(disk) or f"not empty: {what_is_on(disk)}"


def _left_alone(disk: Disk, name: str) -> str:
    if not by_id(disk):
        return f"/dev/{disk.name} is not used: it has no stable name"
    if disk.mounts:
        return f"{label(disk)} is left alone: on it is {what_is_on(disk)}"
    hint = f"to make it the {name} tier and lose that: --set 'storage_wipe=[{label(disk)}]'"
    return f"{label(disk)} is left alone: on it is {what_is_on(disk)}; {hint}"
