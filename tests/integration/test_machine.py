"""The machine roles on one virtual machine: foretold, applied, booted, repeated, broken and mended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.integration.conftest import Answer, changed_tasks
from tests.integration.rounds import Control, name_of, prove_broken, rounds
from tests.integration.whole_machine import ROLES, WholeMachine

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]

TUNED, BARE = ["10", "8", "[madvise]", "[performance]", "11"], ["60", "0", "[always]", "[default]", "1d"]


def test_check_mode_shows_the_command_line_and_touches_nothing(machine: WholeMachine) -> None:
    foretold = machine.foretold
    assert foretold.code == 0, foretold.why
    assert "nowatchdog iommu=pt" in foretold.out + foretold.err
    assert machine.bare[1] == BARE
    assert machine.after_check == machine.bare


def test_what_was_foretold_is_what_then_changes(machine: WholeMachine) -> None:
    done = machine.applied
    assert done.code == 0, done.why
    changed = changed_tasks(done, machine.name)
    assert {role for role, _ in changed} == set(ROLES)
    assert changed == changed_tasks(machine.foretold, machine.name)
    assert "must reboot" in done.out + done.err


def test_the_kernel_is_tuned_at_once_and_after_a_boot(machine: WholeMachine) -> None:
    assert machine.before_boot["kernel"].split() == TUNED
    assert machine.rebooted["state"] == "running"
    assert machine.rebooted["kernel"].split() == TUNED
    assert "nowatchdog iommu=pt" in machine.sh("cat /proc/cmdline")
    assert machine.sh("sha256sum /etc/default/grub").split()[0] in machine.bare[0]


def test_the_link_is_tuned(machine: WholeMachine) -> None:
    assert machine.repeated
    told = machine.sh("ethtool -g enp0s3 | tail -n +7; tc qdisc show dev enp0s3; sysctl net.core.rmem_max")
    assert "RX:\t\t4096" in told
    assert "qdisc fq " in told
    assert "net.core.rmem_max = 67108864" in told
    assert machine.sh("cat /sys/class/net/enp0s3/mtu").strip() == "1400"


def test_a_boot_takes_back_a_change_of_the_network_that_nobody_proved(machine: WholeMachine) -> None:
    assert "rebooted before SSH was proved" in machine.rebooted["guard"]
    assert machine.rebooted["links"] == machine.before_boot["links"]


def test_after_a_boot_the_caps_of_the_cards_are_back(machine: WholeMachine) -> None:
    """This boot is a real one, before which the cards forgot their caps."""
    assert machine.rebooted
    assert machine.power.limits() == [200.0, 200.0]
    assert "215.00 W" in machine.sh("grep current_power_limit /run/forgotten.xml")


def test_a_second_apply_after_a_boot_changes_nothing_and_all_is_proved(machine: WholeMachine) -> None:
    """Whatever number the fan chip has now."""
    again = machine.repeated
    assert machine.rebooted["chip"] != machine.before_boot["chip"]
    assert again.code == 0, again.why
    assert changed_tasks(again, machine.name) == set()
    checks = again.host(machine.name)["checks"]
    assert {check["role"] for check in checks} == set(ROLES)
    assert {check["state"] for check in checks} == {"passed"}


@pytest.mark.parametrize("together", rounds(ROLES), ids=name_of)
def test_what_is_broken_is_found(machine: WholeMachine, together: list[Control]) -> None:
    def verify(roles: Sequence[str]) -> Answer:
        return machine.verify(roles)

    prove_broken(machine.declared, together, verify)


def test_what_was_mended_is_as_declared_and_an_apply_without_a_boot_changes_nothing(machine: WholeMachine) -> None:
    assert machine.declared
    assert machine.kernel() == TUNED
    assert machine.sh("mount | grep -c -e cmdline -e cpufreq; ls /run/*.control*", check=False).split() == ["0"]
    again = machine.apply()
    assert again.code == 0, again.why
    assert changed_tasks(again, machine.name) == set()
