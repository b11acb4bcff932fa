"""The JSON document is a contract: its fields are listed here, and a change of one is a change of this list."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator, ValidationError
from report_cases import HOME, SCHEMA, compare

from provision import events, ledger, model, report
from provision.cli import cli
from provision.cli.render import SCHEMA as NAME
from provision.cli.render import json_document
from provision.model import Refusal
from provision.report import Report

PER_HOST = {"run", "host"}


def fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every field a document may have, as `hosts[].plan.reasons[].because: string`."""
    if "$ref" in schema:
        schema = {
            **SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]],
            **{k: v for k, v in schema.items() if k != "$ref"},
        }
    kinds = schema.get("type", "")
    if "const" in schema or "enum" in schema:
        kinds = "|".join(map(str, schema.get("enum", [schema.get("const")])))
    if "oneOf" in schema:
        yield f"{path}: object|null"
        yield from (
            field for option in schema["oneOf"] for field in fields(option, path) if not field.startswith(f"{path}:")
        )
        return
    yield f"{path}: {'|'.join(kinds) if isinstance(kinds, list) else kinds}"
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}" if path else name)
    if schema.get("items"):
        yield from fields(schema["items"], f"{path}[]")


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"] == {"const": NAME}


def test_fields_are_as_promised() -> None:
    """If this fails a consumer breaks: an addition is written to the list, anything else needs a new schema name."""
    compare(HOME / "fields.txt", "\n".join(fields(SCHEMA)) + "\n")


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        *((name, getattr(model, name)) for name in SCHEMA["$defs"] if hasattr(model, name)),
        ("RunRecord", ledger.RunRecord),
        ("Task", events.TaskFinished),
        ("Check", events.CheckFinished),
    ],
)
def test_the_schema_has_the_fields_of_the_words(name: str, cls: type[Any]) -> None:
    known = {field.name for field in dataclasses.fields(cls)}
    assert set(SCHEMA["$defs"][name]["properties"]) == known - (PER_HOST if name in ("Task", "Check") else set())


def test_the_schema_has_the_states_of_the_words() -> None:
    assert SCHEMA["$defs"]["HostOutcome"]["properties"]["state"]["enum"] == list(get_args(report.HostState))
    assert SCHEMA["$defs"]["Task"]["properties"]["state"]["enum"] == list(get_args(events.TaskState))
    assert SCHEMA["$defs"]["Check"]["properties"]["state"]["enum"] == list(get_args(events.CheckState))


@pytest.mark.parametrize("spoil", [{"surprise": 1}, {"exit_code": 7}, {"data": {"surprise": []}}, {"hosts": [{}]}])
def test_the_schema_can_refuse(spoil: dict[str, Any]) -> None:
    document = json_document(Report("apply", refusals=(Refusal("a", "b", "c"),)))
    Draft202012Validator(SCHEMA).validate(document)
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate({**document, **spoil})


@pytest.mark.parametrize(
    "argv",
    [
        "tiers",
        "tiers show budget",
        "tiers show nonsense",
        "catalog check",
        "history",
        "show",
        "doctor",
        "lab list",
        "lab images",
    ],
)
def test_verbs_without_hosts_print_the_same_document(argv: str) -> None:
    told = CliRunner().invoke(cli, [*argv.split(), "--output", "json"])
    Draft202012Validator(SCHEMA).validate(json.loads(told.stdout))
