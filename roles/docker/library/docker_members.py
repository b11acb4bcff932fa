#!/usr/bin/python
"""Hold who is in the group docker by the role's doing, in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_members
short_description: Put users into the group docker and take those out that this module once put in
description:
  - C(user) needs one run for each user and fails in check mode while the group does not exist yet.
  - Members whom somebody else added are left alone; a record on the host tells them apart.
options:
  users:
    description: Users to be members.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Let the listed users talk to Docker
  docker_members:
    users: [alice]
"""

RETURN = r"""
added:
  description: Users who became members.
  type: list
  returned: always
removed:
  description: Users who are no longer members.
  type: list
  returned: always
"""

import grp
import json
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_host import MEMBERS, members_record
from ansible.module_utils.provision_io import atomic_write


def members():
    try:
        return grp.getgrnam("docker").gr_mem
    except KeyError:
        return []


def known(user):
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def main():
    module = AnsibleModule(
        argument_spec={"users": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    wanted = sorted(set(module.params["users"]))
    strangers = [user for user in wanted if not known(user)]
    if strangers and not module.check_mode:
        module.fail_json(
            msg="docker_users names %s, who has no account on this host. Create the account first, "
            "or take the name out of docker_users." % ", ".join(strangers)
        )
    present = members()
    record = members_record()
    added = [user for user in wanted if user not in present]
    removed = [user for user in record if user not in wanted and user in present]
    if not module.check_mode:
        # Recorded first: a member added by a run that died is still known as ours.
        if sorted(set(record + added)) != sorted(record):
            atomic_write(MEMBERS, json.dumps(sorted(set(record + added))))
        for user in added:
            module.run_command(["gpasswd", "--add", user, "docker"], check_rc=True)
        for user in removed:
            module.run_command(["gpasswd", "--delete", user, "docker"], check_rc=True)
        ours = [user for user in wanted if user in record or user in added]
        if ours != members_record():
            atomic_write(MEMBERS, json.dumps(ours))
    module.exit_json(changed=bool(added or removed), added=added, removed=removed)


if __name__ == "__main__":
    main()
