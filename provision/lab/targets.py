"""Bring throwaway targets up and down. Nothing is printed; every wait has a limit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from provision.errors import ProvisionError, refuse
from provision.lab import container, inventory, paths, record, vm
from provision.lab.podman import use_lock
from provision.lab.record import LabHost
from provision.lab.system import locked

DEFAULT_NAME = "demo"
DEFAULT_IMAGE = "debian-12"
DEFAULT_VM_IMAGE = "vm-debian-12"


class Known(Protocol):
    """What every image has."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...


class Kind(Protocol):
    """What containers and virtual machines have in common; `container` and `vm` are the two."""

    @property
    def IMAGES(self) -> Mapping[str, Known]: ...

    def create(self, name: str, image: str) -> tuple[LabHost, dict[str, Any]]: ...
    def states(self) -> dict[str, str]: ...
    def remove(self, name: str) -> None: ...
    def wind_down(self) -> None: ...


KINDS: Mapping[str, Kind] = {"container": container, "vm": vm}
IMAGES: Mapping[str, Known] = {**container.IMAGES, **vm.IMAGES}


def up(name: str = DEFAULT_NAME, image: str = DEFAULT_IMAGE) -> LabHost:
    """Bring a target up, or return the one that is up already. Seconds; a first use makes the image (minutes)."""
    paths.check_name(name)
    kind = _kind(image)
    try:
        with locked(use_lock(), shared=True), locked(paths.state_root() / "locks" / name):
            return _up(kind, name, image)
    except BaseException:
        with suppress(ProvisionError):  # what went wrong first is what is said
            kind.wind_down()
        raise


def _up(kind: Kind, name: str, image: str) -> LabHost:
    """`up` under the locks."""
    known = record.read(name)
    if known and _runs(LabHost(**known["host"])):
        if known["host"]["image"] != image:
            fact = f"is up already, with image {known['host']['image']} and not {image}"
            raise refuse(f"lab target {name}", fact, f"take it down first: provision lab down {name}")
        return LabHost(**known["host"])
    _clean(name)
    try:
        host, mirrors = kind.create(name, image)
        record.write(host, mirrors)
    except BaseException:
        _clean(name)
        raise
    _write_inventory()
    return host


def hosts() -> list[LabHost]:
    """Every target of this lab by name, with whether it runs now."""
    records = [LabHost(**found["host"]) for found in record.every()]
    with locked(use_lock(), shared=True):
        states = {kind: KINDS[kind].states() for kind in {host.kind for host in records}}
    return [replace(host, running=states[host.kind].get(host.name) == "running") for host in records]


def down(name: str = DEFAULT_NAME, *, every: bool = False) -> list[str]:
    """Remove a target, or every target of this lab, with all that belongs to it; the names that were removed."""
    if not every:
        paths.check_name(name)
    try:
        with locked(use_lock(), shared=True):
            chosen = _chosen(name, every)
            for each in chosen:
                with locked(paths.state_root() / "locks" / each):
                    _clean(each)
            _write_inventory()
    finally:
        for kind in KINDS.values():
            kind.wind_down()
    return chosen


def ssh_argv(name: str = DEFAULT_NAME, user: str = "") -> list[str]:
    """The command line that opens a shell on a target; append a command to run that instead."""
    paths.check_name(name)
    known = record.read(name)
    if known is None:
        raise refuse(f"lab target {name}", "does not exist", f"bring it up: provision lab up {name}")
    return record.ssh(LabHost(**known["host"]), user)


def is_virtual(image: str) -> bool:
    """Whether an image makes virtual machines."""
    return image in vm.IMAGES


def _kind(image: str) -> Kind:
    """The kind of target that an image makes, or a refusal that lists the images there are."""
    for kind in KINDS.values():
        if image in kind.IMAGES:
            return kind
    raise refuse(f"lab image {image!r}", "does not exist", f"choose one of: {', '.join(IMAGES)}")


def _runs(host: LabHost) -> bool:
    return KINDS[host.kind].states().get(host.name) == "running"


def _chosen(name: str, every: bool) -> list[str]:
    """The targets that `down` removes: those with a record, and those of which something else is left."""
    present = {known["host"]["name"] for known in record.every()}
    for kind in KINDS.values():
        present |= set(kind.states())
    if every:
        return sorted(present)
    if name not in present:
        raise refuse(f"lab target {name}", "does not exist", "see what there is: provision lab list")
    return [name]


def _clean(name: str) -> None:
    """Remove whatever there is of a target, whether it came up or not."""
    for kind in KINDS.values():
        kind.remove(name)
    shutil.rmtree(paths.host_folder(name), ignore_errors=True)


def _write_inventory() -> None:
    with locked(paths.state_root() / "locks" / "inventory.lock"):
        inventory.write(record.every())
