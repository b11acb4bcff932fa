"""iperf3's own words, recorded between two containers, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provision import link_speed
from provision.errors import ProvisionError
from provision.link_speed import Measured

RECORDED = Path(__file__).parents[1] / "cases" / "iperf3"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.json").read_text(encoding="utf-8")


def measured(mbps: float, retransmits: int | None = 0, sender: float = 20, receiver: float = 20) -> Measured:
    return Measured(mbps, 1_000_000, retransmits, sender, receiver)


def judged(each: Measured, link: int | None) -> tuple[str, str]:
    finding = link_speed.judge("a to b", each, link)
    return finding["state"], finding["remedy"].split(":")[0]


def test_what_arrived_counts_and_not_what_was_sent() -> None:
    text = recorded("forward")
    end = json.loads(text)["end"]
    found = link_speed.read(text, "a to b")
    assert found.mbps == pytest.approx(end["sum_received"]["bits_per_second"] / 1e6)
    assert found.retransmits == end["sum_sent"]["retransmits"]
    assert found.sender_cpu == end["cpu_utilization_percent"]["host_total"]


def test_in_reverse_the_client_receives() -> None:
    end = json.loads(recorded("reverse"))["end"]
    found = link_speed.read(recorded("reverse"), "b to a", reverse=True)
    assert found.receiver_cpu == end["cpu_utilization_percent"]["host_total"]
    assert found.sender_cpu == end["cpu_utilization_percent"]["remote_total"]


def test_a_server_that_is_not_reached_is_told_with_the_port() -> None:
    with pytest.raises(ProvisionError) as error:
        link_speed.read(recorded("refused"), "a to b")
    refusal = error.value.refusals[0]
    assert str(refusal) == "a to b could not be measured: unable to connect to server: Connection refused"
    assert "network_firewall_open" in refusal.hint


@pytest.mark.parametrize("text", ["", "iperf3: command not found", "{}", "[]", '{"end": {}}'])
def test_nonsense_is_told_as_it_is(text: str) -> None:
    with pytest.raises(ProvisionError, match="a to b could not be measured: iperf3 said"):
        link_speed.read(text, "a to b")


@pytest.mark.parametrize(
    ("each", "link", "state", "remedy"),
    [
        (measured(9_410), 10_000, "good", ""),
        (measured(8_500), 10_000, "good", ""),
        (measured(8_499), 10_000, "bad", "nothing is lost and no processor is full"),
        (measured(6_000, retransmits=5_000), 10_000, "bad", "packets are lost on the way"),
        (measured(6_000, sender=99), 10_000, "bad", "a processor of the sender is the limit (99 %)"),
        (measured(6_000, receiver=97), 10_000, "bad", "a processor of the receiver is the limit (97 %)"),
        (measured(6_000, retransmits=None), 10_000, "bad", "nothing is lost and no processor is full"),
        (measured(940), 1_000, "good", ""),
        (measured(94), 1_000, "bad", "nothing is lost and no processor is full"),
        (measured(9_410), None, "limited", ""),
    ],
)
def test_a_measurement_is_judged_against_its_link(each: Measured, link: int | None, state: str, remedy: str) -> None:
    assert judged(each, link) == (state, remedy)


def test_a_finding_says_the_figures() -> None:
    finding: dict[str, Any] = link_speed.judge("a to b", measured(6_020, retransmits=12), 10_000)
    assert finding["fact"] == "6.02 Gbit/s of 10 Gbit/s (60%), 12 packets sent again"
    assert link_speed.judge("a to b", measured(94), None)["fact"] == "94 Mbit/s; the link does not tell its speed"
