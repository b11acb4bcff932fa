"""Mistakes in a machine's network that take themselves back: it is robbed of SSH twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.conftest import Answer
from tests.integration.whole_machine import WholeMachine

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("machine"), pytest.mark.timeout(2400)]

# An address with which the way back to the controller is lost, and an MTU that the network below does not carry.
LOST = {"network_interface": "enp0s2", "network_addresses": ["10.0.2.15/32"], "network_mtu": 0}
SWALLOWED = {"network_interface": "enp0s2", "network_mtu": 1300, "network_mtu_peers": ["10.0.2.2"]}
REVERT_SECONDS = 25

# A network that carries no large packet of a card whose MTU is not its own: SSH is greeted, and then hears nothing.
BLACK_HOLE = r"""
cat > /root/black-hole <<'END'
for turn in $(seq 1200); do
    if [ "$(cat /sys/class/net/enp0s2/mtu)" = 1500 ]; then nft delete table ip drill 2> /dev/null
    else nft 'table ip drill { chain out { type filter hook output priority 0; oifname enp0s2 ip length > 600 drop; };
        chain in { type filter hook input priority 0; iifname enp0s2 ip length > 600 drop; }; }' 2> /dev/null; fi
    sleep 0.5
done
END
systemd-run --quiet --unit=black-hole sh /root/black-hole
"""


def changed(machine: WholeMachine, settings: dict[str, Any]) -> Answer:
    """Over plain ssh: the very connection that a mistake cuts off is the one that most people use."""
    given = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]
    words = [word for each in given for word in ("--set", each)]
    return machine.apply("--no-verify", "--transport", "ssh", *words, roles=["network"])


@pytest.mark.parametrize(
    ("settings", "prepared", "what"),
    [(LOST, ":", "the addresses 10.0.2.15/32 on enp0s2"), (SWALLOWED, BLACK_HOLE, "MTU 1300 on enp0s2")],
    ids=["a bad address", "a bad MTU"],
)
def test_a_change_that_loses_ssh_takes_itself_back(
    machine: WholeMachine, settings: dict[str, Any], prepared: str, what: str
) -> None:
    machine.declared.sh(prepared)
    before = machine.links()
    done = changed(machine, {**settings, "network_revert_seconds": REVERT_SECONDS})
    machine.sh("systemctl stop black-hole 2> /dev/null || :")
    assert done.code == 1
    told = f"{what} was tried and taken back: SSH did not come back within {REVERT_SECONDS} s"
    assert told in " ".join(done.host(machine.name)["failure"]["fact"].split())
    assert machine.links() == before


def test_a_peer_that_does_not_answer_takes_it_back(machine: WholeMachine) -> None:
    assert machine.declared
    before = machine.links()
    done = changed(machine, {"network_mtu": 1450, "network_mtu_peers": ["10.0.3.99"]})
    assert done.code == 1
    assert "10.0.3.99 does not answer a packet of 1450 bytes" in done.out
    assert machine.links() == before
