"""A driver that does not work after its reboot, on a machine that really reboots: the previous one comes back.

The virtual machine boots a real kernel, DKMS builds real modules for it, and the kernel loads them; the module drives
nothing (tests/standins/nvidia_dkms.py). The card is a folder that looks like one: without any, nobody could say that a
module ought to have been loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Answer, Target
from tests.integration.driver_host import DriverHost
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_cuda import Driver

pytestmark = [pytest.mark.lab, pytest.mark.slow]

OLD, DOES_NOT_LOAD = "580.159.03", "580.173.02"
CARD = """#!/bin/sh
# Beside the machine's own PCI devices, one that looks like a GeForce RTX 3080.
mkdir -p /run/pci/0000:01:00.0
for device in /sys/bus/pci/devices/*; do
    ln -s "$(readlink -f "$device")" "/run/pci/$(basename "$device")"
done
cd /run/pci/0000:01:00.0
echo 0x10de > vendor; echo 0x2206 > device; echo 0x030000 > class
mount --bind /run/pci /sys/bus/pci/devices
"""


@dataclass(frozen=True)
class Machine:
    host: DriverHost
    tier: Path

    def apply(self, *words: str) -> Answer:
        roles = ("--only", "cuda_repository", "--only", "nvidia_driver")
        given = ("--no-verify", "--assume-gpu", "RTX 3080", *roles)
        return self.host.target.apply(*given, *words, tier=self.tier)

    def offer(self, driver: Driver) -> None:
        self.host.archives.cuda_debian.add_all(driver.packages())
        self.host.archives.cuda_debian.publish()

    def loaded(self) -> str:
        return self.host.sh("cat /proc/driver/nvidia/version")


@pytest.fixture(scope="module")
def machine(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("rollback")
    with Archives(folder / "archives") as archives:
        # Over plain ssh, as most people: this reboots in the middle of a run.
        host = DriverHost(new_target("rollback", "vm-debian-12-build", transport="ssh"), archives)
        host.without_debian()
        host.target.at_boot("standin-card", CARD)
        host.sh("systemctl start standin-card")
        settings = {**host.settings(), "nvidia_driver_source": "cuda"}
        (folder / "tier.yml").write_text(yaml.safe_dump({"extends": "workstation", "settings": settings}))
        yield Machine(host, folder / "tier.yml")


@pytest.mark.timeout(2400)
def test_a_driver_is_built_and_loaded_and_one_that_fails_is_taken_back(machine: Machine) -> None:
    installed = machine.apply()
    assert installed.code == 0, installed.out[-6000:]
    before, booted = machine.host.packages(), machine.host.target.boot()
    assert machine.host.driver() == {OLD}
    assert f" {OLD} " in machine.loaded()

    machine.offer(Driver(DOES_NOT_LOAD, "debian", fault="load"))
    failed = machine.apply("--set", "nvidia_driver_upgrade=true", "--reboot", "allow")
    assert failed.code == 1, failed.out[-6000:]
    assert f"the driver {DOES_NOT_LOAD}" in failed.out
    assert f"The host is back at {OLD}" in failed.out
    assert machine.host.target.boot() != booted
    assert machine.host.packages() == before
    assert f" {OLD} " in machine.loaded()
