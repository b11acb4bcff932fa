"""`provision netcheck A B`: iperf3 both ways between two hosts, judged against the slower of their links."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from provision import link_speed
from provision.engine import ssh
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError, refuse
from provision.inventory import parse_target, read_inventory
from provision.model import Host
from provision.report import EXIT_UNREACHABLE, Report

# The card on the way to a host, and its speed; a bond tells the sum of its members'. `ip` takes no names.
_LOOK = """\
command -v iperf3 > /dev/null || {{ echo lacking; exit; }}
address=$(getent ahosts {address} | sed -n '1s/ .*//p')
card=$(ip -oneline route get "$address" | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')
echo "${{card:-none}} $(cat /sys/class/net/$card/speed 2> /dev/null || echo -1)"
"""
# The server may take a moment to listen.
_CLIENT = """\
for try in 1 2 3 4 5 6 7 8 9 10; do
    said=$(iperf3 --client {address} --port {port} --connect-timeout 2000 --json {way} \\
        --parallel {streams} --time {seconds})
    case $said in *"unable to connect"*) sleep 1 ;; *) break ;; esac
done
printf '%s' "$said"
"""


@dataclass(frozen=True)
class Wish:
    """What is to be measured. `address` is B's as A reaches it; empty takes that of the inventory."""

    hosts: tuple[str, str]
    inventories: tuple[Path, ...] = ()
    address: str = ""
    seconds: int = 5
    streams: int = 4
    port: int = 5201


def netcheck(wish: Wish) -> Report:
    """Measure both directions. Changes nothing on either host.

    Raises:
        ProvisionError: hosts that cannot be reached or lack iperf3, or a measurement that failed.
    """
    first, second = _hosts(wish)
    address = wish.address or second.address or second.name
    with Workspace((first, second)) as workspace:
        origin = first.address or first.name
        speeds = {
            first.name: _speed(workspace, first, address),
            second.name: _speed(workspace, second, origin),
        }
        known = [speed for speed in speeds.values() if speed]
        link = min(known) if len(known) == len(speeds) else None
        names = (f"{first.name} to {second.name}", f"{second.name} to {first.name}")
        measured = [
            link_speed.read(_measure(workspace, first, second, address, wish, way), name, reverse=bool(way))
            for name, way in zip(names, ("", "--reverse"), strict=True)
        ]
    findings = [link_speed.judge(name, each, link) for name, each in zip(names, measured, strict=True)]
    rows = [
        {"direction": name, "mbps": round(each.mbps), "retransmits": each.retransmits, "link_mbps": link}
        for name, each in zip(names, measured, strict=True)
    ]
    sound = all(finding["state"] != "bad" for finding in findings)
    return Report("netcheck", data={"findings": findings, "measurements": rows}, ok=sound)


def _hosts(wish: Wish) -> tuple[Host, Host]:
    first, second = wish.hosts
    if first == second:
        raise refuse(first, "was named twice", "name two hosts")
    if not wish.inventories:
        return parse_target(first), parse_target(second)
    found = {host.name: host for host in read_inventory(wish.inventories, f"{first},{second}").hosts}
    for name in wish.hosts:
        if name not in found:
            raise refuse(name, "is not one host of the inventory", f"one of: {', '.join(found) or 'none'}")
    return found[first], found[second]


def _ask(workspace: Workspace, host: Host, script: str, timeout: float) -> str:
    answer = ssh.run(workspace, host, f"sh -c {shlex.quote(script)}", timeout=timeout)
    if answer.code == ssh.SSH_FAILED:
        raise ProvisionError(ssh.explain(workspace, host, answer).refusal, EXIT_UNREACHABLE)
    return answer.out.strip()


def _speed(workspace: Workspace, host: Host, towards: str) -> int | None:
    """Mbit/s of the card that leads to an address; None where it does not tell."""
    said = _ask(workspace, host, _LOOK.format(address=shlex.quote(towards)), 30)
    if said == "lacking":
        hint = "apt-get install iperf3 there; the role network brings it"
        raise refuse(host.name, "has no iperf3", hint)
    speed = int(said.split()[-1])
    return speed if speed > 0 else None


def _measure(workspace: Workspace, first: Host, second: Host, address: str, wish: Wish, way: str) -> str:
    """What the client on the first host printed; the server on the second serves it and ends."""
    patience = wish.seconds + 30
    words: Mapping[str, object] = {"port": wish.port, "streams": wish.streams, "seconds": wish.seconds, "way": way}
    server = f"timeout {patience} iperf3 --server --one-off --port {wish.port} > /dev/null"
    client = _CLIENT.format(address=shlex.quote(address), **words)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(_ask, workspace, second, server, patience + 10)
        said = _ask(workspace, first, client, patience + 30)
        serving.result()
    return said
