"""Runs in a process of its own: Ansible's inventory, with vaults opened and templates evaluated, as JSON.

`ansible-inventory --list` does neither, and names no file when a group_vars file is broken. A separate process keeps
Ansible's 0.3 s import and its global state out of the command line. Request on stdin, answer on stdout:

    {"sources": [...], "limit": null, "vault_files": [...], "vault_password": null}
    {"hosts": {"web1": {"variables": {...}, "unevaluated": {"name": "why"}}}, "error": null, "known": [...]}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ansible.cli import CLI
from ansible.constants import DEFAULT_VAULT_IDENTITY_LIST, INTERNAL_STATIC_VARS
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar
from ansible.vars.manager import VariableManager

NOT_THE_USERS = {*INTERNAL_STATIC_VARS, "ansible_local"}  # the latter comes with inject_facts_as_vars off


def main() -> None:
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {"hosts": {}, "error": None, "known": []}
    try:
        _read(request, answer)
    except AnsibleError as error:
        answer["error"] = str(error)
    json.dump(answer, sys.stdout)


def _read(request: Mapping[str, Any], answer: dict[str, Any]) -> None:
    """Fill in `known`, every name a limit may use, and `hosts`."""
    loader = DataLoader()
    secrets = CLI.setup_vault_secrets(
        loader,
        vault_ids=DEFAULT_VAULT_IDENTITY_LIST,
        vault_password_files=request["vault_files"],
        ask_vault_pass=False,
        auto_prompt=False,
    )
    if request["vault_password"] is not None:
        secrets.append(("default", VaultSecret(request["vault_password"].encode())))
    loader.set_vault_secrets(secrets)
    inventory = InventoryManager(loader=loader, sources=request["sources"])
    variables = VariableManager(loader=loader, inventory=inventory)
    answer["known"] = [*inventory.hosts, *inventory.groups]
    inventory.subset(request["limit"] or None)
    answer["hosts"] = {host.name: _host(host, variables, loader) for host in inventory.get_hosts()}


def _host(host: Any, manager: Any, loader: Any) -> dict[str, Any]:
    own = manager.get_vars(host=host, include_hostvars=False, stage="all")
    templar = Templar(loader, variables=manager.get_vars(host=host))
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, value in own.items():
        if name in NOT_THE_USERS or name.startswith("__"):
            continue
        try:
            # Through JSON at once, so that a vault that cannot be opened fails here, beside its name.
            found[name] = json.loads(json.dumps(templar.template(value), default=str))
        except Exception as error:  # noqa: BLE001  a template may raise anything its filters and lookups raise
            failed[name] = str(error)
    return {"variables": found, "unevaluated": failed}


if __name__ == "__main__":
    main()
