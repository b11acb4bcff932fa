"""What a box's link is tuned for: a profile by its real speed, and the settings that go with it. Pure.

Figures: ESnet's advice for hosts at 10 Gbit/s (fasterdata.es.net, host tuning, Linux). It hurts below 1 Gbit/s.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from provision.contradictions import Contradiction
from provision.model import Nic
from provision.solver.box import Box, Decision

PROFILE, INTERFACE, MTU, BOND = "network_profile", "network_interface", "network_mtu", "network_bond_members"
TEN, ONE, WIFI, KEEP = "10gbe", "1gbe", "wifi", "keep"
_HARDWARE = "hardware"
_FAST, _SLOW = 10_000, 1_000  # Mbit/s
_LEAST = {TEN: _FAST, ONE: _SLOW}
_QUEUES = 16  # more of them than this only cost memory at 10 Gbit/s
_JUMBO, _STANDARD = 9216, 1500

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
    kind = box.pins.get(PROFILE, profile.value)
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
    return [*_wrong_card(box), *_wrong_profile(box), *_wrong_mtu(box), *_wrong_words(box)]


def warnings(box: Box) -> list[str]:
    return list(_warnings(box))


# -- choosing --------------------------------------------------------------------------------------------------------


def _nic(box: Box) -> Nic | None:
    """The card of the pin, else the fastest that is up, else the first that is up, else a wireless one."""
    pin = box.pins.get(INTERFACE)
    if pin:
        return next((nic for nic in box.hardware.nics if nic.name == pin), None)
    kinds = [WIFI] if box.pins.get(PROFILE) == WIFI else ["ethernet", WIFI]
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
    because = f"the link of {nic.name} runs at {_speed(nic.speed_mbps)}"
    why_not = {
        TEN: "its buffers only add delay below 10 Gbit/s",
        ONE: "the link is faster" if kind == TEN else "the link is slower than 1 Gbit/s",
    }
    return Decision(kind, because, _HARDWARE, tuple(f"{name}: {why}" for name, why in why_not.items() if name != kind))


def _speed(mbps: int) -> str:
    return f"{mbps / 1000:g} Gbit/s" if mbps >= _SLOW else f"{mbps} Mbit/s"


# -- refusing --------------------------------------------------------------------------------------------------------


def _fictitious(box: Box) -> bool:
    """A virtual machine's card says what the hypervisor likes, whatever the link below can do."""
    return box.hardware.firmware.virtualization.startswith("vm:")


def _names(nics: Sequence[Nic]) -> str:
    return ", ".join(nic.name for nic in nics) or "none"


def _wrong_card(box: Box) -> Iterator[Contradiction]:
    if _unseen(box):
        return
    there, hint = {nic.name for nic in box.hardware.nics}, f"those there: {_names(box.hardware.nics)}"
    pin, members = box.pins.get(INTERFACE), box.pins.get(BOND) or []
    if pin and pin not in there:
        yield INTERFACE, f"is {pin}, and the host has no such network card", hint
    lacking = [name for name in members if name not in there]
    if lacking:
        yield BOND, f"has the member {lacking[0]}, and the host has no such network card", hint
    if len(set(members)) == 1:
        yield BOND, "has fewer than two members", "name two cards or more, or leave it out"


def _wrong_profile(box: Box) -> Iterator[Contradiction]:
    pin, nic = box.pins.get(PROFILE), _nic(box)
    if not pin or pin == KEEP or nic is None:
        return
    if (pin == WIFI) != (nic.kind == WIFI):
        yield PROFILE, f"is {pin}, and {nic.name} is no {'wireless' if pin == WIFI else 'wired'} card", "leave it out"
        return
    if nic.speed_mbps is not None and nic.speed_mbps < _LEAST.get(pin, 0) and not _fictitious(box):
        fact = f"is {pin}, and the link of {nic.name} runs at {_speed(nic.speed_mbps)}"
        yield PROFILE, fact, f"leave it out; for a faster link, look at cable and switch: ethtool {nic.name}"


def _wrong_mtu(box: Box) -> Iterator[Contradiction]:
    mtu, nic = box.pins.get(MTU), _nic(box)
    if not mtu:
        return
    if nic is None and not box.pins.get(BOND) and not _unseen(box):
        yield MTU, f"is {mtu}, and no network card is up", f"name the card: {INTERFACE}"
    if not 576 <= mtu <= _JUMBO:
        yield MTU, f"is {mtu}, which is no size of a packet", f"choose from 576 to {_JUMBO}, or 0 to leave it"
    elif mtu > _STANDARD and not box.pins.get("network_mtu_peers"):
        hint = "name addresses that have to answer such a packet in network_mtu_peers"
        yield MTU, f"is {mtu}, and nothing proves that the network carries it", hint
    if mtu > _STANDARD and nic is not None and nic.kind == WIFI:
        yield MTU, f"is {mtu}, and {nic.name} is a wireless card, which carries {_STANDARD}", "leave it out"


def _wrong_words(box: Box) -> Iterator[Contradiction]:
    pins = box.pins
    for name in ("network_rings", "network_queues"):
        if not re.fullmatch(r"max|keep|[1-9][0-9]*", pins.get(name, KEEP)):
            yield name, f"is {pins[name]!r}", "write max, keep or a number"
    if not 20 <= pins.get("network_revert_seconds", 120) <= 600:
        yield "network_revert_seconds", f"is {pins['network_revert_seconds']}", "choose from 20 to 600"
    for name, parse in _ADDRESSES.items():
        value = pins.get(name) or []
        for text in value if isinstance(value, list) else [value]:
            if not _parses(parse, text):
                yield name, f"has {text!r}, which is no address", "write it like 192.0.2.7/24" if "es" in name else ""
    for text in pins.get("network_addresses") or []:
        if "/" not in text:
            yield "network_addresses", f"has {text} without a prefix length", f"write it like {text}/24"
    yield from _wrong_ports(pins)
    yield from _wrong_wifi(pins)


_ADDRESSES = {
    "network_addresses": ipaddress.ip_interface,
    "network_gateway": ipaddress.ip_address,
    "network_nameservers": ipaddress.ip_address,
    "network_mtu_peers": ipaddress.ip_address,
}


def _parses(parse: Any, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _wrong_ports(pins: Mapping[str, Any]) -> Iterator[Contradiction]:
    name = "network_firewall_open"
    for entry in pins.get(name) or []:
        first, _, last = entry["port"].partition("-")
        numbers = [int(text) if text.isdigit() else 0 for text in (first, last or first)]
        if not 1 <= numbers[0] <= numbers[1] <= 65535:
            yield name, f"has the port {entry['port']!r}", "write a number up to 65535, or a range like 8000-8010"
        for text in entry["from"]:
            if not _parses(ipaddress.ip_network, text):
                yield name, f"admits {text!r}, which is no network", "write it like 192.0.2.0/24"


def _wrong_wifi(pins: Mapping[str, Any]) -> Iterator[Contradiction]:
    phrase, country = pins.get("network_wifi_passphrase", ""), pins.get("network_wifi_country", "")
    if phrase and not re.fullmatch(r"[ -~]{8,63}", phrase):  # the value stays unsaid
        yield "network_wifi_passphrase", "is no passphrase of 8 to 63 printable characters", "look it up again"
    if country and not re.fullmatch(r"[A-Z]{2}", country):
        yield "network_wifi_country", f"is {country!r}", "write two capital letters, like DE"
    if len(pins.get("network_wifi_ssid", "").encode()) > 32:
        yield "network_wifi_ssid", "is longer than the 32 bytes that a network's name may have", "look it up again"


# -- warning ---------------------------------------------------------------------------------------------------------


def _warnings(box: Box) -> Iterator[str]:
    nic = _nic(box)
    kind = box.pins.get(PROFILE, _profile(box).value)
    if nic and (nic.speed_mbps or 0) < _LEAST.get(kind, 0):
        told = f"claims {_speed(nic.speed_mbps)}" if nic.speed_mbps else "does not tell its speed"
        yield f"{PROFILE} is {kind} by your word: {nic.name} {told}"
    if kind == WIFI and not box.pins.get("network_wifi_country"):
        yield "network_wifi_country is not set: only the channels that are allowed everywhere are used"
    unused = [name for name in ("network_wifi_ssid",) if box.pins.get(name) and kind != WIFI]
    if unused:
        yield f"{unused[0]} has no effect: the profile is {kind}"
    if box.pins.get("network_firewall_open") and not box.pins.get("network_firewall"):
        yield "network_firewall_open has no effect: network_firewall is false"
