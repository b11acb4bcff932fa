"""The fan service on a real hwmon chip: a kernel driver over registers that the test heats and reads.

Nothing answers to the registers by itself, so what stands in them is what the service wrote. The drill's trace is left
in pytest's folder, as a table and a picture.
"""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.whole_machine import INTERVAL_S, WholeMachine
from tests.standins.trace_plot import plot

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def planned(machine: WholeMachine) -> dict[str, Any]:
    """The settings of the first apply's plan."""
    found: dict[str, Any] = machine.applied.host(machine.name)["plan"]["settings"]
    return found


@pytest.fixture(scope="module")
def drill(machine: WholeMachine) -> dict[str, Any]:
    return machine.drill


def duty(points: list[list[float]], celsius: float) -> float:
    if celsius <= points[0][0]:
        return points[0][1]
    for (cooler, less), (hotter, more) in pairwise(points):
        if celsius <= hotter:
            return less + (more - less) * (celsius - cooler) / (hotter - cooler)
    return 100


def test_the_plan_drives_the_chip_by_name_and_place(planned: dict[str, Any]) -> None:
    (curve,) = planned["cooling_curves"]
    assert curve["sources"] == ["hwmon:adt7475@i2c-*/*-002e"]
    assert curve["outputs"] == [f"hwmon:adt7475@i2c-*/*-002e#pwm{number}" for number in (1, 2, 3)]
    assert planned["cooling_modules"] == {"adt7475": "adt7475"}


def test_on_the_way_up_the_register_holds_what_the_curve_says(planned: dict[str, Any], drill: dict[str, Any]) -> None:
    points = planned["cooling_curves"][0]["points"]
    assert len(drill["steps"]["up"]) == 6
    for celsius, register, _ in drill["steps"]["up"]:
        assert register == math.ceil(duty(points, celsius) * 255 / 100), f"{celsius} C"
    assert drill["steps"]["up"][-1][1] == 255


def test_the_register_follows_within_one_interval(drill: dict[str, Any]) -> None:
    """Counted in the service's looks, of which each interval has one: a second on the wall says little where the
    machine is emulated. The look that was under way when the sensor changed may end without it; the next one has it.
    """
    assert [step for way in ("up", "down") for step in drill["steps"][way] if step[2] > 1] == []
    assert min(later - earlier for earlier, later in pairwise(drill["looks"])) < 2 * INTERVAL_S


def test_on_the_way_down_it_stays_within_the_hysteresis(planned: dict[str, Any], drill: dict[str, Any]) -> None:
    curve = planned["cooling_curves"][0]
    registers = [register for _, register, _ in drill["steps"]["down"]]
    assert registers == sorted(registers, reverse=True)
    assert registers[-1] < registers[0]
    for celsius, register, _ in drill["steps"]["down"]:
        least, most = duty(curve["points"], celsius), duty(curve["points"], celsius + curve["hysteresis_c"])
        assert math.ceil(least * 255 / 100) <= register <= math.ceil(most * 255 / 100), f"{celsius} C"


@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP", "faulty sensor", "modprobe -r", "rmmod", "bad configuration"])
def test_whatever_fails_the_register_reaches_full_and_then_the_curve_again(drill: dict[str, Any], fault: str) -> None:
    """The drill itself waits for both, and ends where either does not come."""
    registers = [register for _, phase, _, register, _ in drill["trace"] if phase in (fault, f"after {fault}")]
    assert 255 in registers
    assert registers[-1] < 255
    assert {fault, f"after {fault}"} <= set(drill["seconds"])


def test_a_bad_configuration_is_refused_by_the_service(drill: dict[str, Any]) -> None:
    assert drill["refused"] == "failed"


def test_the_trace_is_kept_and_drawn(drill: dict[str, Any], tmp_path: Path) -> None:
    rows = drill["trace"]
    with (tmp_path / "cooling-trace.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("seconds", "phase", "celsius", "pwm", "control"), *rows])
    (tmp_path / "cooling-trace.svg").write_text(plot(rows), encoding="utf-8")
    assert len(rows) > 50
    drawn = (tmp_path / "cooling-trace.svg").read_text(encoding="utf-8")
    assert drawn.count("<polyline") == 2
