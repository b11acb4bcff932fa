#!/usr/bin/python
"""After a reboot: is the driver in force? If not, go back. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_settle
short_description: Judge the driver that a reboot brought into force, or return to the previous one
description:
  - Does nothing unless the journal awaits a reboot that has happened, which a changed boot id shows.
  - The loaded module must have the version of the installed library and of the locked closure. Otherwise the previous
    closure is brought back from its kept packages, without a network, and the task fails with what was seen.
options:
  rebooted:
    description: The caller has just rebooted the host, so an unchanged boot id is a fault.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Judge the driver after the reboot
  nvidia_driver_settle:
    rebooted: true
"""

RETURN = r"""
msg:
  description: What was seen.
  type: str
  returned: always
reboot_required:
  description: Whether the driver is in force only after another reboot.
  type: bool
  returned: always
"""

from ansible.module_utils import nvidia_driver_state as state
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.nvidia_driver_apt import Apt
from ansible.module_utils.nvidia_driver_moves import judge, lock, note_judged, restore

AGAIN = "reboot the host, then run again: provision apply --reboot allow"


def roll_back(module, journal, closure, seen):
    """Bring the previous closure back and fail with what happened."""
    failed = {"id": closure["id"], "wish": closure["wish"], "saw": "after the reboot %s" % seen}
    tried = "the driver %s does not work after its reboot: %s" % (closure["id"], seen)
    previous = state.kept(journal.get("previous"))
    if not previous:
        state.note(stage="stranded", to=closure["id"], previous=None, boot_id=state.boot_id(), failed=failed)
        module.fail_json(
            msg="%s. There is no earlier driver on this host to return to, so its packages stay. See why: "
            "sudo dmesg | grep -i -e nvidia -e nouveau -e signature" % tried
        )
    apt = Apt(module)
    undone = restore(apt, previous)
    if undone:
        state.note(stage="stranded", to=closure["id"], previous=previous["id"], boot_id=state.boot_id(), failed=failed)
        module.fail_json(msg="%s. %s could not be brought back: %s" % (tried, previous["id"], undone))
    lock(apt, previous)
    state.make_current(previous)
    module.run_command(["modprobe", "--remove", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"])
    verdict, now = note_judged(module, previous, None, failed=failed)
    state.prune({previous["id"]})
    more = "It is in force only after another reboot: %s" % AGAIN if verdict == "unfit" else "Now %s" % now
    module.fail_json(msg="%s. The host is back at %s. %s" % (tried, previous["id"], more))


def main():
    module = AnsibleModule(
        argument_spec={"rebooted": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    journal, closure = state.journal(), state.current()
    if not closure or journal.get("stage") != "awaiting-reboot":
        module.exit_json(changed=False, msg="no reboot is awaited", reboot_required=False)
    if journal["boot_id"] == state.boot_id():
        if module.params["rebooted"]:
            module.fail_json(
                msg="the host was told to reboot and did not: its boot id is still %s. The driver %s is installed "
                "and not in force; %s" % (journal["boot_id"], closure["id"], AGAIN)
            )
        module.exit_json(changed=False, msg="%s waits for its reboot" % closure["id"], reboot_required=True)
    verdict, seen = judge(module, closure)
    if module.check_mode:
        module.exit_json(changed=True, msg="would be judged: %s" % seen, reboot_required=False)
    if verdict == "unfit":
        roll_back(module, journal, closure, seen)
    previous = journal.get("previous")
    stage = "proved" if verdict == "fit" else "installed"
    state.note(stage=stage, why=seen, to=closure["id"], previous=previous, boot_id=state.boot_id())
    state.prune({closure["id"], previous})
    module.exit_json(changed=True, msg="%s is in force: %s" % (closure["id"], seen), reboot_required=False)


if __name__ == "__main__":
    main()
