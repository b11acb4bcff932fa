"""A machine's link, and mistakes that take themselves back; on containers, ports and speed.

The machine's tests stand in order: foretold and applied, broken by its controls, robbed of SSH twice, rebooted.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Answer, Target, broken, changed_tasks, controls_of, fails_of, provision

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1800)]

CHANGE = "Change link and firewall, and take it back where SSH does not return"
OPEN = [{"port": "8000", "protocol": "tcp", "from": []}]
DECLARED: dict[str, Any] = {
    "network_profile": "10gbe", "network_interface": "enp0s3", "network_firewall": True, "network_firewall_open": OPEN,
    "network_mtu": 1400, "network_mtu_peers": ["10.0.3.2"],
}  # fmt: skip
# An address with which the way back to the controller is lost, and an MTU that the network below does not carry.
LOST = {**DECLARED, "network_interface": "enp0s2", "network_addresses": ["10.0.2.15/32"], "network_mtu": 0}
SWALLOWED = {**DECLARED, "network_interface": "enp0s2", "network_mtu": 1300, "network_mtu_peers": ["10.0.2.2"]}
SPARE = "printf '[Match]\\nName=enp0s3\\n[Network]\\nAddress=10.0.3.15/24\\n' > /etc/systemd/network/20-spare.network"

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
# A change that nobody proves, and then a reboot.
UNPROVED = r"""
import importlib.machinery, importlib.util
path = "/usr/local/lib/provision/network-guard"
loader = importlib.machinery.SourceFileLoader("guard", path)
guard = importlib.util.module_from_spec(importlib.util.spec_from_loader("guard", loader))
loader.exec_module(guard)
file = "/etc/systemd/network/05-provision-enp0s2.network"
text = "[Match]\nName=enp0s2\n[Network]\nAddress=10.0.2.99/32\n"
change = {"what": "a lost address", "files": {file: text}, "modes": {file: "0644"}, "links": {"enp0s2": 1500},
          "made": [], "renderer": "networkd"}
guard.arm(change, 600)
guard.write_new(change)
"""


class Machine:
    """The virtual machine, and the role on it."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def words(self, settings: dict[str, Any]) -> list[str]:
        given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
        return ["--only", "network", *(word for pair in given.items() for word in ("--set", "=".join(pair)))]

    def apply(self, *words: str, **settings: Any) -> Answer:
        return self.target.apply(*words, *self.words({**DECLARED, **settings}), tier="workstation")

    def verify(self) -> Answer:
        return self.target.verify(*self.words(DECLARED), tier="workstation")

    def links(self) -> str:
        return self.target.sh(
            "ip -br -4 address; cat /sys/class/net/enp0s[23]/mtu; find /etc/systemd/network -type f | sort"
        )


@pytest.fixture(scope="module")
def machine(new_target: Callable[..., Target]) -> Machine:
    found = Machine(new_target("network", "vm-debian-12"))
    found.target.sh(
        f"{SPARE}; networkctl reload; apt-get -q update > /dev/null; apt-get install -qy irqbalance > /dev/null 2>&1"
    )
    return found


# -- the machine -----------------------------------------------------------------------------------------------------


def test_check_mode_foretells_and_the_link_is_tuned(machine: Machine) -> None:
    foretold = machine.apply("--check")
    done = machine.apply()
    assert done.code == 0, done.out[-4000:]
    assert changed_tasks(foretold, machine.target.name) == changed_tasks(done, machine.target.name)
    told = machine.target.sh("ethtool -g enp0s3 | tail -n +7; tc qdisc show dev enp0s3; sysctl net.core.rmem_max")
    assert "RX:\t\t4096" in told
    assert "qdisc fq " in told
    assert "net.core.rmem_max = 67108864" in told
    assert machine.target.sh("cat /sys/class/net/enp0s3/mtu").strip() == "1400"


def test_a_second_apply_changes_nothing(machine: Machine) -> None:
    again = machine.apply("--no-verify")
    assert (again.code, changed_tasks(again, machine.target.name)) == (0, set())


@pytest.mark.parametrize("half", [0, 1])
def test_what_is_broken_is_found(machine: Machine, half: int) -> None:
    """Every other control at a time, since no two break the same test: a proof costs the same for one as for six."""
    together = controls_of("network")[half::2]
    assert broken(machine.target, together, machine.verify).failed("network") == fails_of(together)


def test_what_was_mended_is_as_declared_again(machine: Machine) -> None:
    assert machine.verify().failed("network") == set()


@pytest.mark.parametrize(
    ("settings", "prepared", "what"),
    [(LOST, "true", "the addresses 10.0.2.15/32 on enp0s2"), (SWALLOWED, BLACK_HOLE, "MTU 1300 on enp0s2")],
    ids=["a bad address", "a bad MTU"],
)
def test_a_change_that_loses_ssh_takes_itself_back(
    machine: Machine, settings: dict[str, Any], prepared: str, what: str
) -> None:
    before = machine.links()
    machine.target.sh(prepared)
    done = machine.apply("--no-verify", **settings, network_revert_seconds=40)
    assert done.code == 1
    failure = done.host(machine.target.name)["failure"]
    assert f"{what} was tried and taken back: SSH did not come back within 40 s" in " ".join(failure["fact"].split())
    assert machine.links() == before


def test_a_peer_that_does_not_answer_takes_it_back(machine: Machine) -> None:
    before = machine.links()
    done = machine.apply("--no-verify", network_mtu=1450, network_mtu_peers=["10.0.3.99"])
    assert done.code == 1
    assert "10.0.3.99 does not answer a packet of 1450 bytes" in done.out
    assert machine.links() == before


def test_after_a_reboot_all_is_back_and_what_nobody_proved_is_not(machine: Machine) -> None:
    before = machine.links()
    machine.target.sh("systemctl stop black-hole; python3 - <<'END'\n" + UNPROVED + "\nEND\n")
    machine.target.reboot()
    assert "rebooted before SSH was proved" in machine.target.sh("cat /var/lib/provision/network/guard/outcome.json")
    assert machine.links() == before
    assert machine.verify().failed("network") == set()
    again = machine.apply("--no-verify")
    assert (again.code, changed_tasks(again, machine.target.name)) == (0, set())


# -- containers ------------------------------------------------------------------------------------------------------

FIREWALL = {"network_profile": "keep", "network_firewall": True, "network_firewall_open": OPEN}
PUBLISHED = r"""
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io apparmor > /dev/null 2>&1
libraries=$(ldd /usr/bin/python3 /bin/sh | grep -o '/[^ ]*' | sort -u | grep -v ':$')
tar --create --dereference --file - /bin/sh /usr/bin/python3 /usr/lib/python3.11 $libraries 2> /dev/null |
    docker import - pv > /dev/null
for port in 8000 8001; do
    docker run --detach --restart always --publish $port:80 pv /usr/bin/python3 -m http.server 80 > /dev/null
done
systemd-run --quiet python3 -m http.server 9000
"""


@pytest.fixture(scope="module")
def pair(new_target: Callable[..., Target]) -> tuple[Target, Target]:
    """Two hosts; the first publishes two containers and has a server of its own."""
    first, second = new_target("net-a"), new_target("net-b")
    for host in (first, second):
        host.sh("apt-get -q update > /dev/null; apt-get install -qy --no-install-recommends iperf3 > /dev/null 2>&1")
    first.sh(PUBLISHED)
    return first, second


def reached(host: Target) -> list[int]:
    """The ports of a host that a connection from here reaches."""
    found = []
    for port in (22, 8000, 8001, 9000):
        with socket.socket() as connection:
            connection.settimeout(3)
            if connection.connect_ex((host.host.address, port)) == 0:
                found.append(port)
    return found


def soon(host: Target, *ports: int) -> bool:
    """Whether exactly these are reached within half a minute: what was just started takes a moment."""
    deadline = time.monotonic() + 30
    while reached(host) != list(ports):
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def test_the_speed_between_two_hosts_is_measured_and_judged(pair: tuple[Target, Target]) -> None:
    first, second = pair
    first.sh(f"echo {second.host.address} peer.example >> /etc/hosts")  # a name is as good as an address
    words = ("netcheck", "-i", first.host.inventory, first.name, second.name, "--seconds", "1", "--output", "json")
    answer = provision(*words, "--address", "peer.example")
    measured, findings = (answer.document["data"][name] for name in ("measurements", "findings"))
    assert [each["name"] for each in findings] == ["net-a to net-b", "net-b to net-a"]
    assert min(each["mbps"] for each in measured) > 100
    assert {each["link_mbps"] for each in measured} == {10_000}  # a container's card claims that
    assert answer.code == int(any(each["state"] == "bad" for each in findings))


def test_the_firewall_holds_programs_and_published_containers_to_one_list(pair: tuple[Target, Target]) -> None:
    first, second = pair
    assert soon(first, 22, 8000, 8001, 9000)
    dockers = "iptables-save | sed '/^#/d; s/\\[[0-9:]*\\]//'"
    rules = first.sh(dockers)
    done = first.play(["network"], FIREWALL)
    assert done.code == 0, done.output[-3000:]
    assert reached(first) == [22, 8000]
    assert "DOCKER" in rules
    assert first.sh(dockers) == rules
    assert first.play(["network"], FIREWALL).came_to == (0, [])
    blocked = provision("netcheck", "-i", first.host.inventory, second.name, first.name, "--seconds", "1")
    assert blocked.code == 2
    assert "network_firewall_open" in blocked.out


def test_containers_reach_each_other_and_the_world_behind_it(pair: tuple[Target, Target]) -> None:
    first, second = pair
    reach = "import socket; socket.create_connection(('{}', {}), 5); print('reached')"
    inner = first.sh("docker inspect --format '{{.NetworkSettings.IPAddress}}' $(docker ps -q | head -1)").strip()
    for address, port in ((inner, 80), (second.host.address, 22)):
        script = reach.format(address, port)
        assert "reached" in first.sh(f'docker run --rm pv /usr/bin/python3 -c "{script}"')


def test_dockers_restart_leaves_the_firewall_and_without_it_all_is_open_again(pair: tuple[Target, Target]) -> None:
    first, _ = pair
    first.sh("systemctl restart docker")
    assert soon(first, 22, 8000)
    assert first.play(["network"], {"network_profile": "keep"}).changed == [CHANGE]
    assert soon(first, 22, 8000, 8001, 9000)


def test_two_firewalls_are_refused(pair: tuple[Target, Target]) -> None:
    first, _ = pair
    first.sh("printf '[Service]\\nExecStart=/bin/sleep 600\\n' > /run/systemd/system/firewalld.service; "
             "systemctl daemon-reload; systemctl start firewalld")  # fmt: skip
    done = first.play(["network"], FIREWALL)
    first.sh("systemctl stop firewalld; rm /run/systemd/system/firewalld.service; systemctl daemon-reload")
    assert done.code != 0
    assert "firewalld is active, and two firewalls would judge each packet" in " ".join(done.output.split())
    assert 9000 in reached(first)


# udev has nothing to trigger where /sys is read-only, and netplan takes that for a failure.
NETPLAN = r"""
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends netplan.io > /dev/null 2>&1
printf '#!/bin/sh\nexit 0\n' > /usr/local/sbin/udevadm; chmod +x /usr/local/sbin/udevadm
gateway=$(ip route | sed -n 's/default via \([^ ]*\).*/\1/p')
address=$(ip -oneline -4 address show eth0 | sed -n 's/.*inet \([^ ]*\).*/\1/p')
cat > /etc/netplan/10-lan.yaml <<END
network: {version: 2, ethernets: {eth0: {addresses: [$address], routes: [{to: 0.0.0.0/0, via: $gateway}]}}}
END
chmod 600 /etc/netplan/10-lan.yaml
systemctl enable --quiet --now systemd-networkd && netplan apply 2> /dev/null
"""


def test_netplan_gets_a_second_address_and_a_bad_bond_takes_itself_back(pair: tuple[Target, Target]) -> None:
    host = pair[1]
    host.sh(NETPLAN)
    given = {"network_profile": "keep", "network_interface": "eth0", "network_revert_seconds": 20}
    beside = {**given, "network_addresses": [f"{host.host.address}/22", "198.18.7.1/30"]}
    assert host.play(["network"], beside).code == 0
    # Not the times: what comes back was written anew.
    shown = "ip -br -4 address; ip route; stat --format '%n %A %U %G' /etc/netplan/*; sha256sum /etc/netplan/*"
    assert "198.18.7.1/30" in host.sh(shown)
    before = host.sh(shown)
    done = host.play(["network"], {**given, "network_bond_members": ["eth0", "eth9"]})
    assert done.code != 0
    said = " ".join(done.output.split())
    assert "the bond of eth0 and eth9 on bond0 was tried and taken back: SSH did not come back within 20 s" in said
    assert host.sh(shown) == before


def test_an_address_that_ssh_uses_is_not_declared_away(pair: tuple[Target, Target]) -> None:
    host = pair[1]
    away = {"network_profile": "keep", "network_interface": "eth0", "network_addresses": ["198.18.7.1/30"]}
    done = host.play(["network"], away)
    assert done.code != 0
    assert f"SSH reaches this host at {host.host.address}, which network_addresses does not hold" in " ".join(
        done.output.split()
    )
