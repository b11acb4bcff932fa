"""kernel_tuning beside an administrator: what contradicts him is refused, and what is declared no more goes.

Making GRUB's configuration takes ten seconds or more under emulation: what its files and a failing grub-mkconfig come
to is tried in tests/unit/test_kernel_tuning_grub.py.
"""

from __future__ import annotations

import json

import pytest

from tests.integration.test_machine import BARE
from tests.integration.whole_machine import ADMIN, WholeMachine

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]

ROLE = "kernel_tuning"
NOTHING = {
    "kernel_tuning_swappiness": -1, "kernel_tuning_transparent_hugepages": "leave", "kernel_tuning_governor": "leave",
    "kernel_tuning_hugepages_2m": 0, "kernel_tuning_pcie_aspm": "leave", "kernel_tuning_acs": "leave",
    "kernel_tuning_boot_parameters": [],
}  # fmt: skip


def test_what_contradicts_the_administrator_is_refused(machine: WholeMachine) -> None:
    machine.declared.sh(f"sed -i.kept 's/nowatchdog/nowatchdog iommu=off/' {ADMIN}")
    refused = machine.apply("--no-verify", roles=[ROLE])
    machine.sh(f"mv {ADMIN}.kept {ADMIN}")
    assert refused.code == 1
    assert f"{ADMIN} has iommu=off, which somebody set for this machine" in " ".join(refused.out.split())


def test_what_is_declared_no_more_goes(machine: WholeMachine) -> None:
    assert machine.declared
    given = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in NOTHING.items()]
    undone = machine.take_away("--no-verify", *(word for each in given for word in ("--set", each)), role=ROLE)
    assert undone.code == 0, undone.why
    assert machine.kernel() == BARE
    config = machine.sh("cat /boot/grub/grub.cfg; ls /etc/default/grub.d")
    assert "nowatchdog" in config
    assert "iommu" not in config
    assert "90-provision.cfg" not in config
