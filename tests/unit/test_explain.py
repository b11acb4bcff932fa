"""`provision explain`: which decisions are shown, on what they rest, and how that reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from report_cases import SCHEMA

from provision.cli import cli
from provision.operations.explain import RESTS_ON, SHORT, subjects
from provision.settings import load_registry

LSPCI = Path(__file__).parents[1] / "cases" / "lspci" / "two-4090-and-intel" / "lspci.txt"


def explain(*words: str, output: str = "json", given: str | None = None) -> Any:
    file = "-" if given else str(LSPCI)
    argv = ["explain", "--tier", "workstation", "--hardware", file, "--os", "ubuntu-22.04", "--output", output, *words]
    told = CliRunner().invoke(cli, argv, input=given).stdout
    return json.loads(told) if output == "json" else told


def decisions(*words: str, given: str | None = None) -> dict[str, Any]:
    document = explain(*words, given=given)
    Draft202012Validator(SCHEMA).validate(document)
    return {decision["subject"]: decision for decision in document["data"]["decisions"]}


def test_what_a_decision_rests_on_stands_above_it() -> None:
    names = list(RESTS_ON)
    for name, below in RESTS_ON.items():
        assert all(names.index(other) < names.index(name) for other in below), name


def test_every_name_is_one_that_is_decided() -> None:
    settings = load_registry()
    assert set(RESTS_ON) <= {"distribution", "cards", "roles", *settings.settings}
    assert set(SHORT.values()) <= {*settings.roles(), *settings.settings}
    assert "mirrors" not in subjects()


def test_a_subject_is_shown_with_everything_it_rests_on() -> None:
    told = decisions("python")
    assert list(told)[:3] == ["distribution", "cards", "nvidia_driver_branch"]
    assert list(told)[-1] == "python_ml_python"
    assert told["cards"]["choice"] == "2x GeForce RTX 4090 (Ada, 8.9, 24 GiB)"
    assert told["cards"]["because"] == "the catalogue knows 10de:2684 at 0000:01:00.0, 10de:2684 at 0000:02:00.0"
    assert "docker_nvidia" not in told


def test_a_role_is_shown_with_its_settings_and_what_was_rejected() -> None:
    told = decisions("driver")
    assert told == decisions("nvidia_driver")
    assert {"roles", "nvidia_driver_branch", "nvidia_driver_modules", "nvidia_driver_source"} <= set(told)
    assert told["nvidia_driver_modules"]["rests_on"] == ["cards", "nvidia_driver_branch"]
    assert any(other.startswith("595: ") for other in told["nvidia_driver_branch"]["rejected"])


def test_without_a_subject_every_reason_of_the_plan_is_told_once() -> None:
    document = explain()
    told = [decision["subject"] for decision in document["data"]["decisions"]]
    reasons = {reason["subject"] for reason in document["hosts"][0]["plan"]["reasons"]}
    assert {name for name in reasons if not name.startswith("card ")} == set(told) - {"cards"}
    assert len(told) == len(set(told))


def test_a_setting_that_nobody_set_has_its_role_default() -> None:
    told = decisions("docker_live_restore")["docker_live_restore"]
    assert (told["because"], told["source"]) == ("the role's default", "catalogue")


def test_a_setting_of_a_role_that_is_not_applied_does_nothing() -> None:
    told = decisions("docker_live_restore", "--skip", "docker")["docker_live_restore"]
    assert told["because"] == "does nothing: docker is not applied"


def test_a_box_without_cards_says_so_and_which_roles_it_loses() -> None:
    intel = LSPCI.read_text(encoding="utf-8").splitlines()[0]
    told = decisions("roles", given=intel)
    assert told["cards"]["choice"] == "none"
    assert any(other.startswith("nvidia_driver: ") for other in told["roles"]["rejected"])


def test_a_card_that_is_only_assumed_is_told_once_and_as_one() -> None:
    told = decisions("--assume-gpu", "RTX-3080", given=LSPCI.read_text(encoding="utf-8").splitlines()[0])
    assert "card" not in told
    assert told["cards"]["choice"] == "GeForce RTX 3080 (Ampere, 8.6, 10 GiB, assumed)"
    assert told["cards"]["source"] == "--assume-gpu"


def test_it_reads_as_a_chain() -> None:
    shown = explain("nvidia_driver_modules", output="text")
    assert shown.startswith("explain, tier workstation, 1 host\n\nlspci  planned\n  distribution  ubuntu 22.04\n")
    assert '\n  nvidia_driver_modules  "open"\n    because   ' in shown
    assert "\n    rests on  cards, nvidia_driver_branch\n    not       proprietary: " in shown
    assert "make it so" not in shown
    assert "not managed yet" not in shown


@pytest.mark.parametrize("verb", ["plan", "explain"])
def test_a_refused_box_says_why_in_both(verb: str) -> None:
    cards = (
        "01:00.0 3D controller [0302]: NVIDIA Corporation GV100GL [Tesla V100 PCIe 32GB] [10de:1db6] (rev a1)\n"
        "02:00.0 VGA compatible controller [0300]: NVIDIA Corporation GB202 [GeForce RTX 5090] [10de:2b85] (rev a1)\n"
    )
    words = [verb, "--tier", "studio", "--hardware", "-", "--os", "ubuntu-24.04"]
    done = CliRunner().invoke(cli, words, input=cards)
    assert done.exit_code == 2
    assert "Tesla V100 PCIe 32GB at 0000:01:00.0" in done.stdout
    assert "GeForce RTX 5090 at 0000:02:00.0" in done.stdout
