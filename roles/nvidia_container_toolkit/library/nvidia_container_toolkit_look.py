#!/usr/bin/python
"""Which version of the container toolkit the host shall have, read in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_container_toolkit_look
short_description: Decide the one version of the container toolkit's packages; change nothing
description:
  - The declared version where there is one, else the installed one, else what apt would take.
options:
  version:
    description: Upstream version such as C(1.20.0); empty for none in particular.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Decide the version
  nvidia_container_toolkit_look:
    version: ""
"""

RETURN = r"""
version:
  description: Full version of the packages; empty in check mode where apt does not know the repository yet.
  type: str
  returned: always
packages:
  description: What shall be installed, in the words of M(provision_packages).
  type: list
  returned: always
names:
  description: The same without their version.
  type: list
  returned: always
fresh:
  description: Whether the toolkit is not installed yet.
  type: bool
  returned: always
refreshes:
  description: Whether the packages of this version bring units that describe the devices.
  type: bool
  returned: always
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_apt import candidates, installed, offered
from ansible.module_utils.provision_names import upstream

TOOLKIT = "nvidia-container-toolkit"
PACKAGES = (TOOLKIT, "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
REFRESHES = (1, 18)  # the first version with nvidia-cdi-refresh units


def chosen(module, held):
    """The full version, or an empty text where apt does not know any yet."""
    declared = module.params["version"]
    if not declared:
        return held or candidates(module, [TOOLKIT]).get(TOOLKIT, "")
    if held and upstream(held) == declared:
        return held
    known = offered(module, TOOLKIT)
    fitting = [version for version in known if upstream(version) == declared]
    if not fitting and (known or not module.check_mode):
        module.fail_json(
            msg="apt offers no nvidia-container-toolkit %s, only %s. Set nvidia_container_toolkit_version to one of "
            "them, or leave it empty." % (declared, ", ".join(known) or "none at all")
        )
    return (fitting or [""])[0]


def main():
    module = AnsibleModule(argument_spec={"version": {"type": "str", "required": True}}, supports_check_mode=True)
    held = installed(module, PACKAGES).get(TOOLKIT, "")
    version = chosen(module, held)
    numbers = tuple(int(number) for number in re.findall(r"\d+", upstream(version))[:2])
    module.exit_json(
        changed=False,
        version=version,
        packages=["%s=%s" % (name, version) if version else name for name in PACKAGES],
        names=list(PACKAGES),
        fresh=not held,
        refreshes=not numbers or numbers >= REFRESHES,
    )


if __name__ == "__main__":
    main()
