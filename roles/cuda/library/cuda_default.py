#!/usr/bin/python
"""Hold which toolkit /usr/local/cuda leads to, in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_default
short_description: Let the alternative cuda lead to one toolkit
description:
  - NVIDIA's packages register each toolkit and let the newest one win. This module chooses.
  - In check mode on a host without the toolkit it foretells the change.
options:
  version:
    description: The toolkit, such as C(13.0).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Choose the default toolkit
  cuda_default:
    version: "13.0"
"""

RETURN = r"""
previous:
  description: Where /usr/local/cuda led before; empty where it led nowhere.
  type: str
  returned: always
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

LINK = "/usr/local/cuda"


def main():
    module = AnsibleModule(argument_spec={"version": {"type": "str", "required": True}}, supports_check_mode=True)
    version = module.params["version"]
    home = "%s-%s" % (LINK, version)
    if os.path.lexists(LINK) and not os.path.islink(LINK):
        module.fail_json(
            msg="%s is a directory of its own, not a link that update-alternatives holds: something other than "
            "packages installed it. Move it away." % LINK
        )
    told = module.run_command(["update-alternatives", "--query", "cuda"], environ_update={"LC_ALL": "C"})[1]
    fields = dict(re.findall(r"^(Status|Value): (.*)$", told, re.MULTILINE))
    previous = os.path.realpath(LINK) if os.path.islink(LINK) else ""
    changed = fields != {"Status": "manual", "Value": home} or previous != home
    if changed and not module.check_mode:
        if "Alternative: %s\n" % home not in told:
            priority = version.replace(".", "")
            module.run_command(["update-alternatives", "--install", LINK, "cuda", home, priority], check_rc=True)
        module.run_command(["update-alternatives", "--set", "cuda", home], check_rc=True)
    module.exit_json(changed=changed, previous=previous)


if __name__ == "__main__":
    main()
