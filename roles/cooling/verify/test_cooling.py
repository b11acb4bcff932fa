"""The fans follow the declared curves now and at every boot, and do not keep their last speed when something fails."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from provision.model import HostPlan

UNIT = "provision-cooling.service"
FOLDER = "/usr/local/lib/provision/cooling"
FILES = Path(__file__).parents[1] / "files"
WATCH = "/etc/systemd/system/ipmievd.service.d/50-provision.conf"


@pytest.fixture
def curves(plan: HostPlan) -> dict[str, Mapping[str, Any]]:
    return {curve["name"]: curve for curve in plan.settings["cooling_curves"]}


@pytest.fixture
def status(host: Host, plan: HostPlan) -> Mapping[str, Any]:
    """What the service last read and set, and how long ago in seconds; empty where nothing is to be driven."""
    if not plan.settings["cooling_curves"]:
        return {"curves": {}, "outputs": {}, "lost": {}, "age": 0}
    told = json.loads(host.check_output("cat /run/provision-cooling/status.json"))
    return {**told, "age": float(host.check_output("date +%s.%N")) - told["at"]}


def duty(curve: Mapping[str, Any], celsius: float) -> float:
    points = curve["points"]
    if celsius <= points[0][0]:
        return float(max(points[0][1], curve["floor_percent"]))
    for (cooler, less), (hotter, more) in pairwise(points):
        if celsius <= hotter:
            percent = less + (more - less) * (celsius - cooler) / (hotter - cooler)
            return float(max(percent, curve["floor_percent"]))
    return 100.0


def properties(host: Host, *names: str, unit: str = UNIT) -> dict[str, str]:
    told = host.check_output("systemctl show --property %s %s", ",".join(names), unit)
    return dict(line.split("=", 1) for line in told.splitlines())


def runs_now_and_at_boot(host: Host, unit: str) -> tuple[bool, bool]:
    """A unit that is not there does neither. (testinfra's `is_enabled` raises, as if that were no answer.)"""
    found = properties(host, "ActiveState", "UnitFileState", unit=unit)
    return found["ActiveState"] == "active", found["UnitFileState"] == "enabled"


def test_what_is_declared_is_laid_down(host: Host, plan: HostPlan) -> None:
    file = host.file("/etc/provision/cooling.json")
    found = json.loads(file.content_string)["curves"] if file.exists else []
    assert found == plan.settings["cooling_curves"], f"/etc/provision/cooling.json declares {found}"


def test_the_program_is_the_roles_and_only_root_can_change_it(host: Host, curves: Mapping[str, Any]) -> None:
    for name, mode in (("cooling.py", 0o755), ("cooling_devices.py", 0o644)):
        program = host.file(f"{FOLDER}/{name}")
        if not curves:
            assert not program.exists, f"nothing is to be driven, and {program.path} is there"
            continue
        assert program.content_string == (FILES / name).read_text(encoding="utf-8"), f"another {name} drives the fans"
        assert (program.user, program.group, program.mode) == ("root", "root", mode)


def test_it_drives_now_and_at_every_boot(host: Host, curves: Mapping[str, Any]) -> None:
    assert runs_now_and_at_boot(host, UNIT) == (bool(curves), bool(curves))


def test_whatever_ends_it_the_fans_are_given_up(host: Host, curves: Mapping[str, Any]) -> None:
    if not curves:
        assert not host.file("/etc/provision/cooling.json").exists
        return
    found = properties(host, "ExecStopPost", "Restart", "WatchdogUSec", "WatchdogSignal", "Type", "NeedDaemonReload")
    assert f"argv[]={FOLDER}/cooling.py failsafe" in found.pop("ExecStopPost")
    sound = {"Restart": "always", "WatchdogUSec": "15s", "WatchdogSignal": "9", "Type": "notify"}
    assert found == {**sound, "NeedDaemonReload": "no"}


def test_nothing_is_lost(status: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    assert status["age"] < 30, f"the service has looked at nothing for {status['age']:.0f} s"
    assert status["lost"] == {}, "; ".join(f"{name}: {why}" for name, why in status["lost"].items())
    assert sorted(status["curves"]) == sorted(curves)


def test_every_curve_is_followed(status: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    for name, each in status["curves"].items():
        curve, celsius = curves[name], each["celsius"]
        assert not each["failsafe"], f"{name} is at its failsafe; see why: journalctl -u {UNIT}"
        least, most = duty(curve, celsius), duty(curve, celsius + curve["hysteresis_c"])
        assert least - 0.01 <= each["percent"] <= most + 0.01, f"{name}: {each}, and the curve says {least} to {most}"


def test_every_chip_holds_the_duty_of_its_hottest_curve(host: Host, curves: Mapping[str, Any]) -> None:
    """The registers themselves, between two looks of the service: a duty that just changes is asked again."""
    wrong: dict[str, str] = {}
    outputs = sorted(
        {output for curve in curves.values() for output in curve["outputs"] if output.startswith("hwmon:")}
    )
    for _ in range(5):
        wrong = {}
        for output in outputs:
            place, channel = output.split("@")[1].split("#")
            register = f"cat /sys/devices/{place}/hwmon/hwmon*/{channel}"
            told = host.run(f"cat /run/provision-cooling/status.json; echo; {register}")
            status, _, register = told.stdout.partition("\n")
            wanted = math.ceil(json.loads(status)["outputs"][output] * 255 / 100)
            if register.strip() != str(wanted):
                wrong[output] = f"holds {register.strip() or told.stderr.strip()} of 255, and {wanted} is due"
        if not wrong:
            break
    assert wrong == {}, "; ".join(f"{output} {why}" for output, why in wrong.items())


def test_a_driver_that_is_unloaded_gives_its_fans_up_first(host: Host, plan: HostPlan) -> None:
    rules = host.check_output("/sbin/modprobe --showconfig | grep ^remove || test $? = 1")
    for module in plan.settings["cooling_modules"].values():
        assert f"remove {module} {FOLDER}/cooling.py failsafe {module} &&" in rules, f"{module} has no such rule"


def test_a_bmc_that_drives_the_fans_by_itself_is_watched(host: Host, plan: HostPlan) -> None:
    if plan.settings["cooling_monitored"]:
        assert runs_now_and_at_boot(host, "ipmievd.service") == (True, True), (
            "nobody writes the BMC's events to the journal"
        )
    else:
        # Somebody else may have it watched.
        assert not host.file(WATCH).exists, f"the watch of an earlier plan is still set up: {WATCH}"
