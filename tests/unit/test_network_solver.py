"""What a link is tuned for: by its real speed, and by somebody's word within what the box can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.catalog import load_tier
from provision.errors import ProvisionError
from provision.model import Firmware, Hardware, HostPlan, Nic
from provision.resolve import Choice, resolve
from provision.solver.network import SYSCTLS
from tests.unit.selection_boxes import CATALOG, hardware

ONLY = Choice(only=("network",))


def nic(name: str = "enp1s0", speed: int | None = 10_000, kind: str = "ethernet", *, up: bool = True) -> Nic:
    return Nic(name, kind, "driver", speed, up)


def box(*nics: Nic, virtualization: str = "metal", **rest: Any) -> Hardware:
    plain = hardware("debian-12", ())
    return replace(plain, nics=nics, firmware=Firmware(virtualization=virtualization), **rest)


def planned(found: Hardware, **settings: Any) -> HostPlan:
    return resolve("box", found, load_tier("studio"), [("inventory", settings)], CATALOG, ONLY)


def refused(found: Hardware, **settings: Any) -> list[str]:
    with pytest.raises(ProvisionError) as error:
        planned(found, **settings)
    return [f"{refusal}; {refusal.hint}" for refusal in error.value.refusals]


@pytest.mark.parametrize(
    ("nics", "profile", "interface"),
    [
        ((nic(),), "10gbe", "enp1s0"),
        ((nic(speed=25_000),), "10gbe", "enp1s0"),
        ((nic(speed=2_500),), "1gbe", "enp1s0"),
        ((nic(speed=1_000),), "1gbe", "enp1s0"),
        ((nic(speed=100),), "keep", "enp1s0"),
        ((nic(speed=None),), "keep", "enp1s0"),
        ((nic(speed=None, up=False),), "keep", ""),
        ((nic("eno1", 1_000), nic("enp1s0", 10_000)), "10gbe", "enp1s0"),
        ((nic("eno1", 1_000), nic("enp1s0", 10_000, up=False)), "1gbe", "eno1"),
        ((nic("wlp1s0", None, "wifi"),), "wifi", "wlp1s0"),
        ((nic("wlp1s0", None, "wifi", up=False), nic(speed=None, up=False)), "wifi", "wlp1s0"),
        ((nic("wlp1s0", None, "wifi"), nic("eno1", 1_000)), "1gbe", "eno1"),
    ],
)
def test_the_fastest_card_that_is_up_decides(nics: tuple[Nic, ...], profile: str, interface: str) -> None:
    found = planned(box(*nics)).settings
    assert (found["network_profile"], found["network_interface"]) == (profile, interface)
    assert found["network_sysctls"] == SYSCTLS[profile]


def test_a_slower_link_keeps_the_kernels_buffers() -> None:
    """They hurt below 10 Gbit/s: not one of the maxima may stand in the other profiles."""
    assert {name for name in SYSCTLS["10gbe"] if "mem" in name} == {
        "net.core.rmem_max", "net.core.wmem_max", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
    }  # fmt: skip
    assert [name for kind in ("1gbe", "wifi", "keep") for name in SYSCTLS[kind] if "mem" in name] == []


def test_each_decision_says_why() -> None:
    said = {reason.subject: reason for reason in planned(box(nic("eno1", 1_000), nic())).reasons}
    assert said["network_profile"].because == "the link of enp1s0 runs at 10 Gbit/s"
    assert said["network_profile"].rejected == ("1gbe: the link is faster",)
    assert said["network_interface"].because == "the fastest of 2 that are up"
    assert said["network_queues"].choice == '"8"'


def test_ones_own_values_win() -> None:
    found = planned(box(nic()), network_profile="1gbe", network_rings="2048", network_sysctls={"net.core.somaxconn": 9})
    assert found.settings["network_queues"] == "keep"
    assert found.settings["network_rings"] == "2048"
    assert found.settings["network_sysctls"] == {"net.core.somaxconn": 9}


def test_a_fast_profile_on_a_slow_link_is_refused_with_the_speed() -> None:
    assert refused(box(nic(speed=1_000)), network_profile="10gbe") == [
        "inventory box network_profile is 10gbe, and the link of enp1s0 runs at 1 Gbit/s; "
        "leave it out; for a faster link, look at cable and switch: ethtool enp1s0"
    ]


@pytest.mark.parametrize(("speed", "told"), [(None, "does not tell its speed"), (1_000, "claims 1 Gbit/s")])
def test_a_virtual_machines_card_is_taken_at_ones_word(speed: int | None, told: str) -> None:
    found = planned(box(nic(speed=speed), virtualization="vm:kvm"), network_profile="10gbe")
    assert found.settings["network_sysctls"] == SYSCTLS["10gbe"]
    assert f"network_profile is 10gbe by your word: enp1s0 {told}" in found.warnings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network_interface": "eth7"}, "is eth7, and the host has no such network card; those there: enp1s0"),
        ({"network_profile": "wifi", "network_interface": "enp1s0"}, "is wifi, and enp1s0 is no wireless card"),
        ({"network_bond_members": ["enp1s0"]}, "has fewer than two members"),
        ({"network_bond_members": ["enp1s0", "eth7"]}, "has the member eth7, and the host has no such network card"),
        ({"network_mtu": 9000}, "is 9000, and nothing proves that the network carries it"),
        ({"network_mtu": 65000}, "is 65000, which is no size of a packet"),
        ({"network_rings": "many"}, "has 'many', which is no number of them; write max, keep or a number"),
        ({"network_addresses": ["192.0.2.7"]}, "has 192.0.2.7 without a prefix length"),
        ({"network_addresses": ["192.0.2.700/24"]}, "has '192.0.2.700/24', which is no address"),
        ({"network_gateway": "192.0.2.1/24"}, "has '192.0.2.1/24', which is no address; write it like 192.0.2.1"),
        ({"network_mtu_peers": ["switch"], "network_mtu": 9000}, "has 'switch', which is no address"),
        ({"network_firewall_open": [{"port": "0", "protocol": "tcp", "from": []}]}, "has the port '0'"),
        ({"network_firewall_open": [{"port": "9-8", "protocol": "tcp", "from": []}]}, "has the port '9-8'"),
        ({"network_firewall_open": [{"port": "80", "protocol": "tcp", "from": ["lan"]}]}, "admits 'lan'"),
        ({"network_revert_seconds": 5}, "is 5; choose from 20 to 600"),
        ({"network_wifi_country": "germany"}, "has 'germany', which is no code of a country; write two"),
        ({"network_wifi_ssid": "x" * 33}, "is longer than the 32 bytes"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    told = refused(box(nic()), **settings)
    assert len(told) == 1
    assert said in told[0]


def test_jumbo_frames_go_over_no_wireless_card() -> None:
    told = refused(box(nic("wlp1s0", None, "wifi")), network_mtu=9000, network_mtu_peers=["192.0.2.1"])
    assert "wlp1s0 is a wireless card, which carries 1500" in told[0]


def test_a_refused_passphrase_is_not_shown() -> None:
    told = refused(box(nic("wlp1s0", None, "wifi")), network_wifi_passphrase="k7Qz!")
    assert told == [
        "inventory box network_wifi_passphrase is no passphrase of 8 to 63 printable characters; look it up again"
    ]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (box(nic(), virtualization="container:podman"), "the link is that of the host of this podman container"),
        (box(nic(), virtualization="wsl"), "the link is that of Windows"),
        (box(), "there is no network card"),
    ],
)
def test_who_has_no_link_of_his_own_does_not_get_the_role(found: Hardware, why: str) -> None:
    assert why in refused(found)[0]


def test_cards_that_nobody_looked_at_are_left_alone() -> None:
    found = planned(box(unknown=("nics",)))
    assert found.settings["network_profile"] == "keep"
    assert "nobody looked at the network cards" in [reason.because for reason in found.reasons]


def test_what_has_no_effect_is_told() -> None:
    entry = {"port": "80", "protocol": "tcp", "from": []}
    found = planned(box(nic("wlp1s0", None, "wifi")), network_firewall_open=[entry])
    assert "network_firewall_open has no effect: network_firewall is false" in found.warnings
    assert "network_wifi_country is not set: only the channels that are allowed everywhere are used" in found.warnings
    assert (
        "network_wifi_ssid has no effect: the profile is 10gbe" in planned(box(nic()), network_wifi_ssid="x").warnings
    )


def test_the_passphrase_stands_in_no_reason() -> None:
    found = planned(
        box(nic("wlp1s0", None, "wifi")), network_wifi_ssid="studio", network_wifi_passphrase="quiet-harbour-7"
    )
    said = [line for reason in found.reasons for line in (reason.choice, reason.because, *reason.rejected)]
    assert "(secret)" in said
    assert [line for line in said if "quiet-harbour-7" in line] == []
