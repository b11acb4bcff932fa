#!/usr/bin/python
"""The host's network cards against what is declared, by the code that the boot unit runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network_cards
short_description: Compare network cards and the kernel's network settings with what is declared, or bring them to it
description:
  - Comparing changes nothing. It reports a change where a card or a kernel setting differs, so that it can notify the
    handler that applies, and it fails, naming the card, where a card is not there.
  - Applying loads the settings of sysctl and restarts the unit that does the rest at every boot.
options:
  declared:
    description: Rings, queues, interrupts and queueing, as in C(/etc/provision/network.json).
    type: dict
    required: true
  sysctls:
    description: Kernel settings by name.
    type: dict
    default: {}
  unit:
    description: The unit to restart. Without it, the cards are compared.
    type: str
"""

EXAMPLES = r"""
- name: Compare the network card with what is declared
  network_cards:
    declared: {cards: [enp1s0], rings: max, queues: keep, irq_affinity: spread, qdisc: fq, country: "",
               power_save: true}
    sysctls: {net.core.rmem_max: 67108864}
"""

RETURN = r"""
pending:
  description: What is to be done to which card or setting.
  type: list
  returned: when comparing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.network_tuning import apply, read
from ansible.module_utils.provision_unit import restart

SYSCTLS = "/etc/sysctl.d/60-provision-network.conf"


def wrong_sysctls(wanted):
    for name, value in sorted(wanted.items()):
        now = read("/proc/sys/" + name.replace(".", "/"))
        if now.split() != str(value).split():
            yield "%s is %s instead of %s" % (name, now or "unknown to this kernel", value)


def compare(module, declared, sysctls):
    if not module.get_bin_path("ethtool"):  # check mode on a bare host
        module.exit_json(changed=bool(declared["cards"] or sysctls), pending=["nothing can be asked yet"])
    pending, troubles = apply(declared, True, lambda _: None)
    if troubles:
        module.fail_json(msg="; ".join(troubles))
    pending += list(wrong_sysctls(sysctls))
    module.exit_json(changed=bool(pending), pending=pending)


def bring(module, sysctls, unit):
    if module.check_mode:
        module.exit_json(changed=True)
    if sysctls:
        code, _, err = module.run_command(["sysctl", "--quiet", "--load", SYSCTLS])
        if code != 0:
            module.fail_json(msg="sysctl refuses %s: %s" % (SYSCTLS, err.strip()))
    restart(module, unit, "network: ")


def main():
    module = AnsibleModule(
        argument_spec={
            "declared": {"type": "dict", "required": True},
            "sysctls": {"type": "dict", "default": {}},
            "unit": {"type": "str"},
        },
        supports_check_mode=True,
    )
    given = module.params
    if given["unit"]:
        bring(module, given["sysctls"], given["unit"])
    compare(module, given["declared"], given["sysctls"])


if __name__ == "__main__":
    main()
