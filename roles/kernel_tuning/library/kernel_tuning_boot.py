#!/usr/bin/python
"""The kernel's command line as GRUB gives it at the next boot. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_tuning_boot
short_description: Add words to the kernel's command line, beside what the administrator has
description:
  - Words that the administrator does not have are added by C(/etc/default/grub.d/90-provision.cfg); nobody else's file
    is touched. No word needs adding, no file is left.
  - A word for which the administrator has another value is refused before anything is written. It was set for this very
    machine, often because it does not boot without.
  - GRUB's configuration is made beside the one in force, judged by C(grub-script-check), looked through for the words,
    and only then put in force. The one before stays in C(/var/lib/provision/kernel_tuning/grub.cfg.former).
  - In check mode the file and the command line are shown, before and after.
options:
  words:
    description: The words that the command line shall have.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Let cards read each other's memory
  kernel_tuning_boot:
    words: [iommu=pt]
"""

RETURN = r"""
reboot_required:
  description: Whether the running kernel was started with other words than are declared.
  type: bool
  returned: always
line:
  description: The words that GRUB's files give at the next boot.
  type: str
  returned: where GRUB is the boot loader
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_tuning_grub import (
    DROP_IN,
    Trouble,
    bring,
    differs,
    other_loader,
    plan,
    reboot_required,
    running,
    text_of,
)


def elsewhere(module, declared):
    """A machine that another loader boots is left alone; what is declared must be there already."""
    missing = [word for word in declared if word not in running()]
    if missing:
        module.fail_json(
            msg="this machine boots with %s, whose command line provision does not change: add %s to it yourself, or "
            "set kernel_tuning_boot_parameters to []" % (other_loader(), " ".join(missing))
        )
    module.exit_json(changed=False, reboot_required=False)


def diff(wanted):
    texts = (
        (DROP_IN, text_of(DROP_IN), wanted.content),
        ("the kernel's command line", " ".join(wanted.before) + "\n", " ".join(wanted.after) + "\n"),
    )
    return [
        {"before_header": name, "after_header": name, "before": before, "after": after}
        for name, before, after in texts
        if before != after
    ]


def main():
    module = AnsibleModule(
        argument_spec={"words": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    declared = module.params["words"]
    if other_loader():
        elsewhere(module, declared)
    try:
        wanted = plan(module.run_command, declared)
        changed, shown = differs(wanted), diff(wanted)
        if changed and not module.check_mode:
            bring(module.run_command, wanted, declared)
    except Trouble as trouble:
        module.fail_json(msg=str(trouble))
    module.exit_json(
        changed=changed,
        diff=shown,
        line=" ".join(wanted.after),
        reboot_required=reboot_required(declared, wanted.after),
    )


if __name__ == "__main__":
    main()
