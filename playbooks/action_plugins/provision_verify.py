"""`provision_verify`: prove a host, from the controller, with `provision verify` and the inputs of this playbook run.

The inventories, the vault password files, `tier` and those extra variables that are settings are passed on.

Options: `only`, `skip` (roles, a list or comma-separated), `assume_gpu` (a product).
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

try:
    from provision.settings import load_registry
except ImportError as error:
    MISSING: str | None = f"{sys.executable} cannot import provision ({error}): install it there"
else:
    MISSING = None


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("only", "skip", "assume_gpu"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if MISSING:
            raise AnsibleActionFail(MISSING)
        done = subprocess.run(self._command(task_vars or {}), capture_output=True, text=True, check=False)
        told = (done.stdout + done.stderr).strip()
        return {**result, "changed": False, "failed": done.returncode != 0, "rc": done.returncode, "msg": told}

    def _command(self, variables: dict[str, Any]) -> list[str]:
        if "tier" not in variables:
            raise AnsibleActionFail("tier is not set; add -e tier=NAME; provision tiers lists them")
        tier = self._templar.template(variables["tier"])
        given = self._templar.template(load_extra_vars(self._loader))
        return [
            *(sys.executable, "-m", "provision", "verify", f"--tier={tier}"),
            *(f"--inventory={source}" for source in variables["ansible_inventory_sources"]),
            f"--limit={variables['inventory_hostname']}",
            *(f"--vault-password-file={path}" for path in context.CLIARGS.get("vault_password_files") or ()),
            *(f"--{option}={role}" for option in ("only", "skip") for role in self._roles(option)),
            *(f"--assume-gpu={product}" for product in [self._task.args.get("assume_gpu")] if product),
            *(f"--set={name}={_written(value)}" for name, value in load_registry().known(given).items()),
        ]

    def _roles(self, option: str) -> list[str]:
        given = self._task.args.get(option) or ()
        return [str(name).strip() for name in (given.split(",") if isinstance(given, str) else given)]


def _written(value: Any) -> str:
    """As one writes it behind --set: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
