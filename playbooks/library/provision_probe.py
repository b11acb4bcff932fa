#!/usr/bin/python
"""Looks at a machine's hardware. See DOCUMENTATION. With `--json` it is a plain script (provision.engine.probe)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_probe
short_description: Tell what hardware a machine has, without changing anything
description:
  - Reads /proc, /sys and what C(lsblk) and C(systemd-detect-virt) tell, with Python's standard library alone, and
    returns a C(provision.model.Hardware) as plain data. The command line pipes this very code through SSH, which takes
    a tenth of the time of a module run; playbooks use it as a module, so that both see the same.
  - In a container the machine's disks, sensors, USB devices and NVSwitches show through /sys, but they are not the
    container's to use, so none are reported. A GPU counts there only when its device node was handed in.
  - Run it as root; otherwise the contents of disks cannot be read, and such disks are then reported as not examined
    rather than empty.
options: {}
"""

EXAMPLES = r"""
- name: Look at the hardware
  provision_probe:
  register: probed
"""

RETURN = r"""
hardware:
  description: The machine as C(provision.model.Hardware) data.
  type: dict
  returned: always
"""

import json
import platform
import sys

from ansible.module_utils.provision_devices import cooling, disks, nics, volumes
from ansible.module_utils.provision_machine import (
    Box,
    cpu,
    firmware,
    gpus,
    memory,
    nvswitches,
    operating_system,
    virtualization,
)


def collect(box, python):
    """The machine as plain data of provision.model.Hardware. `python` is the version of its own Python, or None."""
    kind = virtualization(box)
    contained = kind.startswith("container:")
    return {
        "os": operating_system(box, python),
        "cpu": cpu(box),
        "memory_bytes": memory(box),
        "gpus": gpus(box, contained),
        "nvswitches": [] if contained else nvswitches(box),
        "nics": nics(box),
        "disks": [] if contained else disks(box),
        "volumes": [] if contained else volumes(box),
        "cooling": cooling(box, contained),
        "firmware": firmware(box, kind, contained),
        "unknown": [],
    }


def main():
    if "--json" in sys.argv[1:]:
        json.dump(collect(Box(), platform.python_version()), sys.stdout)
        return
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, hardware=collect(Box(), platform.python_version()))


if __name__ == "__main__":
    main()
