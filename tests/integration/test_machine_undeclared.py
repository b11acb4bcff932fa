"""What is declared no more goes: fans back to their firmware, the kernel and its boot parameters to what they were."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import Answer
from tests.integration.test_machine import BARE
from tests.integration.whole_machine import WholeMachine

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]

NOTHING = {
    "cooling_curves": [],
    "kernel_tuning_swappiness": -1, "kernel_tuning_transparent_hugepages": "leave", "kernel_tuning_governor": "leave",
    "kernel_tuning_hugepages_2m": 0, "kernel_tuning_pcie_aspm": "leave", "kernel_tuning_acs": "leave",
    "kernel_tuning_boot_parameters": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def undone(machine: WholeMachine) -> Answer:
    assert machine.declared
    given = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in NOTHING.items()]
    words = (word for each in given for word in ("--set", each))
    return machine.take_away("--no-verify", *words, roles=["cooling", "kernel_tuning"])


def test_fans_that_are_driven_no_more_go_back_to_their_firmware(machine: WholeMachine, undone: Answer) -> None:
    assert undone.code == 0, undone.why
    proof = machine.target.verify("--only", "cooling", "--set", "cooling_curves=[]", tier=machine.tier)
    assert proof.failed(machine.name) == set()
    assert machine.chip("failsafe") is True


def test_the_kernel_is_as_it_was_and_the_administrators_parameters_stay(machine: WholeMachine, undone: Answer) -> None:
    assert undone.code == 0, undone.why
    assert machine.kernel() == BARE
    config = machine.sh("cat /boot/grub/grub.cfg; ls /etc/default/grub.d")
    assert "nowatchdog" in config
    assert "iommu" not in config
    assert "90-provision.cfg" not in config
