"""What iperf3 measured between two hosts, judged against their link. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from provision.errors import refuse

# Of a link's bits TCP with 1500-byte packets can carry 94 in a hundred; with other traffic a sound link stays above 85.
GOOD = 0.85
_BUSY = 90  # percent of one processor
_LOSSY = 1e-3  # packets sent again, of those sent
_PACKET = 1448  # bytes of data in one, without jumbo frames


@dataclass(frozen=True)
class Measured:
    """One direction: what arrived in Mbit/s, packets sent again (None: the system does not count them), processors in
    percent of one.
    """

    mbps: float
    packets: int
    retransmits: int | None
    sender_cpu: float
    receiver_cpu: float


def read(text: str, subject: str, *, reverse: bool = False) -> Measured:
    """What `iperf3 --json` printed at the client; with `reverse` it was the client that received.

    Raises:
        ProvisionError: where iperf3 failed, in its own words.
    """
    try:
        told = json.loads(text)
        if told.get("error"):
            raise refuse(subject, f"could not be measured: {told['error']}", _advice(told["error"]))
        end = told["end"]
        local, remote = (float(end["cpu_utilization_percent"][f"{side}_total"]) for side in ("host", "remote"))
        return Measured(
            mbps=end["sum_received"]["bits_per_second"] / 1e6,
            packets=int(end["sum_sent"]["bytes"]) // _PACKET,
            retransmits=end["sum_sent"].get("retransmits"),
            sender_cpu=remote if reverse else local,
            receiver_cpu=local if reverse else remote,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        said = " ".join(text.split())[:200] or "nothing"
        raise refuse(subject, f"could not be measured: iperf3 said {said}", "try it by hand: iperf3 -c HOST") from None


def _advice(error: str) -> str:
    if "connect" in error:
        return "is its port open? network_firewall_open: [{port: '5201', protocol: tcp, from: []}], or --port"
    return "try it by hand: iperf3 -c HOST"


def judge(name: str, measured: Measured, link_mbps: int | None) -> dict[str, str]:
    """A finding: good or bad, with what to look at. A link that does not tell its speed is not judged: limited."""
    lost = "" if not measured.retransmits else f", {measured.retransmits} packets sent again"
    if not link_mbps:
        fact = f"{say(measured.mbps)}{lost}; the link does not tell its speed"
        return {"name": name, "state": "limited", "fact": fact, "remedy": ""}
    share = measured.mbps / link_mbps
    state = "good" if share >= GOOD else "bad"
    fact = f"{say(measured.mbps)} of {say(link_mbps)} ({share:.0%}){lost}"
    return {"name": name, "state": state, "fact": fact, "remedy": "" if state == "good" else _remedy(measured)}


def _remedy(measured: Measured) -> str:
    if measured.retransmits and measured.retransmits > _LOSSY * max(measured.packets, 1):
        return "packets are lost on the way: look at cable, switch port and ethtool -S of both cards"
    for cpu, side in ((measured.sender_cpu, "sender"), (measured.receiver_cpu, "receiver")):
        if cpu >= _BUSY:
            return f"a processor of the {side} is the limit ({cpu:.0f} %): jumbo frames (network_mtu) relieve it"
    return "nothing is lost and no processor is full: look at the buffers (role network), or at what else uses the link"


def say(mbps: float) -> str:
    return f"{mbps / 1000:.3g} Gbit/s" if mbps >= 1000 else f"{mbps:.0f} Mbit/s"
