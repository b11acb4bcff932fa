"""The cards are what is declared, at every boot, and sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from testinfra.host import Host

from provision import gpu_health
from provision.model import HostPlan
from provision.nvidia_smi import Smi, parse

UNIT = "provision-gpu-power.service"
PROGRAM = Path(__file__).parents[1] / "module_utils" / "gpu_power.py"
FIELDS = ("persistence", "limit_watts", "limits", "psu_watts", "rest_watts", "mig")

# Each card's address and the lanes of the slot that it sits in: a board may split one slot's lanes between two.
LANES = r"""
for card in /sys/bus/pci/drivers/nvidia/*:*; do
    [ -e "$card" ] && echo "${card##*/} $(cat "$(dirname "$(readlink -f "$card")")/max_link_width" 2>/dev/null)"
done
"""


def properties(host: Host, *names: str) -> dict[str, str]:
    told = host.check_output("systemctl show --property %s %s", ",".join(names), UNIT)
    return dict(line.split("=", 1) for line in told.splitlines())


@pytest.fixture(scope="module")
def smi(host: Host) -> Smi:
    """What the driver says of the cards."""
    answer = host.run("nvidia-smi -q -x")
    return parse(answer.stdout or answer.stderr)


def test_what_is_declared_is_laid_down(host: Host, plan: HostPlan) -> None:
    wanted = {name: plan.settings[f"gpu_power_{name}"] for name in FIELDS}
    found = json.loads(host.file("/etc/provision/gpu-power.json").content_string)
    assert found == wanted, f"expected {wanted} in /etc/provision/gpu-power.json, found {found}"


def test_the_program_is_the_roles_and_only_root_can_change_it(host: Host) -> None:
    program = host.file("/usr/local/lib/provision/gpu-power")
    assert program.content_string == PROGRAM.read_text(encoding="utf-8"), "another program runs at boot"
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)


def test_it_is_done_at_every_boot(host: Host) -> None:
    assert host.service(UNIT).is_enabled, f"{UNIT} is not enabled"
    assert properties(host, "NeedDaemonReload", "LoadState") == {"NeedDaemonReload": "no", "LoadState": "loaded"}


def test_it_is_done_before_containers_start(host: Host) -> None:
    before = set(properties(host, "Before")["Before"].split())
    missing = {"docker.service", "containerd.service", "nvidia-cdi-refresh.service"} - before
    assert not missing, f"{UNIT} does not come before {', '.join(sorted(missing))}"


def test_it_did_not_fail(host: Host) -> None:
    """Without a loaded driver it waits for one: its condition did not hold, and that is no failure."""
    state = properties(host, "ActiveState", "ConditionResult", "Result")
    driver = host.file("/dev/nvidiactl").exists or host.file("/proc/driver/nvidia/version").exists
    wanted = "active" if driver else "inactive"
    assert state["Result"] == "success", f"{UNIT} failed; see why: journalctl -u {UNIT}"
    assert state["ActiveState"] == wanted, f"expected {UNIT} to be {wanted}, found {state}"


@pytest.mark.gpu
def test_every_card_has_its_declared_cap(plan: HostPlan, smi: Smi) -> None:
    limit, limits = (plan.settings[f"gpu_power_{name}"] for name in ("limit_watts", "limits"))
    found = gpu_health.wrong_caps(smi, limit, limits)
    assert found == [], "; ".join(found)


@pytest.mark.gpu
def test_nothing_is_left_to_be_done(host: Host) -> None:
    """Persistence, caps and MIG instances, as the program itself compares them."""
    with host.sudo():
        answer = host.run("/usr/local/lib/provision/gpu-power --check")
    assert answer.rc == 0, answer.stdout + answer.stderr


@pytest.mark.gpu
def test_every_card_is_sound(host: Host, plan: HostPlan, smi: Smi) -> None:
    """All of the plan are there; PCIe lanes, heat, throttling, memory errors and the driver's branch."""
    slots = (line.split() for line in host.check_output(LANES).splitlines())
    lanes = {slot[0]: int(slot[1]) for slot in slots if len(slot) == 2}
    declared = bool(plan.settings["gpu_power_persistence"])
    found = gpu_health.faults(smi, plan.cards, plan.driver, lanes=lanes, persistence=declared)
    assert found == [], "; ".join(found)


@pytest.mark.gpu
def test_the_kernel_reports_no_faulty_card(host: Host) -> None:
    with host.sudo():
        log = host.check_output("journalctl --dmesg --boot --no-pager --output short")
    found = gpu_health.xid_faults(log)
    assert found == [], "; ".join(found)
