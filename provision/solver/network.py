"""What a box's link is tuned for: a profile by its real speed, and the settings that go with it. Pure.

Figures: ESnet's advice for hosts at 10 Gbit/s (fasterdata.es.net, host tuning, Linux). It hurts below 1 Gbit/s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provision import link_speed
from provision.contradictions import Contradiction
from provision.model import Nic
from provision.solver.box import Box, Decision

PROFILE, INTERFACE, MTU, BOND = "network_profile", "network_interface", "network_mtu", "network_bond_members"
TEN, ONE, WIFI, KEEP = "10gbe", "1gbe", "wifi", "keep"
_HARDWARE = "hardware"
_FAST, _SLOW = 10_000, 1_000  # Mbit/s
_LEAST = {TEN: _FAST, ONE: _SLOW}
_QUEUES = 16  # more of them than this only cost memory at 10 Gbit/s
_STANDARD = 1500  # bytes of a packet, and the most that a wireless card carries

SYSCTLS: Mapping[str, Mapping[str, Any]] = {
    TEN: {
        "net.core.rmem_max": 67108864,
        "net.core.wmem_max": 67108864,
        "net.ipv4.tcp_rmem": "4096 87380 33554432",
        "net.ipv4.tcp_wmem": "4096 65536 33554432",
        "net.ipv4.tcp_mtu_probing": 1,
        "net.core.default_qdisc": "fq",
    },
    ONE: {"net.ipv4.tcp_mtu_probing": 1, "net.core.default_qdisc": "fq"},
    WIFI: {},
    KEEP: {},
}
"""Buffers in bytes: least, first and most. Only a fast link needs larger ones."""

_WHY_SYSCTLS = {
    TEN: "ESnet's values for 10 Gbit/s",
    ONE: "the kernel's own buffers fill 1 Gbit/s; larger ones would only add delay",
    WIFI: "the kernel's wireless queues care for delay themselves",
    KEEP: "nothing is tuned",
}


def dropped(box: Box) -> str:
    if box.outside:
        return f"the link is that of {box.outside}"
    return "" if box.hardware.nics or _unseen(box) else "there is no network card"


def _unseen(box: Box) -> bool:
    return "nics" in box.hardware.unknown


def decisions(box: Box) -> Mapping[str, Decision]:
    nic, profile = _nic(box), _profile(box)
    kind = _kind(box)
    wired = kind in (TEN, ONE)
    queues = str(min(box.hardware.cpu.cores, _QUEUES))
    spread = "each interrupt keeps one processor near the card"
    untuned = "nothing is tuned" if kind == KEEP else "a wireless card has none to set"
    return {
        PROFILE: profile,
        INTERFACE: Decision(nic.name if nic else "", _why_nic(box, nic), _HARDWARE),
        "network_sysctls": Decision(dict(SYSCTLS[kind]), _WHY_SYSCTLS[kind], _HARDWARE),
        "network_rings": Decision("max" if wired else KEEP, "bursts need room" if wired else untuned, _HARDWARE),
        "network_queues": (
            Decision(queues, "one for each core, as far as the card has them", _HARDWARE)
            if kind == TEN
            else Decision(KEEP, "one processor keeps up with it" if kind == ONE else untuned, _HARDWARE)
        ),
        "network_irq_affinity": Decision("spread" if wired else KEEP, spread if wired else untuned, _HARDWARE),
        "network_qdisc": Decision("fq" if wired else KEEP, "it paces each flow" if wired else untuned, _HARDWARE),
    }


def faults(box: Box) -> list[Contradiction]:
    return [*_wrong_card(box), *_wrong_profile(box), *_wrong_mtu(box)]


def warnings(box: Box) -> list[str]:
    return list(_warnings(box))


# -- choosing --------------------------------------------------------------------------------------------------------


def _nic(box: Box) -> Nic | None:
    """The card of the pin, else the fastest that is up, else the first that is up, else a wireless one."""
    pin = box.setting(INTERFACE)
    if pin:
        return next((nic for nic in box.hardware.nics if nic.name == pin), None)
    kinds = [WIFI] if box.setting(PROFILE) == WIFI else ["ethernet", WIFI]
    known = [nic for nic in box.hardware.nics if nic.kind in kinds]
    up = [nic for nic in known if nic.up] or [nic for nic in known if nic.kind == WIFI]
    return max(up, key=lambda nic: (nic.kind == "ethernet", nic.speed_mbps or 0), default=None)


def _none(box: Box) -> str:
    return "nobody looked at the network cards" if _unseen(box) else "no network card is up"


def _why_nic(box: Box, nic: Nic | None) -> str:
    if nic is None:
        return _none(box)
    if not nic.up:
        return "it is the wireless card"
    others = [other for other in box.hardware.nics if other.up and other != nic]
    return f"the fastest of {len(others) + 1} that are up" if others and nic.speed_mbps else "it is up"


def _profile(box: Box) -> Decision:
    nic = _nic(box)
    if nic is None:
        return Decision(KEEP, _none(box), _HARDWARE)
    if nic.kind == WIFI:
        return Decision(WIFI, f"{nic.name} is a wireless card", _HARDWARE)
    if nic.speed_mbps is None:
        return Decision(KEEP, f"{nic.name} does not tell its speed", _HARDWARE)
    kind = TEN if nic.speed_mbps >= _FAST else ONE if nic.speed_mbps >= _SLOW else KEEP
    because = f"the link of {nic.name} runs at {link_speed.say(nic.speed_mbps)}"
    why_not = {
        TEN: "its buffers only add delay below 10 Gbit/s",
        ONE: "the link is faster" if kind == TEN else "the link is slower than 1 Gbit/s",
    }
    return Decision(kind, because, _HARDWARE, tuple(f"{name}: {why}" for name, why in why_not.items() if name != kind))


def _kind(box: Box) -> str:
    """The profile that applies: somebody's own, or the link's."""
    return str(box.setting(PROFILE) or _profile(box).value)


# -- refusing --------------------------------------------------------------------------------------------------------


def _wrong_card(box: Box) -> Iterator[Contradiction]:
    if _unseen(box):
        return
    there = [nic.name for nic in box.hardware.nics]
    pin, hint = box.setting(INTERFACE), f"those there: {', '.join(there) or 'none'}"
    if pin and pin not in there:
        yield INTERFACE, f"is {pin}, and the host has no such network card", hint
    for name in box.setting(BOND):
        if name not in there:
            yield BOND, f"has the member {name}, and the host has no such network card", hint


def _wrong_profile(box: Box) -> Iterator[Contradiction]:
    pin, nic = box.setting(PROFILE), _nic(box)
    if not pin or pin == KEEP or nic is None:
        return
    if (pin == WIFI) != (nic.kind == WIFI):
        yield PROFILE, f"is {pin}, and {nic.name} is no {'wireless' if pin == WIFI else 'wired'} card", "leave it out"
        return
    if nic.speed_mbps is not None and not box.guest and nic.speed_mbps < _LEAST.get(pin, 0):
        fact = f"is {pin}, and the link of {nic.name} runs at {link_speed.say(nic.speed_mbps)}"
        yield PROFILE, fact, f"leave it out; for a faster link, look at cable and switch: ethtool {nic.name}"


def _wrong_mtu(box: Box) -> Iterator[Contradiction]:
    mtu, nic = box.setting(MTU), _nic(box)
    if mtu and nic is None and not box.setting(BOND) and not _unseen(box):
        yield MTU, f"is {mtu}, and no network card is up", f"name the card: {INTERFACE}"
    if mtu > _STANDARD and nic is not None and nic.kind == WIFI:
        yield MTU, f"is {mtu}, and {nic.name} is a wireless card, which carries {_STANDARD}", "leave it out"


# -- warning ---------------------------------------------------------------------------------------------------------


def _warnings(box: Box) -> Iterator[str]:
    nic = _nic(box)
    kind = _kind(box)
    if nic and (nic.speed_mbps or 0) < _LEAST.get(kind, 0):
        told = f"claims {link_speed.say(nic.speed_mbps)}" if nic.speed_mbps else "does not tell its speed"
        yield f"{PROFILE} is {kind} by your word: {nic.name} {told}"
    if kind == WIFI and not box.setting("network_wifi_country"):
        yield "network_wifi_country is not set: only the channels that are allowed everywhere are used"
    if kind != WIFI and box.setting("network_wifi_ssid"):
        yield f"network_wifi_ssid has no effect: the profile is {kind}"
    if box.setting("network_firewall_open") and not box.setting("network_firewall"):
        yield "network_firewall_open has no effect: network_firewall is false"
