"""What is declared of links and firewall as files, for netplan and for systemd-networkd. Pure: no I/O."""

from __future__ import annotations

import json

from ansible.module_utils.network_guard import NFT

NETPLAN = "/etc/netplan/90-provision.yaml"
NETWORKD = "/etc/systemd/network/"
REGDOM = "/etc/modprobe.d/provision-cfg80211.conf"
OURS = "# Managed by provision (role network)\n"

# Modes of files. What may hold a passphrase is root's alone.
PUBLIC, SECRET = "0644", "0600"


def declared_links(declared):
    """Whether anything is said about a link at all: what is not said stays as it is."""
    return bool(declared["mtu"] or declared["addresses"] or declared["bond"] or declared["wifi"]["ssid"])


def main_link(declared):
    """The link that has the addresses: the bond, where one is asked for."""
    return declared["bond"]["name"] if declared["bond"] else declared["interface"]


def cards(declared):
    """The cards whose settings change."""
    return list(declared["bond"]["members"]) if declared["bond"] else [declared["interface"]]


def files(declared, passphrase, seen):
    """Every declared file: path -> (text, mode)."""
    found = {}
    if declared_links(declared):
        if seen["renderer"] == "netplan":
            found[NETPLAN] = (OURS + netplan(declared, passphrase), SECRET)
        else:
            found.update(networkd(declared, passphrase, seen))
    if declared["wifi"]["country"]:
        text = OURS + "options cfg80211 ieee80211_regdom=%s\n" % declared["wifi"]["country"]
        found[REGDOM] = (text, PUBLIC)
    if declared["firewall"]:
        found[NFT] = (firewall(declared, seen["ssh_ports"]), PUBLIC)
    return found


# -- netplan: JSON is YAML -------------------------------------------------------------------------------------------


def netplan(declared, passphrase):
    link, name = {}, main_link(declared)
    if declared["addresses"]:
        link.update({"dhcp4": False, "addresses": declared["addresses"]})
        if declared["gateway"]:
            link["routes"] = [{"to": "0.0.0.0/0", "via": declared["gateway"]}]  # `default` is newer than Ubuntu 20.04
        if declared["nameservers"]:
            link["nameservers"] = {"addresses": declared["nameservers"]}
    elif declared["bond"] or declared["wifi"]["ssid"]:
        link["dhcp4"] = True
    link.update(mtu(declared))
    network = {"version": 2}
    if declared["bond"]:
        members = {card: dict({"dhcp4": False}, **mtu(declared)) for card in declared["bond"]["members"]}
        parameters = {"mode": declared["bond"]["mode"], "mii-monitor-interval": 100}
        network["ethernets"] = members
        network["bonds"] = {name: dict(link, interfaces=sorted(members), parameters=parameters)}
    elif declared["wifi"]["ssid"]:
        network["wifis"] = {name: dict(link, **{"access-points": {declared["wifi"]["ssid"]: {"password": passphrase}}})}
    else:
        network["ethernets"] = {name: link}
    return json.dumps({"network": network}, indent=2, sort_keys=True) + "\n"


def mtu(declared):
    return {"mtu": declared["mtu"]} if declared["mtu"] else {}


# -- systemd-networkd ------------------------------------------------------------------------------------------------


def networkd(declared, passphrase, seen):
    name = main_link(declared)
    found = {}
    if declared["bond"]:
        netdev = "[NetDev]\nName=%s\nKind=bond\n\n[Bond]\nMode=%s\nMIIMonitorSec=100ms\n"
        found[NETWORKD + "05-provision-%s.netdev" % name] = netdev % (name, declared["bond"]["mode"])
        for card in declared["bond"]["members"]:
            text = match(card) + link_section(declared) + "\n[Network]\nBond=%s\nLinkLocalAddressing=no\n" % name
            found[NETWORKD + "05-provision-%s.network" % card] = text
    if declared["addresses"] or declared["bond"] or declared["wifi"]["ssid"]:
        found[NETWORKD + "05-provision-%s.network" % name] = whole(declared, name)
    elif seen["network_file"]:
        # Beside whatever else that file says: it stays the administrator's.
        dropin = NETWORKD + seen["network_file"].rsplit("/", 1)[-1] + ".d/50-provision.conf"
        found[dropin] = link_section(declared).lstrip("\n")
    else:
        found[NETWORKD + "05-provision-%s.network" % name] = match(name) + link_section(declared)
    found = {path: (OURS + text, PUBLIC) for path, text in found.items()}
    if declared["wifi"]["ssid"]:
        path = "/etc/wpa_supplicant/wpa_supplicant-%s.conf" % name
        found[path] = (OURS + wpa(declared["wifi"], passphrase), SECRET)
    return found


def match(name):
    return "[Match]\nName=%s\n" % name


def link_section(declared):
    return "\n[Link]\nMTUBytes=%d\n" % declared["mtu"] if declared["mtu"] else ""


def whole(declared, name):
    """A link of its own: nothing of what stood for it elsewhere is in force any longer."""
    lines = ["", "[Network]"]
    if declared["addresses"]:
        lines += ["Address=%s" % address for address in declared["addresses"]]
        lines += ["Gateway=%s" % declared["gateway"]] if declared["gateway"] else []
        lines += ["DNS=%s" % server for server in declared["nameservers"]]
    else:
        lines += ["DHCP=ipv4"]
    return match(name) + link_section(declared) + "\n".join(lines) + "\n"


def wpa(wifi, passphrase):
    """The network's name in hexadecimal, because it may hold anything; quotes inside the passphrase are allowed."""
    lines = ["ctrl_interface=/run/wpa_supplicant", "update_config=0"]
    lines += ["country=%s" % wifi["country"]] if wifi["country"] else []
    lines += ["network={", "    ssid=%s" % wifi["ssid"].encode().hex()]
    if passphrase:
        # WPA3 where the access point has it, else WPA2; management frames are protected where it can.
        lines += ["    key_mgmt=SAE WPA-PSK-SHA256 WPA-PSK", "    ieee80211w=1", '    psk="%s"' % passphrase]
    else:
        lines += ["    key_mgmt=NONE"]
    return "\n".join([*lines, "}"]) + "\n"


# -- nftables --------------------------------------------------------------------------------------------------------

FIREWALL = """\
{ours}# A table of its own: Docker's rules, and anybody else's, are not touched. A packet has to please every table.
table inet provision {{}}
delete table inet provision
table inet provision {{
    # Ports that hosts outside may reach: of programs here, and of containers that publish them.
    chain admitted {{
{rules}
    }}

    chain input {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iif lo accept
        meta l4proto {{ 1, 58 }} accept comment "ICMP of both families"
        udp sport 67 udp dport 68 accept
        udp dport 546 accept
        tcp dport {{ {ssh} }} accept
        jump admitted
    }}

    # Before Docker's own chains, as its DOCKER-USER. By then the port that was published has become the container's:
    # the original one counts. What begins in a container is not looked at.
    chain forward {{
        type filter hook forward priority filter - 5; policy accept;
        ct state established,related accept
        ct status dnat jump published
    }}

    chain published {{
        iifname "docker0" accept
        iifname "br-*" accept
        jump admitted
        drop
    }}
}}
"""


def firewall(declared, ssh_ports):
    """`open` holds entries with `port` (number or range), `protocol` and `from` (networks; none: everybody)."""
    rules = [line for entry in declared["open"] for line in admit(entry)] or ["return"]
    return FIREWALL.format(
        ours=OURS,
        rules="\n".join("        " + rule for rule in rules),
        ssh=", ".join(str(port) for port in sorted(ssh_ports)),
    )


# By number: a host without /etc/protocols knows no names.
NUMBERS = {"tcp": 6, "udp": 17}


def admit(entry):
    """`ct original` is the port that was asked for: the same as the packet's own where nothing was translated."""
    port = "meta l4proto %d ct original proto-dst %s" % (NUMBERS[entry["protocol"]], entry["port"])
    for family, mark in (("ip", "."), ("ip6", ":")):
        sources = [source for source in entry["from"] if mark in source]
        if sources:
            yield "%s saddr { %s } %s accept" % (family, ", ".join(sources), port)
    if not entry["from"]:
        yield port + " accept"
