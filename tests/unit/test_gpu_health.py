"""Judgements of cards, on recorded answers and on those answers with one thing broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from provision import gpu_health
from provision.catalog.nvidia import Architecture, Product
from provision.model import Card, Driver
from provision.nvidia_smi import SmiGpu, parse
from tests.unit.test_nvidia_smi import CASES, recorded

AMPERE = Architecture("Ampere", ("open", "proprietary"))
RTX_3080 = Product("10de:2206", "GeForce RTX 3080", "GA102", AMPERE, "8.6", bandwidth_gbs=760.0, fp16_tflops=59.5)
CARD = Card("0000:0c:00.0", "10de:2216", "GeForce RTX 3080", "Ampere", "8.6")
R595 = Driver("595", "open", "ubuntu")


def changed(name: str, replace: Mapping[str, str]) -> SmiGpu:
    text = recorded(name)
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new, 1)
    return parse(text).gpus[0]


def active(reason: str) -> dict[str, str]:
    tag = f"clocks_event_reason_{reason}"
    return {f"<{tag}>Not Active": f"<{tag}>Active"}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.xml")), ids=lambda path: path.stem)
def test_recorded_machines_are_sound(path: Path) -> None:
    lanes = {"0000:01:00.0": 8, "0000:02:00.0": 8} if path.stem == "rtx-2080-twice" else {}
    assert gpu_health.faults(parse(path.read_text(encoding="utf-8")), (), lanes=lanes) == []


def test_the_planned_card_with_the_planned_branch_is_sound() -> None:
    assert gpu_health.faults(parse(recorded("rtx-3080-595")), (CARD,), R595) == []


# The answer, what is changed in it, and what is then said of the card.
BROKEN = {
    "narrow": ("rtx-3080-595", {"<current_link_width>16x": "<current_link_width>4x"}, "4 of 16 PCIe lanes"),
    "slow under load": ("rtx-3080-595", {"<current_link_gen>4": "<current_link_gen>1"}, "generation 1 of 4"),
    "hot": ("rtx-3080-595", {"<gpu_temp>27 C": "<gpu_temp>95 C"}, "has 95 C, where it slows down"),
    "hot by margin": ("rtx-4000-sff-ada-595", {"<gpu_temp_tlimit>49 C": "<gpu_temp_tlimit>-2 C"}, "slows down"),
    "hw slowdown": ("rtx-3080-595", active("hw_slowdown"), "throttled (hw_slowdown)"),
    "hw thermal": ("rtx-3080-595", active("hw_thermal_slowdown"), "it is too hot"),
    "sw thermal": ("rtx-3080-595", active("sw_thermal_slowdown"), "the driver cools it"),
    "power brake": ("rtx-3080-595", active("hw_power_brake_slowdown"), "pulled the brake"),
    "capped though idle": ("rtx-3080-595", active("sw_power_cap"), "held back by its power cap at 142.33 of 320 W"),
    "dram error": ("a100-mig-535", {"<dram_uncorrectable>0": "<dram_uncorrectable>2"}, "2 uncorrectable"),
    "double bit error": (
        "v100s-460",
        {"<double_bit>\n\t\t\t\t\t<device_memory>0</device_memory>\n\t\t\t\t\t<texture_memory>N/A</texture_memory>\n\t\t\t\t\t<total>0":
         "<double_bit><device_memory>1</device_memory><total>1"},
        "1 uncorrectable",
    ),
    "retirement pending": (
        "v100s-460", {"<pending_retirement>No": "<pending_retirement>Yes"}, "waits to be taken out of use"
    ),
    "remap pending": (
        "rtx-4000-sff-ada-595", {"<remapped_row_pending>No": "<remapped_row_pending>Yes"}, "waits to be taken out"
    ),
    "remap failed": (
        "rtx-4000-sff-ada-595", {"<remapped_row_failure>No": "<remapped_row_failure>Yes"}, "nothing left to replace"
    ),
    "recovery": (
        "rtx-3080-595", {"<gpu_recovery_action>None": "<gpu_recovery_action>Reset"}, "the driver says: Reset"
    ),
    "reset required": ("a100-mig-535", {"<reset_required>No": "<reset_required>Yes"}, "the driver says: Reset"),
    "no value": ("rtx-3080-595", {"<fan_speed>0 %": "<fan_speed>ERR!"}, "fan_speed: ERR!"),
    "lost": ("rtx-3080-595", {"<gpu_temp>27 C": "<gpu_temp>[GPU is lost]"}, "[GPU is lost]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_thing_is_one_fault_that_names_the_card(name: str) -> None:
    answer, replace, said = BROKEN[name]
    text = recorded(answer)
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new, 1)
    smi = parse(text)
    found = gpu_health.faults(smi, ())
    assert len(found) == 1
    assert said in found[0]
    assert smi.gpus[0].address in found[0]


@pytest.mark.parametrize("name", ["rtx-3060-570", "rtx-3090-525", "rtx-pro-6000-max-q-590"])
def test_an_idle_card_may_drop_its_generation(name: str) -> None:
    gpu = changed(name, {})
    assert gpu.link.generation == 1
    assert gpu_health.slow_link(gpu) == []


def test_a_board_that_splits_its_lanes_is_no_fault_and_any_other_is() -> None:
    smi = parse(recorded("rtx-2080-twice"))
    assert gpu_health.faults(smi, (), lanes={"0000:01:00.0": 8, "0000:02:00.0": 8}) == []
    assert len(gpu_health.faults(smi, (), lanes={"0000:01:00.0": 16, "0000:02:00.0": 8})) == 1


def test_running_into_a_cap_under_load_is_what_a_cap_is_for() -> None:
    busy = changed("rtx-3080-595", {**active("sw_power_cap"), "142.33 W": "319.80 W"})
    assert busy.throttling == ("sw_power_cap",)
    assert gpu_health.held_back(busy) == []


def test_a_planned_card_that_is_not_seen_is_named_and_an_assumed_one_is_not_looked_for() -> None:
    smi = parse(recorded("rtx-3080-595"))
    gone = Card("0000:41:00.0", "10de:2206", "GeForce RTX 3080", "Ampere", "8.6")
    (said,) = gpu_health.missing(smi, (CARD, gone))
    assert said.startswith("GeForce RTX 3080 at 0000:41:00.0 is planned and not seen")
    assumed = Card("0000:41:00.0", "10de:2206", "GeForce RTX 3080", "Ampere", "8.6", assumed=True)
    assert gpu_health.missing(smi, (assumed,)) == []


def test_another_branch_than_the_planned_one() -> None:
    smi = parse(recorded("rtx-3080-595"))
    (said,) = gpu_health.wrong_branch(smi, Driver("580", "open", "ubuntu"))
    assert "595.58.03" in said
    assert "580" in said
    assert gpu_health.wrong_branch(smi, Driver("", "", "host")) == []
    assert gpu_health.wrong_branch(smi, None) == []


def test_persistence_is_judged_where_it_is_declared() -> None:
    off, on = parse(recorded("rtx-3080-595")), parse(recorded("rtx-3060-570"))
    assert len(gpu_health.faults(off, (), persistence=True)) == 1
    assert gpu_health.faults(on, (), persistence=True) == []


def test_a_warning_around_the_document_is_a_fault() -> None:
    smi = parse(recorded("rtx-3080-595") + "WARNING: infoROM is corrupted at gpu 0000:0C:00.0\n")
    assert gpu_health.faults(smi, ()) == ["nvidia-smi warns: WARNING: infoROM is corrupted at gpu 0000:0C:00.0"]


LOG = """\
Oct 26 10:00:00 box kernel: NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  595.58.03
Oct 26 10:01:00 box kernel: NVRM: Xid (PCI:0000:0c:00): 31, pid=4711, name=python, Ch 0000003b, intr 10000000. MMU Fault
Oct 26 10:02:00 box kernel: NVRM: Xid (PCI:0000:0c:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
Oct 26 10:03:00 box kernel: NVRM: Xid (PCI:0000:10:1c): 63, pid=1896, Row Remapper: New row marked for remapping
Oct 26 10:03:01 box kernel: NVRM: Xid (PCI:0000:10:1c): 63, pid=1896, Row Remapper: New row marked for remapping
Oct 26 10:04:00 box kernel: NVRM: Xid (0000:01:00): 999, something new
"""


def test_an_xid_says_which_card_how_often_and_what_to_do() -> None:
    off, row, new = gpu_health.xid_faults(LOG)
    assert off.startswith("GPU 0000:0c:00 reported Xid 79 once (the card fell off the bus): reboot the host")
    assert row.startswith("GPU 0000:10:1c reported Xid 63 2 times (a memory page or row was marked")
    assert "Xid 999 once" in new
    assert gpu_health.xid_faults("NVRM: loading NVIDIA UNIX Open Kernel Module\n") == []


@pytest.mark.parametrize("number", [13, 31, 43, 45, 48, 63, 64, 74, 79, 94, 95, 119, 120])
def test_the_well_known_xids_are_told_apart(number: int) -> None:
    line = f"kernel: NVRM: Xid (PCI:0000:01:00): {number}, pid=1, name=x\n"
    faults = gpu_health.xid_faults(line)
    assert len(faults) == (number not in (13, 31, 43, 45))
    assert "catalogue" not in "".join(faults)


def test_measured_figures_are_held_against_the_data_sheet() -> None:
    assert gpu_health.bandwidth_fault(RTX_3080, 680) is None
    said = gpu_health.bandwidth_fault(RTX_3080, 300) or ""
    assert said.startswith("GeForce RTX 3080 reaches 300 GB/s of memory bandwidth, and a sound one at least 494")
    assert gpu_health.matmul_fault(RTX_3080, 55) is None
    assert "reaches 20 TFLOPS" in (gpu_health.matmul_fault(RTX_3080, 20) or "")


def test_a_capped_card_is_held_against_its_share_of_power() -> None:
    assert gpu_health.matmul_fault(RTX_3080, 25) is not None
    assert gpu_health.matmul_fault(RTX_3080, 25, power_share=0.7) is None
    assert gpu_health.matmul_fault(RTX_3080, 25, power_share=2.0) is not None


def test_a_product_without_figures_is_not_judged() -> None:
    bare = Product("10de:0000", "a card", "GA000", AMPERE, "8.6")
    assert gpu_health.bandwidth_fault(bare, 1) is None
    assert gpu_health.matmul_fault(bare, 1) is None


UUID = "GPU-00000005-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("limit", "limits", "said"),
    [
        (0, {}, None),
        (320, {}, None),
        (500, {UUID: 320}, None),
        (250, {}, "GeForce RTX 3080 at 0000:0c:00.0 is capped at 320 W and not at 250 W"),
        (500, {}, "and not at 336 W"),
        (0, {"GPU-gone": 100}, "GPU-gone is to be capped and is not there"),
    ],
)
def test_caps_in_force_are_those_declared_within_the_cards_range(
    limit: int, limits: dict[str, float], said: str | None
) -> None:
    found = gpu_health.wrong_caps(parse(recorded("rtx-3080-595")), limit, limits)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_card_without_a_limit_cannot_hold_a_cap() -> None:
    text = recorded("rtx-3080-595").replace("320.00 W", "N/A").replace("336.00 W", "N/A")
    (said,) = gpu_health.wrong_caps(parse(text), 250, {})
    assert "is to be capped and has no power limit" in said
