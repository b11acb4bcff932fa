"""`provision_plan`: decide, on the controller, what a host becomes, exactly as the command line does.

With a host variable `provision_plan` (the command line's own runs) that plan is taken as it is. Otherwise the host is
probed, and the tier and the settings are read from its variables: `tier`, every variable that is a setting, and extra
variables as the last layer, like `--set`.

Options: `look` (false judges the input and connects to nothing), `only`, `skip` (roles, a list or comma-separated),
`assume_gpu` (a product), `accept_hardware`. Returns `facts`: the plan and every setting of it, for `set_fact`; and
gives the host the facts that roles ask for, from the same probe, so that Ansible need not gather any.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

try:
    from provision.catalog import load_catalog, load_tier
    from provision.codec import from_data, to_data
    from provision.errors import ProvisionError, refuse
    from provision.model import Hardware, HostPlan, OperatingSystem, Refusal
    from provision.resolve import Choice, Layer, check, resolve
    from provision.schema import dotted
    from provision.settings import missing_files
except ImportError as error:
    MISSING: str | None = f"{sys.executable} cannot import provision ({error}): install it there"
else:
    MISSING = None


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("look", "only", "skip", "assume_gpu", "accept_hardware"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if MISSING:
            raise AnsibleActionFail(MISSING)
        variables = task_vars or {}
        try:
            plan = self._given(variables) or self._decided(variables)
        except ProvisionError as error:
            faults = [f"{refusal}; {refusal.hint}" for refusal in error.refusals]
            return {**result, "failed": True, "msg": "\n".join(faults), "refusals": to_data(error.refusals)}
        if plan:
            result["facts"] = {**plan.settings, "provision_plan": to_data(plan)}
            result["ansible_facts"] = _system_facts(plan.os)
        return {**result, "changed": False}

    def _given(self, variables: dict[str, Any]) -> HostPlan | None:
        if "provision_plan" not in variables:
            return None
        # Never evaluated: a plan quotes what the host says of itself, and a host must not run code on the controller.
        return from_data(HostPlan, _plain(variables["provision_plan"]), "provision_plan")

    def _decided(self, variables: dict[str, Any]) -> HostPlan | None:
        """The plan, or None where only the input was to be judged."""
        catalog = load_catalog()
        if "tier" not in variables:
            raise refuse("tier", "is not set", "add -e tier=NAME; provision tiers lists them")
        host = str(variables["inventory_hostname"])
        tier = load_tier(str(self._evaluated(variables["tier"])))
        layers = self._layers(variables)
        choice = Choice(self._roles("only"), self._roles("skip"), str(self._task.args.get("assume_gpu") or ""))
        refusals = check(host, tier, layers, catalog, choice)
        for source, values in layers:
            refusals += [Refusal(f"{source} {dotted(f.path)}", f.fact, f.hint) for f in missing_files(values)]
        if refusals:
            raise ProvisionError(refusals)
        if not boolean(self._task.args.get("look", True)):
            return None
        plan = resolve(host, self._probe(variables), tier, layers, catalog, choice)
        if plan.shortfalls and not boolean(self._task.args.get("accept_hardware", False)) and not self._task.check_mode:
            hint = "add -e provision_accept_hardware=true to apply all the same"
            raise ProvisionError(
                Refusal(f"{host} {short.subject}", f"is {short.found}; {tier.name} documents {short.documented}", hint)
                for short in plan.shortfalls
            )
        return plan

    def _layers(self, variables: dict[str, Any]) -> list[Layer]:
        """The host's settings in two layers, by where Ansible has them from."""
        settings = load_catalog().settings
        extra = settings.known(load_extra_vars(self._loader))
        rest = {name: value for name, value in settings.known(variables).items() if name not in extra}
        layers: list[Layer] = []
        faults = []
        for source, values in (("inventory", rest), ("--set", extra)):
            layers.append((source, evaluated := {}))
            for name, value in values.items():
                try:
                    evaluated[name] = self._evaluated(value)
                except AnsibleError as error:
                    faults.append(
                        Refusal(f"{source} {name}", f"cannot be evaluated: {error}", "write the value itself")
                    )
        if faults:
            raise ProvisionError(faults)
        return layers

    def _probe(self, variables: dict[str, Any]) -> Hardware:
        found = self._execute_module(module_name="provision_probe", module_args={}, task_vars=variables)
        if found.get("failed") or found.get("unreachable") or "hardware" not in found:
            raise AnsibleActionFail(f"the hardware cannot be read: {found.get('msg', 'no answer')}", result=found)
        return from_data(Hardware, _plain(found["hardware"]), str(variables["inventory_hostname"]))

    def _roles(self, option: str) -> tuple[str, ...]:
        given = self._task.args.get(option) or ()
        names = given.split(",") if isinstance(given, str) else given
        return tuple(str(name).strip() for name in names)

    def _evaluated(self, value: Any) -> Any:
        """What the operator wrote, its templates evaluated."""
        return _plain(self._templar.template(value))


def _system_facts(system: OperatingSystem) -> dict[str, str]:
    """What Ansible would gather of a system, under its own names."""
    return {
        "distribution": system.id.capitalize(),
        "distribution_release": system.codename,
        "distribution_version": system.version,
        "distribution_major_version": system.version.partition(".")[0],
        "architecture": system.architecture,
    }


def _plain(value: Any) -> Any:
    """Ansible's own data types, which remember where they come from, as plain ones."""
    return json.loads(json.dumps(value))
