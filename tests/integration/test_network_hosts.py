"""The network role on two hosts that are containers: ports, published containers, speed, netplan."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from tests.integration.conftest import Target, provision
from tests.integration.whole_machine import OPEN

pytestmark = pytest.mark.lab

CHANGE = "Change link and firewall, and take it back where SSH does not return"
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
