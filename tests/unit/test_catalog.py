"""The catalogue's files are sound, and every fault of a user's own tier is told at once, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.catalog import load_catalog, load_tier, tiers
from provision.catalog.loader import _check, _directory, _schema
from provision.contradictions import of_settings
from provision.errors import ProvisionError
from provision.schema import faults
from provision.settings import load_registry
from provision.translate import role_variables
from provision.yamlfile import read_yaml


def refusals(text: str | bytes, folder: Path) -> list[tuple[str, str, str]]:
    """What is said about a tier file, with `mine.yml` for its path."""
    path = folder / "mine.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProvisionError) as caught:
        load_tier(str(path))
    return [
        (said.subject.replace(str(path), "mine.yml"), said.fact.replace(f"{folder}/", ""), said.hint)
        for said in caught.value.refusals
    ]


def test_the_four_tiers_load_largest_first() -> None:
    assert [tier.name for tier in tiers()] == ["datacenter", "studio", "workstation", "budget"]


def test_the_tiers_document_the_missions_machines() -> None:
    hardware = {tier.name: tier.hardware for tier in tiers()}
    assert {name: (known["gpus"]["min"], known["gpus"]["max"]) for name, known in hardware.items()} == {
        "datacenter": (2, 4), "studio": (2, 2), "workstation": (1, 1), "budget": (1, 1),
    }  # fmt: skip
    assert {name: known["memory_gb"] for name, known in hardware.items()} == {
        "datacenter": 256, "studio": 64, "workstation": 128, "budget": 32,
    }  # fmt: skip
    assert hardware["studio"]["network"] == {"speed_mbps": 10000, "or_wifi": True}


@pytest.mark.parametrize("tier", tiers(), ids=lambda tier: tier.name)
def test_a_tier_says_plainly_what_is_not_managed(tier) -> None:
    assert "workloads" in tier.not_managed_yet
    assert all(": not managed yet" in said for said in tier.not_managed_yet.values())


@pytest.mark.parametrize("path", sorted(_directory().glob("*.yml")), ids=lambda path: path.stem)
def test_a_built_in_tier_is_sound(path: Path) -> None:
    """Its file is trusted when it is loaded."""
    assert _check(read_yaml(path)) == []


@pytest.mark.parametrize("tier", tiers(), ids=lambda tier: tier.name)
def test_a_tiers_settings_do_not_contradict_each_other(tier) -> None:
    assert of_settings({**load_registry().defaults(), **tier.settings}) == []


def test_the_public_mirrors_fit_their_schema() -> None:
    registry = load_registry()
    assert registry.validate({"mirrors": registry.mirrors()}, "mirrors.yml") == []


def test_every_mirror_reaches_a_role_and_says_by_default_what_the_role_does() -> None:
    """An address that stands in two files must not differ in them."""
    registry = load_registry()
    reached = {name: value for name, _, value in role_variables(registry.mirrors())}
    assert reached == {name: registry.defaults().get(name, "no such role variable") for name in reached}


def test_the_tier_schema_names_every_key_of_the_built_in_tiers() -> None:
    assert all(faults(_schema(), {"extends": tier.name, "hardware": tier.hardware}) == [] for tier in tiers())


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_the_backends_of_the_catalogue_can_be_asked_of_the_role(framework: str) -> None:
    choices = load_registry().settings[f"python_ml_{framework}_backend"].schema["enum"]
    assert {build.backend for build in getattr(load_catalog(), framework)} == set(choices)


def test_the_pythons_that_the_role_can_be_asked_for_run_every_gpu_build() -> None:
    catalog = load_catalog()
    choices = set(catalog.settings.settings["python_ml_python"].schema["enum"])
    assert {"system", catalog.managed_python} <= choices
    builds = (*catalog.torch, *catalog.tensorflow, *catalog.openvino)
    assert all(choices - {"system"} <= set(build.pythons) for build in builds)


def test_an_unknown_tier_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ProvisionError) as caught:
        load_tier("budgt")
    (said,) = caught.value.refusals
    assert (said.subject, said.fact, said.hint) == (
        "tier budgt",
        "is not known; there are budget, datacenter, studio, workstation",
        "did you mean budget? otherwise run: provision tiers",
    )


def test_an_unlike_name_gets_the_command_alone() -> None:
    with pytest.raises(ProvisionError) as caught:
        load_tier("xyzzy")
    assert caught.value.refusals[0].hint == "run: provision tiers"


def test_a_tier_of_ones_own_extends_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text(
        "extends: budget\nsettings: {base_limits_nofile: 5, mirrors: {huggingface: 'https://a.example'}}\n"
    )
    (tmp_path / "mine.yml").write_text(
        "extends: ./base.yml\ntitle: Mine\nhardware: {memory_gb: 64}\n"
        "settings: {mirrors: {python: {index: 'https://b.example'}}}\n"
    )
    tier, budget = load_tier(str(tmp_path / "mine.yml")), load_tier("budget")
    assert (tier.name, tier.title, tier.roles) == ("mine", "Mine", budget.roles)
    assert tier.hardware == {**budget.hardware, "memory_gb": 64}
    assert tier.settings == {
        **budget.settings,
        "base_limits_nofile": 5,
        "mirrors": {"huggingface": "https://a.example", "python": {"index": "https://b.example"}},
    }
    assert tier.origin == str(tmp_path / "mine.yml")


def test_all_faults_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """\
extends: budget
hardware:
  memory_gb: lots
  gpu: 3
settings:
  docker_live_restore: maybe
  dokcer_users: [a]
  mirrors:
    python:
      index: ftp://x
roles: [base, dcker]
sumary: x
"""
    assert refusals(text, tmp_path) == [
        ("mine.yml:3 hardware.memory_gb", 'must be a whole number, not text: "lots"', "write digits only"),
        (
            "mine.yml:4 hardware.gpu",
            "is not known here",
            "did you mean gpus? otherwise use gpus, cpus, memory_gb, nvme_gb, hdd_gb, network, cooling",
        ),
        (
            "mine.yml:6 settings.docker_live_restore",
            'must be true or false, not text: "maybe"',
            "write true or false",
        ),
        (
            "mine.yml:7 settings.dokcer_users",
            "is not a setting",
            "did you mean docker_users? otherwise see docs/settings.md",
        ),
        (
            "mine.yml:10 settings.mirrors.python.index",
            'must not be "ftp://x": it is not an http(s) or file URL',
            "change the value",
        ),
        (
            "mine.yml:11 roles.1",
            "is dcker, which is no role",
            f"did you mean docker? otherwise use {', '.join(sorted(load_registry().roles()))}",
        ),
        (
            "mine.yml:12 sumary",
            "is not known here",
            "did you mean summary? otherwise use extends, title, summary, hardware, workloads, roles, settings, "
            "not_managed_yet",
        ),
    ]


SPACES = "mend the line; YAML is indented with spaces, never tabs"


@pytest.mark.parametrize(
    ("text", "subject", "fact", "hint"),
    [
        (
            "extends: budget\n\ttitle: x\n",
            "mine.yml:2:1",
            "is not valid YAML: found a tab character that violates indentation",
            SPACES,
        ),
        (
            "extends: budget\ntitle: [a\n",
            "mine.yml:3:1",
            "is not valid YAML: did not find expected ',' or ']'",
            SPACES,
        ),
        (
            "extends: budget\ntitle: !vault x\n",
            "mine.yml:2:8",
            "is not valid YAML: could not determine a constructor for the tag '!vault'",
            SPACES,
        ),
        ("title: a\nextends: budget\ntitle: b\n", "mine.yml:3", "names the key title twice", "keep one of the two"),
        (
            "extends: budget\nhardware:\n  cooling: a\n  cooling: b\n",
            "mine.yml:4",
            "names the key hardware.cooling twice",
            "keep one of the two",
        ),
        ("- budget\n", "mine.yml:1", 'must be a mapping, not a list: ["budget"]', "write it as {key: value}"),
        ("", "mine.yml", "is empty", "write the tier into it; `provision tiers show budget` shows one"),
        (b"title: \xff\n", "mine.yml", "is not UTF-8 text (byte 7)", "save it as plain UTF-8 text"),
        (
            "title: \x07\n",
            "mine.yml",
            "holds a character YAML forbids: control characters are not allowed",
            "save it as plain text",
        ),
        ("extends: ./mine.yml\n", "mine.yml:1 extends", "./mine.yml, which extends it", "break the circle"),
        (
            "extends: budgt\n",
            "mine.yml:1 extends",
            "tier budgt is not known; there are budget, datacenter, studio, workstation",
            "did you mean budget? otherwise run: provision tiers",
        ),
        (
            "extends: ./no.yml\n",
            "mine.yml:1 extends",
            "./no.yml, which does not exist",
            "check the path; it is relative to the file",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_place(
    text: str | bytes, subject: str, fact: str, hint: str, tmp_path: Path
) -> None:
    assert refusals(text, tmp_path) == [(subject, fact, hint)]


def test_what_a_tier_that_extends_nothing_must_say(tmp_path: Path) -> None:
    assert refusals("title: x\n", tmp_path) == [
        ("mine.yml:1", "lacks summary", "add summary"),
        ("mine.yml:1", "lacks hardware", "add hardware"),
        ("mine.yml:1", "lacks roles", "add roles"),
    ]


def test_hardware_is_overridden_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("extends: budget\nhardware: {gpus: {min: 0}, network: {or_wifi: true}}\n")
    hardware, budget = load_tier(str(tmp_path / "mine.yml")).hardware, load_tier("budget").hardware
    assert hardware == {
        **budget, "gpus": {**budget["gpus"], "min": 0}, "network": {**budget["network"], "or_wifi": True},
    }  # fmt: skip


def test_what_a_tier_and_those_it_extends_all_leave_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text("title: a\nsummary: b\nhardware: {}\nroles: [base]\n")
    assert refusals("extends: ./base.yml\nhardware:\n  gpus: {min: 0}\n", tmp_path) == [
        ("mine.yml:3 hardware.gpus", "lacks max", "add max"),
        ("mine.yml:3 hardware.gpus", "lacks models", "add models"),
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError) as caught:
        load_tier(str(tmp_path / "no.yml"))
    assert str(caught.value) == f"{tmp_path}/no.yml does not exist"
