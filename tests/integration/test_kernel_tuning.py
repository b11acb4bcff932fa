"""kernel_tuning on a machine with a kernel and a GRUB of its own: foretold, applied, booted, broken, taken back.

The tests stand in order and share one machine. Making GRUB's configuration takes ten seconds or more under emulation:
what its files and a failing grub-mkconfig come to is tried in tests/unit/test_kernel_tuning_grub.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import Answer, Target, broken, changed_tasks, controls_of, fails_of
from tests.integration.power_host import DOCUMENT, UNIT, PowerHost

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ROLE = "kernel_tuning"
SETTINGS = {
    "kernel_tuning_hugepages_2m": 8, "kernel_tuning_pcie_aspm": "performance", "kernel_tuning_acs": "direct",
    "kernel_tuning_boot_parameters": ["iommu=pt"],
}  # fmt: skip
NOTHING = {
    "kernel_tuning_swappiness": -1, "kernel_tuning_transparent_hugepages": "leave", "kernel_tuning_governor": "leave",
    "kernel_tuning_hugepages_2m": 0, "kernel_tuning_pcie_aspm": "leave", "kernel_tuning_acs": "leave",
    "kernel_tuning_boot_parameters": [],
}  # fmt: skip
# The NVMe disk lies below a bridge of its own, whose ACS is real. At every boot it is made to look like an NVIDIA card,
# and the bridge to redirect, as a firmware may leave it.
CARD = r"""#!/bin/sh
set -e
mkdir -p /run/standin
echo 0x10de > /run/standin/vendor
echo 0x030000 > /run/standin/class
device=$(readlink -f /sys/bus/pci/devices/0000:01:00.0)
for name in vendor class; do mount --bind /run/standin/$name "$device/$name"; done
printf '\035\000' | dd of="${device%/*}/config" bs=1 seek=$((0x14e)) conv=notrunc status=none
"""
# A card forgets its limits when it loses power.
FORGET = f"#!/bin/sh\nnvidia-smi --boot && cp {DOCUMENT} /run/forgotten.xml && touch /dev/nvidiactl\n"
ADMIN = "/etc/default/grub.d/50-admin.cfg"
SEEN = r"""
cat /proc/sys/vm/swappiness /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
grep -o '\[.*\]' /sys/kernel/mm/transparent_hugepage/enabled /sys/module/pcie_aspm/parameters/policy | cut -d: -f2
od -An -tx1 -j 334 -N 1 /sys/bus/pci/devices/0000:00:04.0/config
"""
TUNED, BARE = ["10", "8", "[madvise]", "[performance]", "11"], ["60", "0", "[always]", "[default]", "1d"]


@dataclass(frozen=True)
class Machine:
    target: Target
    tier: Path

    def apply(self, *words: str) -> Answer:
        return self.target.apply("--only", ROLE, *words, tier=self.tier)

    def verify(self) -> Answer:
        return self.target.verify("--only", ROLE, tier=self.tier)

    def seen(self) -> list[str]:
        return self.target.sh(SEEN).split()

    def declare(self, settings: dict[str, Any]) -> None:
        self.tier.write_text(yaml.safe_dump({"extends": "workstation", "settings": settings}), encoding="utf-8")


@pytest.fixture(scope="module")
def machine(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    found = Machine(new_target("kernel-tuning", "vm-debian-12"), tmp_path_factory.mktemp("tuning") / "tuned.yml")
    found.target.at_boot("standin-card", CARD, before="provision-kernel-tuning.service")
    # The administrator has a parameter of his own.
    theirs = 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT nowatchdog"'
    found.target.sh(f"systemctl start standin-card; echo '{theirs}' > {ADMIN}")
    found.declare(SETTINGS)
    return found


@pytest.mark.timeout(1800)
def test_check_mode_shows_the_command_line_and_what_then_changes(machine: Machine) -> None:
    grub = "sha256sum /etc/default/grub /etc/default/grub.d/* /boot/grub/grub.cfg"
    before = machine.target.sh(grub)
    foretold = machine.apply("--check", "--diff")
    assert "nowatchdog iommu=pt" in foretold.out + foretold.err
    assert machine.target.sh(grub) == before
    assert machine.seen() == BARE

    done = machine.apply("--no-verify")
    assert done.code == 0, done.out[-6000:]
    assert changed_tasks(done, machine.target.name) == changed_tasks(foretold, machine.target.name)
    assert machine.seen() == TUNED
    assert machine.target.sh("sha256sum /etc/default/grub").split()[0] in before
    assert "must reboot" in done.out + done.err


@pytest.mark.timeout(1800)
def test_a_reboot_brings_everything_back_and_a_second_run_changes_nothing(machine: Machine) -> None:
    """The power caps of gpu_power ride along: this boot is a real one."""
    power = PowerHost(machine.target)
    power.holds("rtx-2080-twice")
    assert power.play(gpu_power_limit_watts=200).code == 0
    machine.target.at_boot("standin-power", FORGET, before=UNIT)
    assert machine.target.reboot() == "running"
    assert machine.seen() == TUNED
    assert power.limits() == [200.0, 200.0]
    assert "215.00 W" in machine.target.sh("grep current_power_limit /run/forgotten.xml")
    assert "nowatchdog iommu=pt" in machine.target.sh("cat /proc/cmdline")
    again = machine.apply()
    assert again.code == 0, again.out[-6000:]
    assert changed_tasks(again, machine.target.name) == set()
    states = [check["state"] for check in again.host(machine.target.name)["checks"]]
    assert set(states) == {"passed"}


@pytest.mark.timeout(1800)
def test_what_is_broken_is_found_and_all_of_it_can_be_mended(machine: Machine) -> None:
    """All at once, because a proof of a machine without KVM is dear, and each control has a test to itself."""
    controls = controls_of(ROLE)
    assert len(fails_of(controls)) == sum(len(control["fails"]) for control in controls)
    answer = broken(machine.target, controls, machine.verify)
    assert answer.failed(machine.target.name) == fails_of(controls)
    assert machine.seen() == TUNED
    assert machine.target.sh("mount | grep -c -e cmdline -e cpufreq; ls /run/*.control*", check=False).split() == ["0"]


@pytest.mark.timeout(1800)
def test_what_contradicts_the_administrator_is_refused_and_what_is_undeclared_goes(machine: Machine) -> None:
    machine.target.sh(f"sed -i.kept 's/nowatchdog/nowatchdog iommu=off/' {ADMIN}")
    refused = machine.apply("--no-verify")
    assert refused.code == 1
    assert f"{ADMIN} has iommu=off, which somebody set for this machine" in " ".join(refused.out.split())
    machine.target.sh(f"mv {ADMIN}.kept {ADMIN}")

    machine.declare(NOTHING)
    undone = machine.apply("--no-verify")
    assert undone.code == 0, undone.out[-6000:]
    assert machine.seen() == BARE
    config = machine.target.sh("cat /boot/grub/grub.cfg; ls /etc/default/grub.d")
    assert "nowatchdog" in config
    assert "iommu" not in config
    assert "90-provision.cfg" not in config
