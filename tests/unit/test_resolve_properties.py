"""What holds for every plan, whatever the layers say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog import load_catalog, load_tier
from provision.codec import from_data, to_data
from provision.errors import ProvisionError
from provision.model import Hardware, HostPlan
from provision.resolve import Choice, resolve

CASE = Path(__file__).parents[1] / "cases" / "resolve" / "budget_as_documented" / "hardware.json"
CATALOG = load_catalog()
TIER = load_tier("budget")
HARDWARE = from_data(Hardware, json.loads(CASE.read_text(encoding="utf-8")), "case")

VALUES = {
    "base_journal_max_use": st.sampled_from(["1G", "2G", "3G"]),
    "base_limits_nofile": st.integers(1024, 1048576),
    "docker_users": st.lists(st.sampled_from(["ana", "bo"]), max_size=2),
    "docker_live_restore": st.booleans(),
    "uv_index_url": st.sampled_from(["https://a.example", "https://b.example"]),
    "python_ml_python": st.sampled_from(["system", "3.12", "3.13"]),
}
LAYER = st.fixed_dictionaries({}, optional=VALUES)
MIRROR = st.sampled_from([{}, {"mirrors": {"python": {"index": "https://mirror.example"}}}])


def plan(tier: dict[str, Any], inventory: dict[str, Any], sets: dict[str, Any]) -> HostPlan:
    layers = [("inventory", inventory), ("--set", sets)]
    return resolve("box", HARDWARE, replace(TIER, settings=tier), layers, CATALOG)


@given(LAYER, LAYER, LAYER, MIRROR)
@settings(deadline=None)
def test_the_highest_layer_that_names_a_setting_decides_it(
    tier: dict[str, Any], inventory: dict[str, Any], sets: dict[str, Any], mirror: dict[str, Any]
) -> None:
    decided = plan(tier, {**inventory, **mirror}, sets).settings
    said = {**tier, **inventory, **sets}
    assert {name: decided[name] for name in said} == said


@given(LAYER, LAYER)
@settings(deadline=None)
def test_a_plan_is_complete_valid_and_has_a_reason_for_all_that_is_not_a_default(
    inventory: dict[str, Any], sets: dict[str, Any]
) -> None:
    found = plan({}, inventory, sets)
    defaults = CATALOG.settings.defaults()
    assert set(found.settings) == set(defaults)
    assert CATALOG.settings.validate(found.settings, "plan") == []
    explained = {reason.subject for reason in found.reasons}
    assert {name for name, value in found.settings.items() if value != defaults[name]} <= explained


@given(LAYER)
@settings(deadline=None, max_examples=25)
def test_a_plan_survives_json(sets: dict[str, Any]) -> None:
    found = plan({}, {}, sets)
    assert from_data(HostPlan, json.loads(json.dumps(to_data(found))), "plan") == found


@given(st.sets(st.sampled_from(TIER.roles)), st.sets(st.sampled_from(TIER.roles)))
@settings(deadline=None)
def test_only_and_skip_narrow_in_the_tiers_order_or_are_refused(only: set[str], skip: set[str]) -> None:
    choice = Choice(tuple(only), tuple(skip))
    wanted = tuple(role for role in TIER.roles if role not in skip and (role in only or not only))
    if only & skip or not wanted:
        with pytest.raises(ProvisionError):
            resolve("box", HARDWARE, TIER, [], CATALOG, choice)
    else:
        assert resolve("box", HARDWARE, TIER, [], CATALOG, choice).roles == wanted
