"""kernel_tuning beside an administrator who sets boot parameters himself.

Making GRUB's configuration takes ten seconds or more under emulation: what its files and a failing grub-mkconfig come
to is tried in tests/unit/test_kernel_tuning_grub.py.
"""

from __future__ import annotations

import pytest

from tests.integration.whole_machine import ADMIN, WholeMachine

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]


def test_what_contradicts_the_administrator_is_refused(machine: WholeMachine) -> None:
    machine.declared.sh(f"sed -i.kept 's/nowatchdog/nowatchdog iommu=off/' {ADMIN}")
    refused = machine.apply("--no-verify", roles=["kernel_tuning"])
    machine.sh(f"mv {ADMIN}.kept {ADMIN}")
    assert refused.code == 1
    assert f"{ADMIN} has iommu=off, which somebody set for this machine" in " ".join(refused.out.split())
