#!/usr/bin/python
"""The running kernel against what is declared, in one module run, by the code that the boot unit runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_tuning_state
short_description: Compare the running kernel with what is declared, or bring it there
description:
  - Comparing changes nothing. It reports a change where the kernel differs, so that it can notify the handler that
    applies, and it fails where what is declared cannot be.
  - What this machine does not have (a frequency of the processors, power saving that the firmware keeps) is told as a
    warning and left out.
  - Applying restarts the unit that does the same at every boot, and fails with the unit's own words.
options:
  declared:
    description: Everything that is declared, as in C(/etc/provision/kernel-tuning.json).
    type: dict
    required: true
  unit:
    description: The unit to restart. Without it, the kernel is compared.
    type: str
"""

EXAMPLES = r"""
- name: Compare the running kernel with what is declared
  kernel_tuning_state:
    declared: "{{ __kernel_tuning_declared }}"
"""

RETURN = r"""
pending:
  description: The files of the kernel's that differ, each with what it says and what it shall say.
  type: list
  returned: when comparing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_tuning import changes, notes, read_former, refusals
from ansible.module_utils.provision_unit import restart


def compare(module, declared):
    wrong = list(refusals(declared))
    if wrong:
        module.fail_json(msg="; ".join(wrong))
    for note in notes(declared):
        module.warn(note)
    found = list(changes(declared, read_former()))
    text = {
        "before_header": "the running kernel",
        "after_header": "the running kernel",
        "before": "".join("%s: %s\n" % (each.path, each.found) for each in found),
        "after": "".join("%s: %s\n" % (each.path, each.wanted) for each in found),
    }
    pending = ["%s: %s instead of %s" % (each.path, each.wanted, each.found) for each in found]
    module.exit_json(changed=bool(found), pending=pending, diff=[text] if found else [])


def main():
    module = AnsibleModule(
        argument_spec={"declared": {"type": "dict", "required": True}, "unit": {"type": "str"}},
        supports_check_mode=True,
    )
    if module.params["unit"]:
        restart(module, module.params["unit"], "kernel-tuning: ")
    compare(module, module.params["declared"])


if __name__ == "__main__":
    main()
