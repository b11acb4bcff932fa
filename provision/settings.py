"""What can be set: every role's variables by its argument specs, and the project's own `mirrors`.

Values come from tiers, inventories and `--set`; all are judged by the same schemas, and all faults are told at once.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provision import content
from provision.errors import ProvisionError
from provision.model import Refusal
from provision.nearest import did_you_mean, resembles
from provision.schema import Fault, expected, faults, refusals

MIRRORS = "mirrors"
_LIST = "see docs/settings.md"
_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "path": {"type": "string", "pattern": "^(/.*)?$", "description": "it is not an absolute path"},
    "raw": {},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}


@dataclass(frozen=True)
class Setting:
    """One variable: its role (empty for the project's own), JSON Schema, default and what it is for."""

    name: str
    role: str
    schema: Mapping[str, Any]
    default: Any
    description: str
    secret: bool = False


@dataclass(frozen=True)
class Registry:
    """All settings by name, in the order of the roles' specs."""

    settings: Mapping[str, Setting]

    def roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(setting.role for setting in self.settings.values() if setting.role))

    def defaults(self) -> dict[str, Any]:
        """The role defaults: the lowest layer of a plan. `mirrors` is not a role's variable and not among them."""
        return {name: setting.default for name, setting in self.settings.items() if setting.role}

    def mirrors(self) -> dict[str, Any]:
        """The public upstreams."""
        return dict(self.settings[MIRRORS].default)

    def known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of somebody's variables that are settings."""
        return {name: value for name, value in values.items() if name in self.settings}

    def strangers(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Variables that are no settings but have a role's prefix, or all but the name of one: name and a hint."""
        prefixes = tuple(f"{role}_" for role in self.roles())
        own = [name for name in values if name not in self.settings and not name.startswith("ansible_")]
        names = [name for name in own if name.startswith(prefixes) or resembles(name, self.settings)]
        return {name: did_you_mean(name, self.settings, _LIST) for name in names}

    def faults(self, values: Mapping[str, Any]) -> list[Fault]:
        """Unknown names, wrong types, forbidden choices: everything wrong in a mapping of settings."""
        found = []
        for name, value in values.items():
            if name not in self.settings:
                found.append(Fault((name,), "is not a setting", did_you_mean(str(name), self.settings, _LIST)))
            else:
                told = faults(self.settings[name].schema, value)
                found += [Fault((name, *fault.path), fault.fact, fault.hint) for fault in told]
        return found

    def over(self, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
        """A layer over another. A setting with declared keys (`mirrors`) is merged key by key, any other replaced."""
        structured = {name for name in above if name in below and "properties" in self.settings[name].schema}
        merged = {name: deep_merge(below[name], above[name]) for name in structured}
        return {**below, **above, **merged}

    def validate(self, values: Mapping[str, Any], source: str) -> list[Refusal]:
        """The faults of a layer as refusals that name `source` (`inventory web1`, `--set`)."""
        return refusals(self.faults(values), lambda _: source)


@functools.cache
def load_registry(roles: Path | None = None) -> Registry:
    """Read every role's specs and defaults, and the mirrors' schema. Quick enough to be done on each start."""
    found: dict[str, Setting] = {}
    for spec in sorted((roles or content.roles_dir()).glob("*/meta/argument_specs.yml")):
        role = spec.parent.parent
        defaults = _load(role / "defaults" / "main.yml") or {}
        for name, option in _load(spec)["argument_specs"]["main"].get("options", {}).items():
            found[name] = _setting(name, role.name, option, defaults.get(name))
    schema = json.loads((content.catalog_dir() / "mirrors.schema.json").read_text(encoding="utf-8"))
    default = _load(content.catalog_dir() / "mirrors.yml")
    found[MIRRORS] = Setting(MIRRORS, "", schema, default, schema["description"])
    return Registry(found)


def parse_set(texts: Sequence[str], registry: Registry | None = None) -> dict[str, Any]:
    """`KEY=VALUE` arguments as one layer of settings, typed by their specs. A dot reaches into a mapping.

    Text is taken as it stands (`3.12` stays text); lists and mappings are YAML or JSON.

    Raises:
        ProvisionError: with every fault of every argument.
    """
    registry = registry or load_registry()
    values: dict[str, Any] = {}
    told: list[Refusal] = []
    seen: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            told.append(Refusal(f"--set {text}", "is not of the form KEY=VALUE", "write for example --set KEY=VALUE"))
            continue
        key = key.strip()
        if seen.setdefault(key, value) != value:
            told.append(Refusal(f"--set {key}", "is given twice, with different values", "keep one of the two"))
            continue
        try:
            values = deep_merge(values, _nested(key.split("."), _typed(_schema_at(key, registry), value)))
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            told.append(Refusal(f"--set {key}", f"is neither YAML nor JSON: {problem}", "quote it for your shell"))
    told += refusals([*registry.faults(values), *missing_files(values)], lambda _: "--set")
    if told:
        raise ProvisionError(told)
    return values


def missing_files(values: Mapping[str, Any]) -> list[Fault]:
    """Files on the controller that a layer names and that are not there; for who reads layers, `resolve` being pure."""
    mirrors = values.get(MIRRORS)
    named: list[tuple[tuple[str | int, ...], Any]] = [
        (("base_ca_bundle",), values.get("base_ca_bundle")),
        ((MIRRORS, "ca_bundle"), mirrors.get("ca_bundle") if isinstance(mirrors, Mapping) else None),
    ]
    environments = values.get("python_ml_environments")
    for index, environment in enumerate(environments if isinstance(environments, list) else ()):
        lock = environment.get("requirements") if isinstance(environment, Mapping) else None
        if isinstance(lock, str) and lock.startswith("/"):
            named.append((("python_ml_environments", index, "requirements"), lock))
    return [
        Fault(path, f"names a file that is not on this controller: {file}", "check the path")
        for path, file in named
        if isinstance(file, str) and file and not Path(file).expanduser().is_file()
    ]


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A new mapping: `above` over `below`, key by key through mappings; lists and scalars replace."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def _setting(name: str, role: str, option: Mapping[str, Any], default: Any) -> Setting:
    text = option.get("description", "")
    description = " ".join(text) if isinstance(text, list) else str(text)
    return Setting(name, role, schema_of(option), default, description, bool(option.get("no_log")))


def schema_of(option: Mapping[str, Any]) -> dict[str, Any]:
    """An argument spec's option as JSON Schema."""
    kind = option.get("type", "str")
    if kind == "list":
        schema: dict[str, Any] = {"type": "array"}
        if "elements" in option:
            schema["items"] = schema_of({**option, "type": option["elements"], "required": True, "choices": None})
    elif kind == "dict":
        schema = {"type": "object"}
        if "options" in option:
            schema["properties"] = {name: schema_of(inner) for name, inner in option["options"].items()}
            schema["required"] = [name for name, inner in option["options"].items() if inner.get("required")]
            schema["additionalProperties"] = False
    else:
        schema = dict(_TYPES[kind])
    if option.get("choices"):
        target = schema.setdefault("items", {}) if kind == "list" else schema
        target["enum"] = list(option["choices"])
    if "type" in schema and option.get("default") is None and not option.get("required"):
        schema["type"] = [schema["type"], "null"]
    return schema


def _schema_at(key: str, registry: Registry) -> Mapping[str, Any]:
    """The schema of a dotted key; an empty one where there is none, which validation then tells."""
    name, *inner = key.split(".")
    schema: Mapping[str, Any] = registry.settings[name].schema if name in registry.settings else {}
    for part in inner:
        schema = schema.get("properties", {}).get(part, {})
        if "$ref" in schema:
            schema = registry.settings[name].schema["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _typed(schema: Mapping[str, Any], text: str) -> Any:
    if expected(schema) == "text":
        return text
    return yaml.load(text, Loader=yaml.CSafeLoader)


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)
