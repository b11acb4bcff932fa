#!/usr/bin/python
"""Everything the role has to know before it changes a host, read in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_look
short_description: Read what of NVIDIA's driver is on the host and what stands in its way; change nothing
description:
  - Names what must not be built upon (a driver from NVIDIA's runfile, files that no package owns, keys in conflict) and
    what is safely repaired (NVIDIA's retired repository key).
  - Says whether the locked closure has to move and why, and whether a reboot is still to be judged.
options:
  wish:
    description: What the closure shall be; the same as for M(nvidia_driver_closure).
    type: dict
    required: true
  upgrade:
    description: Whether the closure shall move to the newest version of its branch.
    type: bool
    default: false
  dkms:
    description: Whether the route builds its modules on the host.
    type: bool
    default: false
  mok_enrolled:
    description: Whether the firmware knows the key that DKMS signs with.
    type: bool
    default: false
  own_source:
    description: The role's own source file, whose components do not count.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Look at the driver on the host
  nvidia_driver_look:
    wish: {source: debian, branch: "535", version: "", modules: proprietary, display: false, fabric_manager: false}
    own_source: /etc/apt/sources.list.d/provision-nvidia-driver.sources
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  type: str
  returned: always
move:
  description: Why the closure moves; empty where it does not.
  type: str
  returned: always
refusals:
  description: What forbids going on, each with its remedy.
  type: list
  returned: always
leftovers:
  description: Files to remove.
  type: list
  returned: always
components:
  description: The components that apt's sources offer of this release.
  type: list
  returned: always
container:
  description: The kind of container the host is; empty where it is none.
  type: str
  returned: always
rivals:
  description: Kernel drivers that hold the card instead of NVIDIA's.
  type: list
  returned: always
initramfs:
  description: Whether the host makes an initramfs.
  type: bool
  returned: always
settle:
  description: Whether a reboot that was awaited has happened and is to be judged.
  type: bool
  returned: always
installing:
  description: Whether an earlier run ended in the middle of a move.
  type: bool
  returned: always
"""

import glob
import os
import re

from ansible.module_utils import nvidia_driver_host as host
from ansible.module_utils import nvidia_driver_state as state
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.nvidia_driver_apt import Apt
from ansible.module_utils.nvidia_driver_moves import why_move
from ansible.module_utils.provision_apt import source_files, stanzas
from ansible.module_utils.provision_openpgp import primary_fingerprints

# NVIDIA withdrew this key in April 2022; its successor signs the same repositories.
RETIRED = "AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80"
OS_RELEASE = "/etc/os-release"


def retired_keys():
    """Keyrings that hold the retired key: those that hold nothing else, and those that do."""
    alone, shared = [], []
    for path in sorted(path for pattern in host.KEY_FOLDERS for path in glob.glob(pattern) if os.path.isfile(path)):
        try:
            with open(path, "rb") as stream:
                keys = primary_fingerprints(stream.read())
        except ValueError:
            continue  # not a keyring
        if RETIRED in keys:
            (alone if set(keys) == {RETIRED} else shared).append(path)
    return alone, shared


def refusals(module, kind):
    """What nothing may be built upon, each with what to do about it."""
    found = []
    if os.path.exists(host.RUNFILE):
        found.append(
            "NVIDIA's runfile installed a driver here (%s), which would fight the packages. Remove it first: "
            "sudo nvidia-uninstall --silent" % host.RUNFILE
        )
    else:
        for paths, what in (
            (host.foreign_libraries(module), "libraries"),
            (host.foreign_modules(module), "kernel modules"),
        ):
            if paths:
                found.append(
                    "no package owns these driver %s, and programs would load them instead of the packaged ones: %s. "
                    "Find out who put them there, then move them away" % (what, " ".join(paths))
                )
    if not kind and host.secure_boot() and module.params["dkms"] and not module.params["mok_enrolled"]:
        found.append(
            "Secure Boot is on and DKMS signs with a key that the firmware does not know: the modules would not load. "
            "Enroll it at the console (sudo mokutil --import /var/lib/dkms/mok.pub, reboot, confirm), then set "
            "nvidia_driver_mok_enrolled: true"
        )
    _, _, err = module.run_command(["apt-get", "indextargets"], environ_update={"LC_ALL": "C"})
    for conflict in re.findall(r"E: (Conflicting values set for option Signed-By regarding source .*)", err):
        address = re.search(r"regarding source (\S+)", conflict).group(1)
        files = [path for path in source_files() if address.rstrip("/") in host.read(path)]
        found.append(
            "apt refuses all its sources: %s. These files name it: %s. Keep one and remove the others"
            % (conflict, " ".join(files) or "none that could be read")
        )
    return found


def components(own):
    """The components that apt's sources offer of this release, those of the file `own` left out."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", host.read(OS_RELEASE), re.MULTILINE)
    found = []
    for path in source_files():
        text = host.read(path)
        if path == own:
            continue
        if path.endswith(".sources"):
            for fields in stanzas(text):
                if "deb" in fields.get("Types", "").split():
                    found += [(suite, fields.get("Components", "")) for suite in fields.get("Suites", "").split()]
        else:
            found += re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?\S+\s+(\S+)\s+(.*)$", text, re.MULTILINE)
    return sorted({name for suite, names in found if release and suite == release.group(1) for name in names.split()})


def main():
    module = AnsibleModule(
        argument_spec={
            "wish": {"type": "dict", "required": True},
            "dkms": {"type": "bool", "default": False},
            "mok_enrolled": {"type": "bool", "default": False},
            "upgrade": {"type": "bool", "default": False},
            "own_source": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    wish, kind, journal = module.params["wish"], host.container(module), state.journal()
    installed = {name: row[2] for name, row in Apt(module).table().items() if row[1] == "installed"}
    alone, shared = retired_keys()
    for path in shared:
        module.warn("%s holds NVIDIA's retired repository key %s among others: remove it from there" % (path, RETIRED))
    move = why_move(wish, module.params["upgrade"], installed)
    module.exit_json(
        changed=False,
        msg="the driver moves: %s" % move if move else "the driver is locked at %s" % state.current()["id"],
        move=move,
        refusals=refusals(module, kind),
        leftovers=alone,
        components=components(module.params["own_source"]),
        container=kind,
        rivals=[] if kind else host.rivals(),
        initramfs=os.path.exists("/usr/sbin/update-initramfs"),
        settle=journal.get("stage") == "awaiting-reboot" and journal.get("boot_id") != state.boot_id(),
        installing=journal.get("stage") == "installing",
    )


if __name__ == "__main__":
    main()
