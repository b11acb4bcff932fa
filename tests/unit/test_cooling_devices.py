"""The back ends of the fan service: cards, BMCs, liquid coolers.

A BMC is a simulator behind the real ipmitool, a liquid cooler is a file behind Debian's liquidctl and its driver; NVML
is a stand-in that answers as the real one does.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.standins.bmc import AUTOMATIC, Bmc
from tests.unit.cooling_parts import Chip, config, curve, script

STANDINS = Path(__file__).parents[1] / "standins"


pytest_plugins = ["tests.unit.cooling_fixtures"]


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


# -- liquid coolers: Debian's liquidctl and its driver, over a cooler that is a file ----------------------------------


class Cooler:
    """What a NZXT Kraken X53 measures and was told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cooler.json"
        self.heat(31.4)

    def heat(self, celsius: float) -> None:
        self.path.write_text(json.dumps({"celsius": celsius, "written": []}), encoding="utf-8")

    def duties(self) -> list[int]:
        """The pump's duty in percent for 20 to 59 C of the liquid, as the last report told it."""
        reports = [bytes.fromhex(text) for text in json.loads(self.path.read_text())["written"]]
        told = [report for report in reports if report[:4] == b"\x72\x01\x00\x00"]
        return [*told[-1][4:44]] if told else []


@pytest.fixture
def cooler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cooler:
    assert Path("/usr/bin/liquidctl").exists(), "liquidctl is missing: tools/setup test installs it"
    made = Cooler(folder)
    monkeypatch.setenv("LIQUID_COOLER", str(made.path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    script(folder / "bin/liquidctl", f'exec /usr/bin/python3 {STANDINS / "liquidctl_cli.py"} "$@"\n')
    return made


@pytest.fixture
def unhurried(devices: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "PATIENCE_S", 60)


@pytest.mark.usefixtures("unhurried")
def test_a_pump_is_told_a_duty_and_left_at_full(cooler: Cooler, devices: ModuleType) -> None:
    pump = devices.device("liquidctl:1e71:2014#pump")
    pump.set(62.5)
    assert set(cooler.duties()[:-1]) == {63}
    assert cooler.duties()[-1] == 100, "the cooler itself goes to full at 59 C"
    pump.release(None)
    assert set(cooler.duties()) == {100}


@pytest.mark.usefixtures("unhurried")
def test_the_liquid_is_read_and_a_hot_one_drives_the_pump(
    cooler: Cooler, program: ModuleType, devices: ModuleType
) -> None:
    address = "liquidctl:1e71:2014"
    pump = curve(sources=[f"{address}#liquid"], outputs=[f"{address}#pump"], points=[[30, 60], [50, 100]])
    made = program.Service(config(pump))
    cooler.heat(40.5)
    made.tick(0)
    assert made.good == {f"{address}#liquid": (0, 40.5)}
    assert cooler.duties()[0] == 81


@pytest.mark.usefixtures("unhurried")
def test_a_cooler_that_was_unplugged_is_lost_in_liquidctls_words(cooler: Cooler, devices: ModuleType) -> None:
    _, why = devices.attempt(devices.device("liquidctl:1e71:3008#liquid").celsius)
    assert why
    _, why = devices.attempt(devices.device("liquidctl:1e71:3008#pump").set, 50)
    assert "liquidctl --vendor 0x1e71 --product 0x3008" in why


@pytest.mark.usefixtures("unhurried")
def test_a_liquid_that_no_cooler_can_have_is_no_reading(cooler: Cooler, devices: ModuleType) -> None:
    cooler.heat(255.9)
    _, why = devices.attempt(devices.device("liquidctl:1e71:2014#liquid").celsius)
    assert "reads 255.9 C" in why
