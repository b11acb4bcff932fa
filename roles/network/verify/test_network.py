"""The link is tuned as declared, now and at every boot, and only what is declared comes in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from provision.model import HostPlan

PROGRAMS = Path(__file__).parents[1] / "module_utils"
UNITS = ("provision-network.service", "provision-network-guard.service")

# A guest on a link of its own tries the host's ports, as a machine outside would. It goes however this ends.
OUTSIDER = r"""
set -eu
space=provision-verify-$$
trap 'kill $served 2>/dev/null; ip netns delete $space; ip link delete pv-in 2>/dev/null || :' EXIT
ip netns add $space
ip link add pv-in type veth peer name pv-out netns $space
ip address add 198.18.255.1/30 dev pv-in
ip link set pv-in up
ip -n $space address add 198.18.255.2/30 dev pv-out
ip -n $space link set pv-out up
python3 -c '
import socket, time
held = [socket.create_server(("198.18.255.1", port)) for port in map(int, "PORTS".split())]
time.sleep(60)
' &
served=$!
sleep 1
ip netns exec $space python3 -c '
import socket
for port in map(int, "PORTS SSH".split()):
    try:
        socket.create_connection(("198.18.255.1", port), 3).close()
        print(port)
    except OSError:
        pass
'
"""
CLOSED = 47113


def tuning(plan: HostPlan) -> dict[str, Any]:
    """What the boot unit has to bring about, by the plan."""
    told = {name: plan.settings[f"network_{name}"] for name in ("rings", "queues", "irq_affinity", "qdisc")}
    cards = plan.settings["network_bond_members"] or [plan.settings["network_interface"]]
    return {
        "cards": [] if plan.settings["network_profile"] == "keep" else [card for card in cards if card],
        "rings": told["rings"],
        "queues": told["queues"],
        "irq_affinity": told["irq_affinity"],
        "qdisc": "" if told["qdisc"] == "keep" else told["qdisc"],
        "country": plan.settings["network_wifi_country"],
        "power_save": plan.settings["network_wifi_power_save"],
    }


def main_link(plan: HostPlan) -> str:
    bonded = plan.settings["network_bond_members"]
    return str(plan.settings["network_bond_name"] if bonded else plan.settings["network_interface"])


@pytest.fixture(scope="module")
def ssh_port(host: Host) -> int:
    with host.sudo():
        told = host.check_output("sshd -T")
    return int(re.findall(r"^port (\d+)$", told, re.MULTILINE)[0])


@pytest.fixture(scope="module")
def reached(host: Host, plan: HostPlan, ssh_port: int) -> set[int]:
    """Ports of this host that a machine outside reaches, of those that are declared, a closed one and SSH.

    Without our firewall nothing is tried: what somebody else's lets through is not declared.
    """
    if not plan.settings["network_firewall"]:
        return {ssh_port, *declared_ports(plan)}
    ports = " ".join(str(port) for port in (*declared_ports(plan), CLOSED))
    with host.sudo():
        answer = host.run("sh -c %s", OUTSIDER.replace("PORTS", ports).replace("SSH", str(ssh_port)))
    assert answer.rc == 0, answer.stderr
    return set(map(int, answer.stdout.split()))


def declared_ports(plan: HostPlan) -> tuple[int, ...]:
    """Open to everybody, by TCP; of a range the first."""
    entries = [
        each for each in plan.settings["network_firewall_open"] if each["protocol"] == "tcp" and not each["from"]
    ]
    return tuple(int(each["port"].partition("-")[0]) for each in entries)


def test_the_kernel_has_the_declared_settings(host: Host, plan: HostPlan) -> None:
    wanted = {name: str(value).split() for name, value in plan.settings["network_sysctls"].items()}
    found = {name: host.check_output("cat %s", "/proc/sys/" + name.replace(".", "/")).split() for name in wanted}
    assert found == wanted


def test_the_kernel_gets_them_at_every_boot(host: Host, plan: HostPlan) -> None:
    wanted = {name: str(value) for name, value in plan.settings["network_sysctls"].items()}
    file = host.file("/etc/sysctl.d/60-provision-network.conf")
    lines = file.content_string.splitlines() if file.exists else []
    found = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)
    assert found == wanted


def test_the_cards_are_tuned_as_declared(host: Host) -> None:
    """Rings, queues, interrupts, queueing and power saving, as the program itself compares them."""
    with host.sudo():
        answer = host.run("/usr/local/lib/provision/network-tuning --check")
    assert answer.rc == 0, answer.stdout + answer.stderr


def test_what_is_declared_is_laid_down(host: Host, plan: HostPlan) -> None:
    found = json.loads(host.file("/etc/provision/network.json").content_string)
    assert found == tuning(plan)


def test_the_programs_are_the_roles_and_only_root_can_change_them(host: Host) -> None:
    for name in ("network_tuning", "network_guard"):
        program = host.file("/usr/local/lib/provision/" + name.replace("_", "-"))
        assert program.content_string == (PROGRAMS / f"{name}.py").read_text(encoding="utf-8"), program.path
        assert (program.user, program.group, program.mode) == ("root", "root", 0o755), program.path


def test_it_is_done_at_every_boot(host: Host) -> None:
    for unit in UNITS:
        assert host.service(unit).is_enabled, f"{unit} is not enabled"
        state = host.check_output("systemctl show --property Result --value %s", unit)
        assert state == "success", f"{unit} failed; see why: journalctl -u {unit}"


def test_no_change_of_the_network_waits_for_its_proof(host: Host) -> None:
    with host.sudo():
        assert not host.file("/var/lib/provision/network/guard/armed").exists, "what stood before will come back"


def test_irqbalance_leaves_the_cards_interrupts_alone(host: Host, plan: HostPlan) -> None:
    wanted = plan.settings["network_irq_affinity"] == "spread" and host.service("irqbalance").is_running
    told = host.check_output("systemctl show --property ExecStart --value irqbalance.service")
    assert not wanted or "policyscript=/usr/local/lib/provision/irq-policy" in told, told


def test_the_link_has_the_declared_mtu_and_addresses(host: Host, plan: HostPlan) -> None:
    mtu, addresses = plan.settings["network_mtu"], plan.settings["network_addresses"]
    told = host.check_output("ip -json address show")
    found = {link["ifname"]: link for link in json.loads(told)}.get(main_link(plan), {})
    assert mtu in (0, found.get("mtu")), f"{main_link(plan)} has an MTU of {found.get('mtu')}, and not of {mtu}"
    there = {f"{each['local']}/{each['prefixlen']}" for each in found.get("addr_info", [])}
    assert set(addresses) <= there, f"{main_link(plan)} has {sorted(there)}"


def test_the_peers_answer_a_packet_of_the_full_mtu(host: Host, plan: HostPlan) -> None:
    mtu = plan.settings["network_mtu"]
    for peer in plan.settings["network_mtu_peers"] if mtu else []:
        with host.sudo():
            answer = host.run("ping -M do -c 3 -i 0.3 -W 2 -s %s %s", str(mtu - 28), peer)
        assert answer.rc == 0, f"{peer} does not answer a packet of {mtu} bytes that may not be divided"


def test_ssh_and_the_declared_ports_are_reached_from_outside(reached: set[int], plan: HostPlan, ssh_port: int) -> None:
    assert {ssh_port, *declared_ports(plan)} <= reached


def test_nothing_else_is_reached_where_the_firewall_is_wanted(reached: set[int]) -> None:
    assert CLOSED not in reached


def test_the_firewall_comes_back_at_every_boot(host: Host, plan: HostPlan) -> None:
    assert host.file("/etc/provision/network.nft").exists == plan.settings["network_firewall"]


def test_the_passphrase_is_for_root_alone(host: Host) -> None:
    with host.sudo():
        told = host.check_output(
            "find /etc/netplan/90-provision.yaml /etc/wpa_supplicant -type f -perm /077 -print 2>/dev/null || :"
        )
    assert told == "", f"others may read {told}"
