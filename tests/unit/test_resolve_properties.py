"""What holds for every plan, whatever the layers say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog import TorchBuild, load_catalog, load_tier
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


# -- what no lock offers yet: a build for GPUs ----------------------------------------------------------------------

WITH_CUDA = replace(CATALOG, torch=(*CATALOG.torch, TorchBuild("cu126", "2.13.0", ("3.11", "3.12"), gpu=True)))


def cuda(python: str) -> list[tuple[str, dict[str, Any]]]:
    return [("--set", {"python_ml_python": python})]


def test_a_locked_cuda_build_is_chosen_for_an_nvidia_gpu() -> None:
    assert resolve("box", HARDWARE, TIER, [], WITH_CUDA).frameworks.torch_backend == "cu126"


def test_without_a_gpu_the_cpu_build_is_chosen() -> None:
    assert resolve("box", replace(HARDWARE, gpus=()), TIER, [], WITH_CUDA).frameworks.torch_backend == "cpu"


def test_a_cuda_build_without_a_gpu_is_refused() -> None:
    schema = {"type": "string", "enum": ["cpu", "cu126"]}
    name = "python_ml_torch_backend"
    registry = WITH_CUDA.settings
    wider = replace(registry, settings={**registry.settings, name: replace(registry.settings[name], schema=schema)})
    catalog = replace(WITH_CUDA, settings=wider)
    with pytest.raises(ProvisionError) as caught:
        resolve("box", replace(HARDWARE, gpus=()), TIER, [("--set", {name: "cu126"})], catalog)
    (said,) = caught.value.refusals
    assert (said.subject, said.fact) == (f"--set {name}", "is cu126, and the host has no NVIDIA GPU")
    without_python_ml = resolve(
        "box", replace(HARDWARE, gpus=()), TIER, [("--set", {name: "cu126"})], catalog, Choice(skip=("python_ml",))
    )
    assert "python_ml" not in without_python_ml.roles


def test_an_interpreter_that_the_chosen_build_does_not_cover_is_refused() -> None:
    with pytest.raises(ProvisionError) as caught:
        resolve("box", HARDWARE, TIER, cuda("3.13"), WITH_CUDA)
    assert caught.value.refusals[0].fact == "is 3.13; the lock of torch 2.13.0 covers 3.11, 3.12"
