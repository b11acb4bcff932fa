"""The program that drives the fans: its curves, its safety list and its back ends.

Chips are folders that look like the kernel's, a BMC is a simulator behind the real ipmitool, NVML and liquidctl are
stand-ins that answer as the real ones do. What a chip of the kernel's own does shows tests/integration/test_cooling.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from provision.content import roles_dir
from tests.standins.bmc import AUTOMATIC, Bmc

FILES = roles_dir() / "cooling" / "files"
PLACE = "platform/nct6775.656"
CPU, CHASSIS = "hwmon:coretemp@platform/coretemp.0", f"hwmon:nct6798@{PLACE}#pwm1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's own /run, /sys and PATH."""
    for name in ("run", "sys", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PROVISION_COOLING_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PROVISION_COOLING_SYS", str(tmp_path / "sys"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.syspath_prepend(str(FILES))
    for name in ("cooling", "cooling_devices"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture
def program(folder: Path) -> ModuleType:
    return __import__("cooling")


@pytest.fixture
def devices(program: ModuleType) -> ModuleType:
    return sys.modules["cooling_devices"]


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)


class Chip:
    """A folder that looks like a hwmon chip's."""

    def __init__(self, folder: Path, name: str, place: str, number: int, **files: str) -> None:
        self.path = folder / "sys/devices" / place / f"hwmon/hwmon{number}"
        self.path.mkdir(parents=True)
        for file, text in {"name": name, **files}.items():
            self.put(file, text)

    def put(self, file: str, text: str) -> None:
        (self.path / file).write_text(text + "\n", encoding="utf-8")

    def get(self, file: str) -> str:
        return (self.path / file).read_text(encoding="utf-8").strip()


@pytest.fixture
def cpu(folder: Path) -> Chip:
    return Chip(folder, "coretemp", "platform/coretemp.0", 0, temp1_input="40000", temp2_input="38000")


@pytest.fixture
def board(folder: Path) -> Chip:
    return Chip(folder, "nct6798", PLACE, 1, pwm1="77", pwm1_enable="5")


def curve(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cpu",
        "sources": [CPU],
        "outputs": [CHASSIS],
        "points": [[40, 30], [60, 50], [80, 100]],
        "hysteresis_c": 4,
        "floor_percent": 30,
        "failsafe_percent": 100,
        **changes,
    }


def config(*curves: dict[str, Any]) -> dict[str, Any]:
    modules = {"nct6798": "nct6775"}
    return {"interval_s": 1, "stale_s": 3, "hold_s": 10, "modules": modules, "curves": list(curves) or [curve()]}


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


# -- cards -----------------------------------------------------------------------------------------------------------


class FakeNvml:
    """What libnvidia-ml.so.1 does with its pointers, for one card with fans."""

    def __init__(self, fans: int) -> None:
        self.fans = fans
        self.speeds: dict[int, int | None] = {}

    def nvmlDeviceGetHandleByPciBusId_v2(self, place: bytes, _: Any) -> int:
        return 0 if place == b"0000:01:00.0" else 6

    def nvmlDeviceGetTemperature(self, _: Any, __: int, value: Any) -> int:
        value._obj.value = 64
        return 0

    def nvmlDeviceGetNumFans(self, _: Any, value: Any) -> int:
        value._obj.value = self.fans
        return 0

    def nvmlDeviceGetMinMaxFanSpeed(self, _: Any, least: Any, most: Any) -> int:
        least._obj.value, most._obj.value = 35, 100
        return 0

    def nvmlDeviceSetFanSpeed_v2(self, _: Any, fan: int, speed: int) -> int:
        self.speeds[fan] = speed
        return 0

    def nvmlDeviceSetDefaultFanSpeed_v2(self, _: Any, fan: int) -> int:
        self.speeds[fan] = None
        return 0

    def nvmlShutdown(self) -> int:
        return 0


@pytest.mark.parametrize(("fans", "driven", "given_up"), [(2, {0: 58, 1: 58}, {0: None, 1: None}), (0, {}, {})])
def test_all_fans_of_a_card_are_driven_and_given_back_and_a_passive_one_is_skipped(
    devices: ModuleType, fans: int, driven: dict[int, int], given_up: dict[int, None]
) -> None:
    devices.Nvml.library = nvml = FakeNvml(fans)
    card = devices.device("nvml:0000:01:00.0")
    assert card.celsius() == 64
    card.set(57.3)
    assert nvml.speeds == driven
    card.release(None)
    assert nvml.speeds == given_up


def test_no_card_is_driven_below_what_it_allows(devices: ModuleType) -> None:
    devices.Nvml.library = nvml = FakeNvml(1)
    devices.device("nvml:0000:01:00.0").set(20)
    assert nvml.speeds == {0: 35}


def test_a_card_that_is_gone_or_has_no_driver_is_lost(devices: ModuleType) -> None:
    devices.Nvml.library = FakeNvml(1)
    _, why = devices.attempt(devices.device("nvml:0000:09:00.0").celsius)
    assert "answers with error 6" in why
    _, why = devices.attempt(devices.device("nvml:0000:09:00.0").celsius)
    assert why == "NVML: libnvidia-ml.so.1: cannot open shared object file: No such file or directory"


# -- BMCs: the real ipmitool against a simulator ---------------------------------------------------------------------


@pytest.fixture(params=["supermicro", "dell"])
def bmc(request: pytest.FixtureRequest, folder: Path) -> Bmc:
    ipmitool = shutil.which("ipmitool")
    assert ipmitool, "ipmitool is missing: tools/setup test installs it"
    made = Bmc(request.param)
    made.wrapper(folder / "bin", ipmitool)
    return made


@pytest.mark.parametrize("bmc", ["supermicro"], indirect=True)
def test_a_supermicro_board_takes_duties_by_zone_and_is_left_at_full(bmc: Bmc, devices: ModuleType) -> None:
    zones = [devices.device(f"supermicro:#{number}") for number in (0, 1)]
    zones[0].set(41.2)
    zones[1].set(60)
    assert (bmc.mode, bmc.duties) == (1, {0: 42, 1: 60})
    spoken = len(bmc.said)
    zones[0].set(42)
    assert len(bmc.said) == spoken, "what it already holds is not told again at once"
    zones[0].release(None)
    assert (bmc.mode, bmc.duties) == (1, {0: 100, 1: 100})


@pytest.mark.parametrize("bmc", ["supermicro"], indirect=True)
def test_a_bmc_that_took_the_fans_back_is_told_again(
    bmc: Bmc, devices: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.Told, "AGAIN_S", 0)
    zone = devices.device("supermicro:#0")
    zone.set(50)
    bmc.mode, bmc.duties = 2, dict.fromkeys(bmc.duties, AUTOMATIC)  # as after a reset of the BMC
    zone.set(50)
    assert bmc.duties[0] == 50


@pytest.mark.parametrize("bmc", ["dell"], indirect=True)
def test_an_old_idrac_takes_a_duty_and_drives_by_itself_again(bmc: Bmc, devices: ModuleType) -> None:
    fans = devices.device("dell:")
    fans.set(35)
    assert (bmc.mode, bmc.duties) == (0, {0: 35})
    fans.release(None)
    assert (bmc.mode, bmc.duties) == (1, {0: AUTOMATIC})


@pytest.mark.parametrize("bmc", ["supermicro"], indirect=True)
def test_the_whole_service_on_a_bmc(bmc: Bmc, program: ModuleType, cpu: Chip) -> None:
    made = program.Service(config(curve(outputs=["supermicro:#0", "supermicro:#1"])))
    made.claim()
    cpu.put("temp1_input", "60000")
    made.tick(0)
    assert bmc.duties == {0: 50, 1: 50}
    assert program.failsafe() == 0
    assert bmc.duties == {0: 100, 1: 100}


@pytest.mark.parametrize("bmc", ["supermicro"], indirect=True)
def test_a_bmc_that_refuses_is_lost_in_ipmitools_words(bmc: Bmc, devices: ModuleType) -> None:
    _, why = devices.attempt(devices.device("supermicro:#7").set, 50)
    assert "rsp=0xc1" in why


def test_a_program_that_is_missing_or_hangs_is_a_loss(
    devices: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(folder / "bin/ipmitool", "sleep 30\n")
    monkeypatch.setattr(devices, "PATIENCE_S", 0.2)
    _, why = devices.attempt(devices.device("dell:").set, 50)
    assert "timed out" in why
    monkeypatch.setenv("PATH", str(folder / "nowhere"))
    _, why = devices.attempt(devices.device("dell:").set, 50)
    assert "No such file" in why


def test_what_a_simple_namespace_cannot_do_is_told_and_not_raised(devices: ModuleType) -> None:
    odd = SimpleNamespace(celsius=lambda: json.loads("[]")["status"])
    assert "nobody understands" in devices.attempt(odd.celsius)[1]
