"""What is declared of links and firewall, as the files of netplan, systemd-networkd, wpa_supplicant and nftables."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from provision.content import load, roles_dir

FILES = load(roles_dir() / "network" / "module_utils" / "network_files.py")
NOTHING: dict[str, Any] = {
    "interface": "enp1s0", "mtu": 0, "peers": [], "addresses": [], "gateway": "", "nameservers": [], "bond": {},
    "wifi": {"ssid": "", "country": ""}, "firewall": False, "open": [],
}  # fmt: skip
ADDRESSED = {"addresses": ["192.0.2.7/24", "2001:db8::7/64"], "gateway": "192.0.2.1", "nameservers": ["192.0.2.1"]}
BOND = {"bond": {"name": "bond0", "mode": "802.3ad", "members": ["enp1s0", "enp2s0"]}}
WIFI = {"interface": "wlp1s0", "wifi": {"ssid": 'Café "9"', "country": "DE"}}
PHRASE = 'quiet "harbour" 7'


def files(renderer: str, passphrase: str = "", network_file: str = "", **declared: Any) -> dict[str, tuple[str, str]]:
    seen = {"renderer": renderer, "network_file": network_file, "ssh_ports": [22, 2222]}
    found: dict[str, tuple[str, str]] = FILES.files({**NOTHING, **declared}, passphrase, seen)
    return found


def netplan(passphrase: str = "", **declared: Any) -> dict[str, Any]:
    text, mode = files("netplan", passphrase, **declared)["/etc/netplan/90-provision.yaml"]
    assert mode == "0600"
    network: dict[str, Any] = yaml.safe_load(text)["network"]
    return network


@pytest.mark.parametrize("renderer", ["netplan", "networkd"])
def test_what_is_not_declared_is_left_alone(renderer: str) -> None:
    assert files(renderer) == {}


def test_netplan_gets_the_mtu_alone() -> None:
    assert netplan(mtu=9000) == {"version": 2, "ethernets": {"enp1s0": {"mtu": 9000}}}


def test_netplan_gets_addresses_and_a_bond() -> None:
    link = netplan(**ADDRESSED)["ethernets"]["enp1s0"]
    assert link["addresses"] == ADDRESSED["addresses"]
    assert link["dhcp4"] is False
    assert link["routes"] == [{"to": "0.0.0.0/0", "via": "192.0.2.1"}]
    bonded = netplan(**ADDRESSED, **BOND, mtu=9000)
    assert bonded["bonds"]["bond0"]["interfaces"] == ["enp1s0", "enp2s0"]
    assert bonded["bonds"]["bond0"]["addresses"] == ADDRESSED["addresses"]
    assert bonded["bonds"]["bond0"]["parameters"]["mode"] == "802.3ad"
    assert bonded["ethernets"] == {name: {"dhcp4": False, "mtu": 9000} for name in ("enp1s0", "enp2s0")}
    assert netplan(**BOND)["bonds"]["bond0"]["dhcp4"] is True


def test_netplan_gets_the_wireless_network_whatever_its_name_holds() -> None:
    points = netplan(PHRASE, **WIFI)["wifis"]["wlp1s0"]["access-points"]
    assert points == {'Café "9"': {"password": PHRASE}}


def test_networkd_gets_the_mtu_beside_the_administrators_own_file() -> None:
    found = files("networkd", network_file="/run/systemd/network/10-lan.network", mtu=9000)
    assert found == {
        "/etc/systemd/network/10-lan.network.d/50-provision.conf": (FILES.OURS + "[Link]\nMTUBytes=9000\n", "0644")
    }
    alone = files("networkd", mtu=9000)["/etc/systemd/network/05-provision-enp1s0.network"][0]
    assert alone == FILES.OURS + "[Match]\nName=enp1s0\n\n[Link]\nMTUBytes=9000\n"


def test_networkd_gets_addresses_and_a_bond() -> None:
    text = files("networkd", **ADDRESSED)["/etc/systemd/network/05-provision-enp1s0.network"][0]
    assert text.splitlines()[1:] == [
        "[Match]", "Name=enp1s0", "", "[Network]", "Address=192.0.2.7/24", "Address=2001:db8::7/64",
        "Gateway=192.0.2.1", "DNS=192.0.2.1",
    ]  # fmt: skip
    found = files("networkd", **ADDRESSED, **BOND)
    base = "/etc/systemd/network/05-provision-"
    assert sorted(found) == [
        base + "bond0.netdev",
        base + "bond0.network",
        base + "enp1s0.network",
        base + "enp2s0.network",
    ]
    assert "Mode=802.3ad" in found[base + "bond0.netdev"][0]
    assert "Bond=bond0" in found[base + "enp2s0.network"][0]
    assert "Address=192.0.2.7/24" in found[base + "bond0.network"][0]


def test_wpa_supplicant_gets_the_passphrase_in_a_file_of_roots_own() -> None:
    found = files("networkd", PHRASE, **WIFI)
    text, mode = found["/etc/wpa_supplicant/wpa_supplicant-wlp1s0.conf"]
    assert mode == "0600"
    assert f'psk="{PHRASE}"' in text
    assert "ssid=" + 'Café "9"'.encode().hex() in text
    assert [path for path, (content, _) in found.items() if PHRASE in content] == [
        "/etc/wpa_supplicant/wpa_supplicant-wlp1s0.conf"
    ]
    assert found["/etc/modprobe.d/provision-cfg80211.conf"][0].endswith("ieee80211_regdom=DE\n")
    assert "key_mgmt=NONE" in files("networkd", "", **WIFI)["/etc/wpa_supplicant/wpa_supplicant-wlp1s0.conf"][0]


def test_the_firewall_is_a_table_of_its_own() -> None:
    entries = [
        {"port": "8000", "protocol": "tcp", "from": []},
        {"port": "53", "protocol": "udp", "from": ["192.0.2.0/24", "2001:db8::/32"]},
    ]
    text = files("networkd", firewall=True, open=entries)["/etc/provision/network.nft"][0]
    assert "flush" not in text
    assert [line.split("inet ")[1] for line in text.splitlines() if line.startswith(("table", "delete"))] == [
        "provision {}", "provision", "provision {",
    ]  # fmt: skip
    assert "tcp dport { 22, 2222 } accept" in text
    assert "        meta l4proto 6 ct original proto-dst 8000 accept\n" in text
    assert "        ip saddr { 192.0.2.0/24 } meta l4proto 17 ct original proto-dst 53 accept\n" in text
    assert "        ip6 saddr { 2001:db8::/32 } meta l4proto 17 ct original proto-dst 53 accept\n" in text


def test_json_is_yaml() -> None:
    """netplan reads YAML; what is written is JSON, which is the same for names with quotes and colons in them."""
    assert json.loads(files("netplan", mtu=1500)[FILES.NETPLAN][0].partition("\n")[2])
