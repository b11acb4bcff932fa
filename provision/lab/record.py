"""What the lab remembers of each target that came up."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from provision.lab import paths
from provision.lab.files import write_private


@dataclass(frozen=True)
class LabHost:
    """A target of the lab: how to reach it, and the inventory that lists it. Paths are absolute.

    `controller` is this machine's address as the target reaches it: what listens on all addresses here is found there.
    """

    name: str
    address: str
    port: int
    user: str
    image: str
    identity_file: str
    known_hosts: str
    inventory: str
    running: bool = True
    kind: str = "container"
    controller: str = ""


def write(host: LabHost, mirrors: Mapping[str, Any]) -> None:
    """Remember a target that came up, with what it can use of its controller's mirrors."""
    text = json.dumps({"host": asdict(host), "mirrors": dict(mirrors)}, indent=1) + "\n"
    write_private(paths.host_folder(host.name) / "host.json", text)


def read(name: str) -> dict[str, Any] | None:
    """One target's record, or None when it did not come up or its record is unreadable."""
    try:
        record: dict[str, Any] = json.loads((paths.host_folder(name) / "host.json").read_text())
    except (OSError, ValueError):
        return None
    return record


def every() -> list[dict[str, Any]]:
    """The records of all targets that came up, by name."""
    folder = paths.state_root() / "hosts"
    names = sorted(file.parent.name for file in folder.glob("*/host.json"))
    return [record for record in map(read, names) if record]


def ssh(host: LabHost, user: str = "") -> list[str]:
    """The command line that opens a shell on a target."""
    options = ["-F", "none", "-i", host.identity_file, "-p", str(host.port)]
    for option in ("IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={host.known_hosts}"):
        options += ["-o", option]
    return ["ssh", *options, f"{user or host.user}@{host.address}"]


def greets(address: str, port: int) -> bool:
    """Whether an SSH server answers there now."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
