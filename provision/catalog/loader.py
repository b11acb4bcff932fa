"""Tiers from their files: the built-in ones by name, a user's own by path, every fault with its line."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provision import content
from provision.errors import ProvisionError, refuse
from provision.model import Refusal, Tier
from provision.nearest import did_you_mean
from provision.schema import Fault, faults, refusals
from provision.settings import Registry, deep_merge, load_registry, missing_files
from provision.yamlfile import Document, read_yaml

_SUFFIXES = (".yml", ".yaml")


def tiers() -> tuple[Tier, ...]:
    """The built-in tiers, the largest machines first."""
    loaded = [load_tier(path.stem) for path in _directory().glob("*.yml")]
    return tuple(sorted(loaded, key=lambda tier: (-tier.hardware["gpus"]["max"], -tier.hardware["memory_gb"])))


def load_tier(name_or_path: str) -> Tier:
    """A tier by its name, or by the path of a file (it has a slash or ends in .yml).

    Raises:
        ProvisionError: unknown name (with the nearest one), or every fault of the file and of those it extends.
    """
    chain, told = _chain(name_or_path)
    own = [document for document in chain if document.path.parent != _directory()]  # the others are proved by tests
    told += [refusal for document in own for refusal in _check(document)]
    registry = load_registry()
    merged: dict[str, Any] = {}
    if not told:
        for document in reversed(chain):
            merged = _over(merged, document.data, registry)
    if own and not told:
        told = refusals(faults(_schema(), merged), chain[0].place)  # what they leave out only shows in the whole
    if told:
        raise ProvisionError(told)
    return Tier(
        name=chain[0].path.stem,
        title=merged["title"],
        summary=merged["summary"],
        hardware=merged["hardware"],
        roles=tuple(merged["roles"]),
        settings=merged.get("settings", {}),
        not_managed_yet=merged.get("not_managed_yet", {}),
        workloads=tuple(merged.get("workloads", ())),
        origin=str(chain[0].path),
    )


def _directory() -> Path:
    return content.catalog_dir() / "tiers"


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(_SUFFIXES)


def _find(name: str, base: Path) -> Path:
    if _is_path(name):
        return base / Path(name).expanduser()
    known = sorted(path.stem for path in _directory().glob("*.yml"))
    if name not in known:
        hint = did_you_mean(name, known, "run: provision tiers")
        raise refuse(f"tier {name}", f"is not known; there are {', '.join(known)}", hint)
    return _directory() / f"{name}.yml"


def _chain(name: str) -> tuple[list[Document], list[Refusal]]:
    """The tier's own document, then each one it extends, as far as they can be read, and why not further."""
    chain = [read_yaml(_find(name, Path()))]
    try:
        while isinstance(chain[-1].data, dict) and isinstance(parent := chain[-1].data.get("extends"), str):
            chain.append(read_yaml(_parent(parent, chain)))
    except ProvisionError as error:
        return chain, list(error.refusals)
    return chain, []


def _parent(name: str, chain: Sequence[Document]) -> Path:
    """The file that the last document extends."""
    child = chain[-1]
    subject = f"{child.place(('extends',))} extends"
    try:
        path = _find(name, child.path.parent)
    except ProvisionError as error:
        raise refuse(subject, str(error), error.refusals[0].hint) from error
    if not path.exists():
        raise refuse(subject, f"{name}, which does not exist", "check the path; it is relative to the file")
    if path.resolve() in [document.path.resolve() for document in chain]:
        raise refuse(subject, f"{name}, which extends it", "break the circle")
    return path


@functools.cache
def _schema() -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads((content.catalog_dir() / "tier.schema.json").read_text(encoding="utf-8"))
    return schema


def _check(document: Document) -> list[Refusal]:
    """The faults of one file: its shape, then its settings and roles by the roles' own specs."""
    found = faults(_schema(), document.data)
    if isinstance(document.data, dict):
        registry = load_registry()
        settings, roles = document.data.get("settings"), document.data.get("roles")
        if isinstance(settings, dict):
            told = [*registry.faults(settings), *missing_files(settings)]
            found += [Fault(("settings", *f.path), f.fact, f.hint) for f in told]
        if isinstance(roles, list):
            found += _unknown_roles(roles, registry.roles())
    found.sort(key=lambda fault: document.line(fault.path))
    return refusals(found, document.place)


def _unknown_roles(roles: Sequence[Any], known: Sequence[str]) -> list[Fault]:
    return [
        Fault(("roles", index), f"is {role}, which is no role", did_you_mean(role, known, f"use {', '.join(known)}"))
        for index, role in enumerate(roles)
        if isinstance(role, str) and role not in known
    ]


def _over(below: Mapping[str, Any], above: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """A tier's file over the one it extends: two mappings key by key, settings as layers, the rest whole."""
    merged = {key: value for key, value in {**below, **above}.items() if key != "extends"}
    for key in ("hardware", "not_managed_yet"):
        merged[key] = deep_merge(below.get(key, {}), above.get(key, {}))
    merged["settings"] = registry.over(below.get("settings", {}), above.get("settings", {}))
    return merged
