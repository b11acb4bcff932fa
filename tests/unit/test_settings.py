"""`--set` is typed and judged by the roles' own specs, all faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import ProvisionError
from provision.settings import Registry, Setting, deep_merge, load_registry, parse_set, schema_of
from provision.solver import AREAS, GPU_ROLES

URL = {"type": "string", "pattern": "^https?://", "description": "it is not an address"}


def registry(**options: dict[str, Any]) -> Registry:
    """A registry of a role `r` with these options, and `mirrors` with one address in it."""
    settings = {
        name: Setting(name, "r", schema_of(option), option.get("default"), "") for name, option in options.items()
    }
    mirrors = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "hub": {"$ref": "#/$defs/url"},
            "python": {
                "type": "object",
                "properties": {"index": URL, "links": {"type": "array", "items": {"type": "string"}}},
            },
        },
        "$defs": {"url": URL},
    }
    return Registry({**settings, "mirrors": Setting("mirrors", "", mirrors, {"hub": "https://hub.example"}, "")})


SMALL = registry(
    r_text={"type": "str", "default": ""},
    r_choice={"type": "str", "default": "one", "choices": ["one", "two"]},
    r_path={"type": "path", "default": "/srv"},
    r_count={"type": "int", "default": 1},
    r_share={"type": "float", "default": 1.0},
    r_flag={"type": "bool", "default": False},
    r_list={"type": "list", "elements": "str", "default": []},
    r_kinds={"type": "list", "elements": "str", "choices": ["a", "b"], "default": []},
    r_free={"type": "dict", "default": {}},
    r_items={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "size": {"type": "int"}},
    },
    r_maybe={"type": "str"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("r_text=3.10", {"r_text": "3.10"}),  # YAML would make a number, 3.1, of it
        ("r_text=a=b", {"r_text": "a=b"}),
        ("r_text=", {"r_text": ""}),
        ("r_text=yes", {"r_text": "yes"}),
        ("r_choice=two", {"r_choice": "two"}),
        ("r_path=/data", {"r_path": "/data"}),
        ("r_count=12", {"r_count": 12}),
        ("r_share=0.5", {"r_share": 0.5}),
        ("r_share=2", {"r_share": 2}),
        ("r_flag=true", {"r_flag": True}),
        ("r_flag=no", {"r_flag": False}),
        ("r_list=[a, b]", {"r_list": ["a", "b"]}),
        ('r_list=["a"]', {"r_list": ["a"]}),
        ("r_free={a: {b: 1}}", {"r_free": {"a": {"b": 1}}}),
        ("r_items=[{name: a, size: 3}, {name: b}]", {"r_items": [{"name": "a", "size": 3}, {"name": "b"}]}),
        ("mirrors.hub=http://x", {"mirrors": {"hub": "http://x"}}),
        ("mirrors.python.index=http://x", {"mirrors": {"python": {"index": "http://x"}}}),
        ("mirrors.python.links=[/a]", {"mirrors": {"python": {"links": ["/a"]}}}),
        ('mirrors={"hub": "http://x"}', {"mirrors": {"hub": "http://x"}}),
    ],
)
def test_a_value_is_typed_by_its_spec(text: str, value: dict[str, Any]) -> None:
    assert parse_set([text], SMALL) == value


def test_several_arguments_reach_into_one_mapping() -> None:
    given_ = ["mirrors.hub=http://h", "mirrors.python.index=http://i", "mirrors.python.links=[/l]"]
    assert parse_set(given_, SMALL) == {
        "mirrors": {"hub": "http://h", "python": {"index": "http://i", "links": ["/l"]}}
    }


FORM = "write for example --set KEY=VALUE"
CHANGE = "change the value"


@pytest.mark.parametrize(
    ("texts", "subject", "fact", "hint"),
    [
        (
            ["r_cuont=1"],
            "--set r_cuont",
            "is not a setting",
            "did you mean r_count? otherwise see docs/settings.md",
        ),
        (["zzz=1"], "--set zzz", "is not a setting", "see docs/settings.md"),
        (["r_count"], "--set r_count", "is not of the form KEY=VALUE", FORM),
        (["=1"], "--set =1", "is not of the form KEY=VALUE", FORM),
        (["r_count=many"], "--set r_count", 'must be a whole number, not text: "many"', "write digits only"),
        (["r_count=1.5"], "--set r_count", "must be a whole number, not a number: 1.5", "write digits only"),
        (["r_count=true"], "--set r_count", "must be a whole number, not true or false: true", "write digits only"),
        (["r_count="], "--set r_count", "must be a whole number, not nothing: null", "write digits only"),
        (["r_flag=1"], "--set r_flag", "must be true or false, not a whole number: 1", "write true or false"),
        (["r_list=a"], "--set r_list", 'must be a list, not text: "a"', "write it as [one, other]"),
        (["r_list=[1]"], "--set r_list.0", "must be text, not a whole number: 1", 'put it in quotes: "1"'),
        (["r_free=[a]"], "--set r_free", 'must be a mapping, not a list: ["a"]', "write it as {key: value}"),
        (["r_choice=tow"], "--set r_choice", 'must not be "tow"', "did you mean two? otherwise use one, two"),
        (["r_kinds=[c]"], "--set r_kinds.0", 'must not be "c"', "use a, b"),
        (["r_path=data"], "--set r_path", 'must not be "data": it is not an absolute path', CHANGE),
        (["r_items=[{size: 1}]"], "--set r_items.0", "lacks name", "add name"),
        (
            ["r_items=[{name: a, szie: 1}]"],
            "--set r_items.0.szie",
            "is not known here",
            "did you mean size? otherwise use name, size",
        ),
        (["mirrors.hub=x"], "--set mirrors.hub", 'must not be "x": it is not an address', CHANGE),
        (
            ["mirrors.hbu=http://x"],
            "--set mirrors.hbu",
            "is not known here",
            "did you mean hub? otherwise use hub, python",
        ),
        (["r_count=1", "r_count=2"], "--set r_count", "is given twice, with different values", "keep one of the two"),
        (
            ["r_list=[a"],
            "--set r_list",
            "is neither YAML nor JSON: did not find expected ',' or ']'",
            "quote it for your shell",
        ),
    ],
)
def test_a_fault_is_told_in_plain_words(texts: list[str], subject: str, fact: str, hint: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        parse_set(texts, SMALL)
    assert [(said.subject, said.fact, said.hint) for said in caught.value.refusals] == [(subject, fact, hint)]


def test_files_named_on_the_controller_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "there.pem").touch()
    assert parse_set([f"mirrors.ca_bundle={tmp_path}/there.pem"])
    with pytest.raises(ProvisionError) as caught:
        parse_set(
            [
                f"mirrors.ca_bundle={tmp_path}/no.pem",
                "python_ml_environments=[{name: a, requirements: torch}, {name: b, requirements: /no.txt}]",
            ]
        )
    assert [(said.subject, said.fact) for said in caught.value.refusals] == [
        ("--set mirrors.ca_bundle", f"names a file that is not on this controller: {tmp_path}/no.pem"),
        (
            "--set python_ml_environments.1.requirements",
            "names a file that is not on this controller: /no.txt",
        ),
    ]


def test_all_faults_of_all_arguments_are_told_at_once() -> None:
    with pytest.raises(ProvisionError) as caught:
        parse_set(["r_count=many", "r_flga=true", "nonsense", "r_list=3"], SMALL)
    assert {said.subject for said in caught.value.refusals} == {
        "--set r_count", "--set r_flga", "--set nonsense", "--set r_list",
    }  # fmt: skip


def test_nothing_is_allowed_only_where_the_default_is_nothing() -> None:
    assert SMALL.validate({"r_maybe": None}, "x") == []
    assert len(SMALL.validate({"r_text": None}, "x")) == 1


def test_validation_names_its_source() -> None:
    (said,) = SMALL.validate({"r_count": "x"}, "inventory web1")
    assert said.subject == "inventory web1 r_count"


def test_a_mistyped_variable_is_told_from_somebodys_own() -> None:
    assert list(SMALL.strangers({"r_cuont": 1, "mirors": {}, "my_own": 2, "r_count": 3, "ansible_host": "x"})) == [
        "r_cuont",
        "mirors",
    ]


def test_every_role_is_in_the_registry_and_mirrors_is_nobodys() -> None:
    found = load_registry()
    assert set(found.roles()) == {"base", "docker", "uv", "python_ml", "model_cache", *GPU_ROLES, *AREAS}
    assert "mirrors" not in found.defaults()
    assert all(name.startswith(setting.role) for name, setting in found.settings.items())


def test_every_default_is_valid_for_its_own_spec() -> None:
    settings = load_registry().settings.values()
    assert len(settings) > 100
    assert [
        fault for each in settings for fault in load_registry().validate({each.name: each.default}, "default")
    ] == []


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_the_upper_layer_always_wins(below: dict[str, Any], above: dict[str, Any]) -> None:
    merged = deep_merge(below, above)
    assert deep_merge(merged, above) == merged
    assert set(merged) == set(below) | set(above)
