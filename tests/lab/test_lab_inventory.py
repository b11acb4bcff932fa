"""The inventory of the lab: valid for Ansible, private, gone with the last target."""

from __future__ import annotations

from typing import Any

import yaml

from provision.lab import inventory, paths


def record(name: str, address: str) -> dict[str, Any]:
    host = {"name": name, "address": address, "port": 22, "user": "admin", "identity_file": "/k", "known_hosts": "/h"}
    return {"host": host, "mirrors": {"python": {"index": "https://pip.example/simple"}}}


def test_every_target_is_listed_with_all_that_ansible_needs() -> None:
    file = inventory.write([record("two", "10.0.0.2"), record("one", "10.0.0.1")])
    assert file == paths.inventory_file()
    assert file.stat().st_mode & 0o777 == 0o600
    hosts = yaml.safe_load(file.read_text())["all"]["children"]["lab"]["hosts"]
    assert list(hosts) == ["one", "two"]
    assert hosts["one"] == {
        "ansible_host": "10.0.0.1",
        "ansible_port": 22,
        "ansible_user": "admin",
        "ansible_ssh_private_key_file": "/k",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/h -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
        "mirrors": {"python": {"index": "https://pip.example/simple"}},
    }


def test_the_file_goes_with_the_last_target() -> None:
    inventory.write([record("one", "10.0.0.1")])
    assert not inventory.write([]).exists()
