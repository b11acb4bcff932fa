"""The program that drives the fans: its curves and its safety list.

Chips are folders that look like the kernel's; what a driver of the kernel's own does shows
tests/integration/test_cooling.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.cooling_parts import CHASSIS, CPU, FILES, PLACE, Chip, config, curve, script

pytest_plugins = ["tests.unit.cooling_fixtures"]


@pytest.fixture
def board(folder: Path) -> Chip:
    return Chip(folder, "nct6798", PLACE, 1, pwm1="77", pwm1_enable="5")


@pytest.fixture
def service(program: ModuleType, cpu: Chip, board: Chip) -> Any:
    made = program.Service(config())
    made.claim()
    return made


def register(percent: float) -> str:
    return str(-int(-percent * 255 // 100))


def test_it_is_written_for_the_oldest_python_of_a_target() -> None:
    for file in FILES.glob("*.py"):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))


# -- the curve -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("celsius", "percent"), [(-5, 30), (40, 30), (50, 40), (60, 50), (70, 75), (80, 100), (120, 100)]
)
def test_a_duty_lies_on_the_line_between_two_points(program: ModuleType, celsius: float, percent: float) -> None:
    assert program.duty(curve(), celsius) == percent


def test_no_duty_lies_below_the_floor(program: ModuleType) -> None:
    assert program.duty(curve(floor_percent=45), 40) == 45


def test_it_rises_at_once_and_falls_by_the_hysteresis(program: ModuleType) -> None:
    held, seen = None, []
    for celsius in (50, 60, 57, 56, 55, 50, 52, 70):
        held = program.follow(held, celsius, 4)
        seen.append(held)
    assert seen == [50, 60, 60, 60, 59, 54, 54, 70]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": [[40, 30], [60, 20], [80, 100]]}, r"falls at \[60, 20\] after \[40, 30\]"),
        ({"points": [[40, 30], [40, 100]]}, r"falls at \[40, 100\]"),
        ({"points": [[40, 30], [80, 90]]}, "does not end at 100"),
        ({"points": []}, "does not end at 100"),
        ({"points": [[40, "much"]]}, "is no configuration"),
        ({"failsafe_percent": 50}, "a failsafe that is not 100"),
        ({"hysteresis_c": -1}, "hysteresis below 0"),
        ({"sources": []}, "no source"),
        ({"sources": ["hwmon0/temp1"]}, "names 'hwmon0/temp1', which is no source"),
        ({"outputs": [CPU]}, "which is no output"),
        ({"outputs": "all"}, "is no output"),
    ],
)
def test_a_bad_curve_is_refused(program: ModuleType, folder: Path, change: dict[str, Any], said: str) -> None:
    path = folder / "cooling.json"
    path.write_text(json.dumps(config(curve(**change))), encoding="utf-8")
    _, wrong = program.load(str(path))
    assert wrong
    assert re.search(said, "; ".join(wrong)), wrong
    assert program.main(["check", str(path)]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stale_s": 0.5}, "interval_s 1, stale_s 0.5 and hold_s 10 do not fit"),
        ({"curves": []}, "there is no curve"),
        ({"curves": [curve(floor_percent=120)]}, r"a floor outside 0..100 \(120\)"),
        ({"curves": [curve(points=[[40, -5], [80, 100]])]}, r"leaves 0..100 percent"),
    ],
)
def test_what_is_refused_is_told_with_its_value(program: ModuleType, change: dict[str, Any], said: str) -> None:
    assert re.search(said, "; ".join(program.faults({**config(), **change})))


def test_a_sound_one_is_not(program: ModuleType, folder: Path) -> None:
    path = folder / "cooling.json"
    path.write_text(json.dumps(config()), encoding="utf-8")
    assert program.main(["check", str(path)]) == 0


# -- the safety list -------------------------------------------------------------------------------------------------


def test_a_look_sets_the_duty_of_the_hottest_source(service: Any, cpu: Chip, board: Chip) -> None:
    cpu.put("temp2_input", "60000")
    service.tick(0)
    assert (board.get("pwm1"), board.get("pwm1_enable")) == (register(50), "1")


def test_chassis_fans_follow_the_hottest_card_as_well(
    program: ModuleType, devices: ModuleType, cpu: Chip, board: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = {"0000:01:00.0": 50, "0000:02:00.0": 80}
    monkeypatch.setattr(devices.Nvml, "celsius", lambda self: heat[self.address])
    made = program.Service(config(curve(), curve(name="gpus", sources=[f"nvml:{place}" for place in heat])))
    made.tick(0)
    assert board.get("pwm1") == "255"
    heat["0000:02:00.0"] = 40
    made.tick(1)
    assert board.get("pwm1") == register(44)  # 40 C and 4 of hysteresis count: 44 % is between the points of 40 and 60


def test_a_sensor_that_does_not_answer_is_forgiven_for_a_moment_and_then_all_is_full(
    service: Any, cpu: Chip, board: Chip
) -> None:
    service.tick(0)
    cpu.put("temp1_input", "")
    service.tick(2)
    assert board.get("pwm1") == register(30)
    service.tick(4)
    assert board.get("pwm1") == "255"
    cpu.put("temp1_input", "40000")
    service.tick(5)
    service.tick(14)
    assert board.get("pwm1") == "255", "it came back less than hold_s ago"
    service.tick(16)
    assert board.get("pwm1") == register(30)


@pytest.mark.parametrize("reading", ["-128000", "-64000", "255000", "nonsense", ""])
def test_a_reading_that_cannot_be_is_none(service: Any, cpu: Chip, board: Chip, reading: str) -> None:
    cpu.put("temp2_input", reading)
    service.tick(0)
    assert board.get("pwm1") == "255"


def test_an_input_that_tells_of_a_fault_is_none(service: Any, cpu: Chip, board: Chip) -> None:
    cpu.put("temp1_fault", "1")
    service.tick(0)
    assert board.get("pwm1") == "255"


def test_a_chip_that_is_renumbered_is_found(service: Any, board: Chip) -> None:
    service.tick(0)
    board.path = board.path.rename(board.path.with_name("hwmon7"))
    board.put("pwm1", "0")
    service.tick(1)
    assert board.get("pwm1") == register(30)


def test_another_chip_under_the_old_number_is_not_driven(service: Any, board: Chip) -> None:
    board.put("name", "it8686")
    board.put("pwm1", "3")
    service.tick(0)
    assert board.get("pwm1") == "3"
    assert "nct6798 is not at platform/nct6775.656" in json.loads((Path(os.environ["PROVISION_COOLING_RUN"])
        / "status.json").read_text())["lost"][CHASSIS]  # fmt: skip


def test_failsafe_is_full_and_then_what_the_chip_did_before(program: ModuleType, service: Any, board: Chip) -> None:
    service.tick(0)
    assert program.main(["failsafe"]) == 0
    assert (board.get("pwm1"), board.get("pwm1_enable")) == ("255", "5")


@pytest.mark.parametrize("before", ["0", "1"])
def test_failsafe_stays_at_full_where_the_chip_had_no_control(
    program: ModuleType, cpu: Chip, board: Chip, before: str
) -> None:
    board.put("pwm1_enable", before)
    made = program.Service(config())
    made.claim()
    made.tick(0)
    program.failsafe()
    assert (board.get("pwm1"), board.get("pwm1_enable")) == ("255", "1")


def test_failsafe_stays_at_full_where_the_driver_knows_no_way_back(
    program: ModuleType, devices: ModuleType, service: Any, board: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.tick(0)
    write = devices.write

    def refuse(path: str, text: object) -> None:
        if text == "5":
            raise devices.Lost("Invalid argument")
        write(path, text)

    monkeypatch.setattr(devices, "write", refuse)
    assert program.failsafe() == 0
    assert (board.get("pwm1"), board.get("pwm1_enable")) == ("255", "1")


def test_a_service_that_starts_again_does_not_take_its_own_control_for_the_chips(
    program: ModuleType, service: Any, board: Chip
) -> None:
    service.tick(0)
    program.Service(config()).claim()  # as after SIGKILL, had nobody given up
    program.failsafe()
    assert board.get("pwm1_enable") == "5"


def test_a_bad_configuration_gives_up_what_was_driven(
    program: ModuleType, service: Any, board: Chip, folder: Path
) -> None:
    service.tick(0)
    (folder / "bad.json").write_text("{", encoding="utf-8")
    assert program.main(["run", str(folder / "bad.json")]) == 78
    assert (board.get("pwm1"), board.get("pwm1_enable")) == ("255", "5")


def test_a_driver_that_vanishes_is_loaded_again_and_the_rest_does_its_work(
    program: ModuleType, cpu: Chip, board: Chip, folder: Path
) -> None:
    other = Chip(folder, "it8686", "platform/it87.2624", 2, pwm2="0", pwm2_enable="2")
    made = program.Service(config(curve(outputs=[CHASSIS, "hwmon:it8686@platform/it87.2624#pwm2"])))
    made.claim()
    made.tick(0)
    gone = board.path.with_name("gone")
    board.path.rename(gone)
    script(folder / "bin/modprobe", f"[ $1 = nct6775 ] && mv {gone} {board.path}\n")
    made.tick(1)
    assert (board.get("pwm1"), other.get("pwm2")) == ("255", "255")
    made.tick(5)
    assert (board.get("pwm1"), other.get("pwm2")) == ("255", "255")
    made.tick(12)
    assert (board.get("pwm1"), other.get("pwm2")) == (register(30), register(30))


def test_a_driver_that_is_just_unloaded_is_given_up_and_not_touched_again(
    program: ModuleType, service: Any, board: Chip, folder: Path
) -> None:
    service.tick(0)
    script(folder / "bin/modprobe", f"touch {folder}/loaded\n")
    assert program.main(["failsafe", "nct6775"]) == 0
    service.tick(1)
    assert (board.get("pwm1"), board.get("pwm1_enable")) == ("255", "5")
    shutil.rmtree(board.path)
    service.tick(2)
    assert not (folder / "loaded").exists()


def test_a_frozen_holder_of_the_lock_does_not_keep_the_fans_from_their_failsafe(
    program: ModuleType, service: Any, board: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.tick(0)
    monkeypatch.setattr(program, "PATIENCE_S", 0.2)
    with program.Lock():
        assert program.failsafe() == 0
    assert board.get("pwm1_enable") == "5"
