#!/usr/bin/python
"""The host's cards against what is declared, read in one module run, by the code that the boot unit runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_power_cards
short_description: Compare the NVIDIA cards of a host with what is declared, or bring them to it
description:
  - Comparing changes nothing. It reports a change where a card differs, so that it can notify the handler that applies,
    and it fails, naming the card, where what is declared cannot be.
  - Where no driver answers nothing is compared, and a warning says so.
  - Applying restarts the unit that does the same at every boot, and fails with the unit's own words.
options:
  declared:
    description: Persistence, caps and MIG instances, as in C(/etc/provision/gpu-power.json).
    type: dict
    required: true
  unit:
    description: The unit to restart. Without it, the cards are compared.
    type: str
"""

EXAMPLES = r"""
- name: Compare the cards with what is declared
  gpu_power_cards:
    declared: {persistence: true, limit_watts: 250, limits: {}, psu_watts: 0, rest_watts: 250, mig: {}}
"""

RETURN = r"""
answers:
  description: Whether a driver answers.
  type: bool
  returned: when comparing
pending:
  description: What is to be done to which card.
  type: list
  returned: when comparing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpu_power import Trouble, already_capped, changes, label, look, notes, refusals
from ansible.module_utils.provision_unit import restart


def compare(module, declared):
    try:
        cards = look()
    except Trouble as trouble:
        module.warn("%s: what is declared for the cards is brought about at the first boot where it answers" % trouble)
        module.exit_json(changed=False, answers=False, pending=[])
    found = list(changes(declared, cards, already_capped()))
    wrong = [*refusals(declared, cards), *(str(each) for each in found if isinstance(each, Trouble))]
    if wrong:
        module.fail_json(msg="; ".join(wrong))
    for note in notes(declared, cards):
        module.warn(note)
    pending = ["%s: %s" % (label(each.card), each.wanted) for each in found]
    module.exit_json(changed=bool(pending), answers=True, pending=pending)


def main():
    module = AnsibleModule(
        argument_spec={"declared": {"type": "dict", "required": True}, "unit": {"type": "str"}},
        supports_check_mode=True,
    )
    if module.params["unit"]:
        restart(module, module.params["unit"], "gpu-power: ")
    compare(module, module.params["declared"])


if __name__ == "__main__":
    main()
