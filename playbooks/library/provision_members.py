#!/usr/bin/python
"""A service account with its group and the people in it, in one module run. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_members
short_description: Hold a group, a service account in it, and its members
description:
  - C(group) and C(user) cost one module run each, and a loop pays one per member.
  - Members are added, never removed. The service account is created when missing and otherwise only put in the group.
options:
  group: {description: The group; a system group is created when missing, type: str, required: true}
  user:
    description: The service account, created without a login shell and with its home under /var/lib.
    type: str
    required: true
  members: {description: Existing accounts that belong to the group, type: list, elements: str, default: []}
"""

EXAMPLES = r"""
- name: Hold the group of the cache
  provision_members: {group: ml, user: ml, members: [alice]}
"""

RETURN = r"""
steps: {description: The commands that were (in check mode, would be) run, type: list, returned: always}
"""

import grp
import os
import pwd

from ansible.module_utils.basic import AnsibleModule


def names(database):
    return {entry[0] for entry in database}


def belongs(user, group):
    """Whether the account is in the group, as its primary group or as one more."""
    if user not in names(pwd.getpwall()) or group not in names(grp.getgrall()):
        return False
    found = grp.getgrnam(group)
    return user in found.gr_mem or pwd.getpwnam(user).pw_gid == found.gr_gid


def steps(module):
    """The commands that bring the declared state about."""
    group, user = module.params["group"], module.params["user"]
    if group not in names(grp.getgrall()):
        yield ["groupadd", "--system", group]
    if user not in names(pwd.getpwall()):
        home = os.path.join("/var/lib", user)
        place = ["--home-dir", home, "--create-home", "--shell", "/usr/sbin/nologin"]
        yield ["useradd", "--system", "--gid", group, *place, user]
    elif not belongs(user, group):
        yield ["gpasswd", "--add", user, group]
    for member in module.params["members"]:
        if not belongs(member, group):
            yield ["gpasswd", "--add", member, group]


def main():
    module = AnsibleModule(
        argument_spec={
            "group": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    unknown = sorted(set(module.params["members"]) - names(pwd.getpwall()))
    # In check mode an earlier role may still have to create them.
    if unknown and not module.check_mode:
        told = (", ".join(unknown), module.params["group"])
        module.fail_json(msg="no account %s on this host: create it, or leave it out of the members of %s" % told)
    commands = list(steps(module))
    for command in commands if not module.check_mode else []:
        module.run_command(command, check_rc=True)
    module.exit_json(changed=bool(commands), steps=[" ".join(command) for command in commands])


if __name__ == "__main__":
    main()
