"""What the solver decides for the fans of a box: which back ends, which curves, and what it refuses by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from selection_boxes import hardware, planned

from provision import content
from provision.errors import ProvisionError
from provision.model import Cooling, Firmware, Hardware, HostPlan, HwmonChip
from provision.solver.cooling import LIMITS_C, PROFILES

CORETEMP = HwmonChip("coretemp", 0, 0, 9, "platform/coretemp.0", "coretemp")
BOARD = HwmonChip("nct6798", 2, 2, 6, "platform/nct6775.656", "nct6775", ("pwm1", "pwm3"))
ADT7475 = HwmonChip("adt7475", 1, 4, 3, "i2c-*/*-002e", "adt7475", ("pwm1",))
RADEON = HwmonChip("amdgpu", 1, 1, 1, "pci0000:00/0000:03:00.0", "amdgpu", ("pwm1",))
CPU, PWM1, PWM3 = (
    "hwmon:coretemp@platform/coretemp.0",
    "hwmon:nct6798@platform/nct6775.656#pwm1",
    "hwmon:nct6798@platform/nct6775.656#pwm3",
)
SUPERMICRO, DELL = ("Supermicro", "Super Server"), ("Dell Inc.", "PowerEdge R730")


def box(
    cards: Sequence[str] = (), *chips: HwmonChip, maker: tuple[str, str] = ("ASUS", "ROG"), **cooling: Any
) -> Hardware:
    return replace(
        hardware("ubuntu-22.04", cards),
        cooling=Cooling(chips=chips, **cooling),
        firmware=Firmware(*maker),
    )


def settings(plan: HostPlan) -> dict[str, Any]:
    return {name.removeprefix("cooling_"): value for name, value in plan.settings.items() if name.startswith("cooling")}


def curves(plan: HostPlan) -> dict[str, dict[str, Any]]:
    return {curve["name"]: curve for curve in plan.settings["cooling_curves"]}


def test_chassis_fans_follow_the_processors_and_all_cards_and_each_card_its_own() -> None:
    plan = planned(box(["RTX 4090", "RTX 3090"], CORETEMP, BOARD), tier="workstation")
    found = curves(plan)
    first, second = "nvml:0000:01:00.0", "nvml:0000:02:00.0"
    assert {name: (each["sources"], each["outputs"]) for name, each in found.items()} == {
        "cpu": ([CPU], [PWM1, PWM3]),
        "gpus": ([first, second], [PWM1, PWM3]),
        "gpu 0000:01:00.0": ([first], [first]),
        "gpu 0000:02:00.0": ([second], [second]),
    }
    assert settings(plan)["modules"] == {"nct6798": "nct6775"}


def test_a_passive_card_heats_the_chassis_fans_and_has_none_of_its_own() -> None:
    plan = planned(box(["A100 PCIe 40GB"], CORETEMP, BOARD))
    assert [*curves(plan)] == ["cpu", "gpus"]
    (reason,) = (reason for reason in plan.reasons if reason.subject == "cooling_curves")
    assert any("its heat counts for the chassis fans" in why for why in reason.rejected)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("cards", [["RTX 4090"], ["H100 PCIe"], ["V100 PCIe 16GB"]])
def test_every_planned_curve_rises_and_is_full_before_anything_slows_down(cards: list[str], profile: str) -> None:
    given = box(cards, CORETEMP, BOARD, aio=("1e71:3008",))
    plan = planned(given, [f"cooling_profile={profile}"])
    for name, each in curves(plan).items():
        points = each["points"]
        assert points == sorted(points)
        assert [percent for _, percent in points] == sorted(percent for _, percent in points)
        limit = LIMITS_C["liquid" if "liquidctl" in each["sources"][0] else "gpu" if "gpu" in name else "cpu"]
        assert points[-1][1] == 100
        assert points[-1][0] < limit
        assert each["failsafe_percent"] == 100
    # What the solver plans, it accepts as somebody's own.
    assert curves(planned(given, [f"cooling_curves={json.dumps(plan.settings['cooling_curves'])}"])) == curves(plan)


def test_the_louder_profile_is_never_below_the_quieter() -> None:
    every = [curves(planned(box([], CORETEMP, BOARD), [f"cooling_profile={name}"]))["cpu"] for name in PROFILES]
    for quieter, louder in pairwise(every):
        assert all(
            more >= less and hotter <= cooler
            for (cooler, less), (hotter, more) in zip(quieter["points"], louder["points"], strict=True)
        )


@pytest.mark.parametrize(
    ("tier", "profile"), [("datacenter", "performance"), ("studio", "quiet"), ("workstation", "balanced")]
)
def test_a_tier_has_its_profile(tier: str, profile: str) -> None:
    plan = planned(box([], CORETEMP, BOARD), tier=tier)
    assert plan.settings["cooling_profile"] == profile
    assert curves(plan)["cpu"]["floor_percent"] == PROFILES[profile].floor_percent


def test_a_document_says_where_a_card_slows_down() -> None:
    found = curves(planned(box(["H100 PCIe"], CORETEMP, BOARD), ["cooling_profile=quiet"]))
    assert found["gpus"]["points"][-1] == [84, 100]


def test_without_a_processors_sensor_the_fan_chips_own_counts() -> None:
    (found,) = curves(planned(box([], ADT7475))).values()
    assert found["sources"] == ["hwmon:adt7475@i2c-*/*-002e"]


def test_a_chip_that_is_a_cards_own_is_left_alone() -> None:
    assert "cooling" not in planned(box([], CORETEMP, RADEON)).roles


def test_what_is_spared_is_not_driven() -> None:
    plan = planned(box(["RTX 4090"], CORETEMP, BOARD), ['cooling_spared=["nvml:*", "*#pwm3"]'])
    assert {output for each in curves(plan).values() for output in each["outputs"]} == {PWM1}


def test_a_liquid_cooler_whose_channels_are_known_is_driven_and_its_pump_kept_fast() -> None:
    plan = planned(box([], CORETEMP, aio=("1e71:3008",)), tier="studio")
    found = curves(plan)
    assert {name: each["outputs"] for name, each in found.items()} == {
        "fan 1e71:3008": ["liquidctl:1e71:3008#fan"],
        "pump 1e71:3008": ["liquidctl:1e71:3008#pump"],
    }
    assert min(percent for _, percent in found["pump 1e71:3008"]["points"]) == 60
    assert plan.settings["cooling_packages"] == ["liquidctl"]


def test_one_that_is_not_known_keeps_to_its_firmware_and_the_plan_says_so() -> None:
    plan = planned(box([], CORETEMP, BOARD, aio=("1b1c:0c32",)))
    assert any("1b1c:0c32 keeps to its own firmware" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("maker", "board", "outputs", "monitored"),
    [
        (SUPERMICRO, "X11DPG-OT-CPU", ["supermicro:#0", "supermicro:#1"], False),
        (SUPERMICRO, "H12SSL-i", ["supermicro:#0", "supermicro:#1"], False),
        (SUPERMICRO, "X9DRW", [], True),
        (SUPERMICRO, "", [], True),
        (DELL, "0H21J3", ["dell:"], False),
        (("Dell Inc.", "PowerEdge R740"), "", [], True),
        (("HPE", "ProLiant DL380 Gen10"), "", [], True),
    ],
)
def test_a_bmc_is_driven_where_its_commands_are_known_and_watched_elsewhere(
    maker: tuple[str, str], board: str, outputs: list[str], monitored: bool
) -> None:
    plan = planned(box(["A100 PCIe 40GB"], CORETEMP, maker=maker, bmc="/dev/ipmi0", board=board))
    assert {output for each in curves(plan).values() for output in each["outputs"]} == set(outputs)
    assert plan.settings["cooling_monitored"] is monitored
    assert plan.settings["cooling_packages"] == ["ipmitool"]
    assert any("only the chassis fans cool A100" in warning for warning in plan.warnings) is monitored


@pytest.mark.parametrize("kind", ["container:podman", "wsl"])
def test_what_has_no_fans_of_its_own_does_not_get_the_role(kind: str) -> None:
    given = replace(box([], CORETEMP, BOARD), firmware=Firmware(virtualization=kind))
    plan = planned(given, tier="workstation")
    assert "cooling" not in plan.roles
    (reason,) = (reason for reason in plan.reasons if reason.subject == "roles")
    assert any("cooling: the fans are those of" in why for why in reason.rejected)


@pytest.mark.parametrize("said", ["cooling_curves=[]", 'cooling_spared=["*"]'])
def test_who_wants_nothing_driven_any_more_gets_the_role_that_gives_it_back(said: str) -> None:
    plan = planned(box([], CORETEMP, BOARD), [said])
    assert "cooling" in plan.roles
    assert plan.settings["cooling_curves"] == []


def mine(**changes: Any) -> str:
    curve = {
        "name": "mine", "sources": [CPU], "outputs": [PWM1], "points": [[40, 30], [80, 100]], "hysteresis_c": 3,
        "floor_percent": 30, "failsafe_percent": 100,
    }  # fmt: skip
    return f"cooling_curves={json.dumps([{**curve, **changes}])}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": [[40, 30], [60, 20], [80, 100]]}, "falls in mine at [60, 20], after [40, 30]"),
        ({"points": [[40, 30], [40, 100]]}, "falls in mine at [40, 100]"),
        ({"points": [[40, 30], [80, 90]]}, "never reaches 100 % in mine: it ends at [[80, 90]]"),
        ({"points": []}, "never reaches 100 % in mine"),
        ({"points": [[40, "much"]]}, "has no points in mine"),
        ({"points": [[40, 30], [90, 100]]}, f"reaches 100 % in mine at [90, 100], and {CPU} slows down at 90 C"),
        ({"sources": ["nvml:0000:01:00.0"], "points": [[40, 30], [89, 100]]}, "0000:01:00.0 slows down at 89 C"),
        ({"failsafe_percent": 60}, "has a failsafe of 60 % in mine"),
        ({"outputs": ["hwmon:it87@platform/it87.552#pwm1"]}, "which this box lacks"),
        ({"outputs": ["nvml:0000:01:00.0"]}, "a card without a fan"),
    ],
)
def test_a_curve_that_would_not_be_safe_is_refused_with_its_point(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        planned(box(["H100 PCIe"], CORETEMP, BOARD), [mine(**change)])
    told = [str(refusal) for refusal in caught.value.refusals]
    assert any(said in text for text in told), told
    assert all(text.startswith("--set cooling_curves") for text in told)


def test_somebodys_own_curve_replaces_the_plans() -> None:
    plan = planned(box(["RTX 4090"], CORETEMP, BOARD), [mine()])
    assert [*curves(plan)] == ["mine"]
    assert settings(plan)["modules"] == {"nct6798": "nct6775"}


def test_places_forget_what_another_boot_numbers_otherwise() -> None:
    place = content.load(content.playbooks_dir() / "module_utils/provision_devices.py").place
    assert place("/sys/devices/i2c-1/1-002e/hwmon/hwmon1") == "i2c-*/*-002e"
    assert place("/sys/devices/platform/nct6775.656/hwmon/hwmon3") == "platform/nct6775.656"
    usb = "pci0000:00/0000:00:14.0/usb1/1-9/1-9:1.0/0003:1E71:2007"
    assert place(f"/sys/devices/{usb}.0005/hwmon/hwmon4") == f"{usb}.*"
    assert place("/sys/class/hwmon/hwmon0") == ""
