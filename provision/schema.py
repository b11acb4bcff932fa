"""JSON Schema faults as sentences. Tiers, mirrors and role settings are all judged here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.model import Refusal
from provision.nearest import did_you_mean

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_FORMS = {
    "true or false": "write true or false",
    "a whole number": "write digits only",
    "a list": "write it as [one, other]",
    "a mapping": "write it as {key: value}",
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a value: where in it (keys and indexes), the sentence, and what to do."""

    path: tuple[str | int, ...]
    fact: str
    hint: str


def faults(schema: Mapping[str, Any], value: Any) -> list[Fault]:
    """Everything that `schema` forbids in `value`, in the order of the document."""
    from jsonschema import Draft202012Validator

    found = list(Draft202012Validator(schema).iter_errors(value))
    mistyped = [error.absolute_path for error in found if error.validator == "type"]
    # A value of the wrong type is never one of the choices either; saying so twice helps nobody.
    found = [error for error in found if error.validator != "enum" or error.absolute_path not in mistyped]
    return sorted((fault for error in found for fault in _told(error)), key=lambda fault: [str(p) for p in fault.path])


def refusals(found: Iterable[Fault], place: Callable[[tuple[str | int, ...]], str]) -> list[Refusal]:
    """The faults as refusals; `place` says where a path stands (`tier.yml:7`, `--set`)."""
    return [Refusal(f"{place(fault.path)} {dotted(fault.path)}".strip(), fault.fact, fault.hint) for fault in found]


def dotted(path: Iterable[str | int]) -> str:
    """`("mirrors", "apt", "sources", 0)` as `mirrors.apt.sources.0`."""
    return ".".join(map(str, path))


def show(value: Any) -> str:
    """A value as the operator would write it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def type_name(value: Any) -> str:
    """What kind of thing a value is, in plain words."""
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((_WORDS[word] for kind, word in kinds if isinstance(value, kind)), "nothing")


def expected(schema: Mapping[str, Any]) -> str:
    """The type a schema asks for, in plain words."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    return " or ".join(_WORDS[kind] for kind in kinds) or "any value"


def _told(error: Any) -> Iterator[Fault]:
    path = tuple(error.absolute_path)
    rule, value, given = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", ()))
        for key in [key for key in given if key not in known]:
            yield Fault((*path, key), "is not known here", did_you_mean(str(key), known, f"use {', '.join(known)}"))
    elif rule == "required":
        missing = next(key for key in value if key not in given and f"'{key}'" in error.message)
        yield Fault(path, f"lacks {missing}", f"add {missing}")
    elif rule == "type":
        wanted = expected(error.schema)
        hint = f'put it in quotes: "{given}"' if wanted == "text" else _FORMS.get(wanted, "change the value")
        yield Fault(path, f"must be {wanted}, not {type_name(given)}: {show(given)}", hint)
    elif rule == "enum":
        choices = [str(choice) for choice in value if choice != ""]
        yield Fault(path, f"must not be {show(given)}", did_you_mean(str(given), choices, f"use {', '.join(choices)}"))
    else:
        yield Fault(path, f"must not be {show(given)}: {_rule(rule, value, error)}", "change the value")


def _rule(rule: str, value: Any, error: Any) -> str:
    said = {
        "minimum": f"the least is {value}",
        "maximum": f"the most is {value}",
        "minLength": "it is empty",
        "minItems": "it is empty",
        "uniqueItems": "an item stands in it twice",
        "pattern": error.schema.get("description", f"it does not match {value}"),
    }
    return str(said.get(rule, error.message))
