"""The boot unit of gpu_power on a target whose nvidia-smi is a stand-in that answers for recorded cards.

The role is run by plain ansible-playbook: on a bare target, then with cards that are capped, then with one to divide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import Answer, Outcome, Target
from tests.integration.power_host import DOCUMENT, UNIT, PowerHost
from tests.unit.test_gpu_power import A100, FIRST, RTX_3080, SECOND
from tests.unit.test_nvidia_smi import recorded

pytestmark = pytest.mark.lab

COMPARE, LAY_DOWN, ENABLE, RUN = (
    "Compare the cards with what is declared", "Lay down what does it at every boot", "Have it done at every boot",
    "Run the unit",
)  # fmt: skip
# A container holds no card: the plan takes one for granted, and the driver for the distribution's.
ASSUMED = ("--only", "gpu_power", "--assume-gpu", "RTX 3080", "--set", "nvidia_driver_source=debian")


@pytest.fixture(scope="module")
def box(new_target: Callable[..., Target]) -> PowerHost:
    return PowerHost(new_target("gpu-power"))


def boot(box: PowerHost) -> str:
    """What a boot does to the cards, and then the unit: its state and what it said."""
    box.target.sh(f"systemctl stop {UNIT}; nvidia-smi --boot; systemctl start {UNIT} || :")
    return box.target.sh(f"systemctl is-active {UNIT} || :; journalctl -u {UNIT} -n 10 -o cat --quiet")


@dataclass(frozen=True)
class Bare:
    """What was told where no driver is installed yet."""

    foretold: Outcome
    done: Outcome
    unit: list[str]
    again: Outcome
    proof: Answer


@pytest.fixture(scope="module")
def bare(box: PowerHost) -> Bare:
    foretold, done = box.play("--check"), box.play()
    unit = box.target.sh(f"systemctl show -p ActiveState,ConditionResult,UnitFileState {UNIT}").split()
    return Bare(foretold, done, unit, box.play(), box.target.verify(*ASSUMED, tier="workstation"))


@pytest.fixture(scope="module")
def capped(box: PowerHost, bare: Bare) -> PowerHost:
    """The host with two cards, after all that is asked of it without a driver."""
    box.holds("rtx-2080-twice")
    return box


@pytest.fixture(scope="module")
def divided(box: PowerHost, bare: Bare) -> PowerHost:
    """The host with a card that can be divided."""
    box.holds("a100-mig-535")
    return box


def test_without_a_driver_the_unit_waits_for_one_and_the_run_says_so(bare: Bare) -> None:
    done = bare.done
    assert done.code == 0
    assert done.changed == bare.foretold.changed == [LAY_DOWN, ENABLE, RUN]
    assert (
        "nvidia-smi is not installed: what is declared for the cards is brought about at the first boot" in done.output
    )
    assert bare.unit == ["ActiveState=inactive", "UnitFileState=enabled", "ConditionResult=no"]
    assert bare.again.came_to == (0, [])


def test_it_passes_and_stays_unproved_without_a_card(box: PowerHost, bare: Bare) -> None:
    states = [each["state"] for each in bare.proof.host(box.target.name)["checks"]]
    assert (states.count("passed"), states.count("skipped"), len(states)) == (5, 4, 9)
    assert bare.proof.code == 4


@pytest.mark.usefixtures("capped")
def test_cards_are_capped_once_and_again_at_every_boot(box: PowerHost) -> None:
    given = {"gpu_power_limit_watts": 200, "gpu_power_limits": {SECOND: 500}}
    foretold = box.play("--check", **given)
    assert box.limits() == [215.0, 215.0]
    done = box.play(**given)
    assert done.changed == foretold.changed == [COMPARE, LAY_DOWN, RUN]
    assert (
        f"{SECOND} (NVIDIA GeForce RTX 2080) is capped at 240 W, not 500 W: that is the most it allows" in done.output
    )
    assert box.limits() == [200.0, 240.0]
    assert box.play(**given).came_to == (0, [])
    assert boot(box).startswith("active")
    assert box.limits() == [200.0, 240.0]
    assert all(gpu.persistence for gpu in box.gpus())


@pytest.mark.usefixtures("capped")
def test_a_card_that_somebody_moved_is_brought_back(box: PowerHost) -> None:
    given = {"gpu_power_limit_watts": 200}
    box.play(**given)
    box.target.sh(f"nvidia-smi -i {FIRST} -pl 110")
    assert box.play(**given).changed == [COMPARE, RUN]
    assert box.limits() == [200.0, 200.0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gpu_power_limits": {RTX_3080: 200}}, f"no such card answers; those there: {FIRST}, {SECOND}"),
        ({"gpu_power_psu_watts": 600}, "may draw 215 + 215 W and the rest 250 W, together 680 W"),
        ({"gpu_power_limits": {FIRST: 400}, "gpu_power_psu_watts": 600}, "gpu_power_rest_watts together exceed"),
        ({"gpu_power_mig": {FIRST: ["1g.10gb"]}}, "cannot be divided: MIG needs an A100"),
        ({"gpu_power_mig": {FIRST: "1g.10gb"}}, "gpu_power_mig is not lists of profiles by GPU UUID"),
        ({"gpu_power_limits": {"0": 200}}, "gpu_power_limits is not watts by GPU UUID"),
        ({"gpu_power_limits": {FIRST: "much"}}, "gpu_power_limits is not watts by GPU UUID"),
        ({"gpu_power_limit_watts": -1}, "cannot be negative"),
    ],
)
@pytest.mark.usefixtures("capped")
def test_what_cannot_be_is_refused_before_anything_is_written(
    box: PowerHost, settings: dict[str, Any], said: str
) -> None:
    sums = f"sha256sum /etc/provision/gpu-power.json {DOCUMENT}"
    before = box.target.sh(sums)
    done = box.play(**settings)
    assert done.code != 0
    assert done.changed == []
    assert said in " ".join(done.output.split())
    assert box.target.sh(sums) == before


@pytest.mark.usefixtures("capped")
def test_at_boot_a_card_that_is_gone_fails_the_unit_by_name_and_the_other_is_capped(box: PowerHost) -> None:
    box.play(gpu_power_limits={FIRST: 150, SECOND: 160})
    head, first, _ = recorded("rtx-2080-twice").split("\t<gpu id=")
    box.target.put(DOCUMENT, f"{head}\t<gpu id={first}</nvidia_smi_log>\n")
    told = boot(box)
    assert told.startswith("failed")
    assert f"gpu_power_limits names {SECOND}, and no such card answers; those there: {FIRST}" in told
    assert box.limits() == [150.0]


@pytest.mark.usefixtures("divided")
def test_a_card_is_divided_and_divided_again_after_a_boot(box: PowerHost) -> None:
    given = {"gpu_power_mig": {A100: ["3g.40gb", "3g.40gb"]}}
    done = box.play(**given)
    assert (done.code, done.changed) == (0, [COMPARE, LAY_DOWN, RUN])
    made = f"nvidia-smi mig -i {A100} -lgi | grep -o '[0-9]g.[0-9]*gb'"
    assert box.target.sh(made).split() == ["3g.40gb", "3g.40gb"]
    assert box.play(**given).came_to == (0, [])
    assert boot(box).startswith("active")
    assert box.target.sh(made).split() == ["3g.40gb", "3g.40gb"]


@pytest.mark.usefixtures("divided")
def test_a_unit_that_fails_fails_the_run_in_its_own_words(box: PowerHost) -> None:
    done = box.play(gpu_power_mig={A100: ["4g.40gb", "4g.40gb"]})
    assert done.code != 0
    assert "using profile 4g.40gb: Insufficient Resources" in " ".join(done.output.split())
    assert box.play(gpu_power_mig={A100: ["7g.80gb"]}).code == 0
