"""The lab's inventory: one YAML file that plain Ansible and `provision -i` read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from provision.lab import paths
from provision.lab.files import write_private

HEADER = "# Written by provision lab; changes made here are lost with the next up or down.\n"


def entry(host: Mapping[str, Any], mirrors: Mapping[str, Any]) -> dict[str, Any]:
    """What Ansible has to know to reach a target and to hand it the controller's mirrors."""
    return {
        "ansible_host": host["address"],
        "ansible_port": host["port"],
        "ansible_user": host["user"],
        "ansible_ssh_private_key_file": host["identity_file"],
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={host['known_hosts']} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
        "ansible_python_interpreter": "/usr/bin/python3",
        "mirrors": dict(mirrors),
    }


def render(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The inventory as YAML, hosts in order of their names."""
    hosts = {name: dict(entries[name]) for name in sorted(entries)}
    document = {"all": {"children": {"lab": {"hosts": hosts}}}}
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=160)


def write(records: Iterable[Mapping[str, Any]]) -> Path:
    """Write the inventory of these targets' records; with none, remove the file."""
    entries = {record["host"]["name"]: entry(record["host"], record["mirrors"]) for record in records}
    file = paths.inventory_file()
    if entries:
        write_private(file, render(entries))
    else:
        file.unlink(missing_ok=True)
    return file
