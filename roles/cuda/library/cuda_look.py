#!/usr/bin/python
"""Everything the role has to know about CUDA toolkits on the host, read in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_look
short_description: Read which CUDA toolkits are on this host and what the declared ones ask for; change nothing
description:
  - Names the packages to install and to remove, and the exact version of each that shall be held.
  - Has apt simulate the installation and refuses one that would bring a driver, naming the package that would.
options:
  versions:
    description: Toolkit versions such as C(13.0), the default one first.
    type: list
    elements: str
    required: true
  components:
    description: C(minimal) or C(full).
    type: str
    choices: [minimal, full]
    required: true
  cudnn:
    description: With cuDNN for the default version.
    type: bool
    default: false
  nccl:
    description: With NCCL for the default version.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look at the toolkits on the host
  cuda_look:
    versions: ["13.0", "12.9"]
    components: minimal
"""

RETURN = r"""
packages:
  description: What shall be installed, in the words of M(provision_packages).
  type: list
  returned: always
absent:
  description: Installed packages of toolkits that this role brought and that are declared no more.
  type: list
  returned: always
preferences:
  description: The versions to hold, as apt_preferences(5) has it; empty where there is none.
  type: str
  returned: always
record:
  description: The declared versions as JSON, for the next run to know what was this role's.
  type: str
  returned: always
recorded:
  description: Whether an earlier run has left such a record.
  type: bool
  returned: always
"""

import json
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_apt import candidates, offered, text_of
from ansible.module_utils.provision_names import in_family, preferences
from ansible.module_utils.provision_quiet import QUIET

RECORD = "/var/lib/provision/cuda/versions.json"
TOOLS = {"minimal": ("cuda-minimal-build", "cuda-libraries-dev"), "full": ("cuda-toolkit",)}
CUDNN = ("libcudnn9-cuda-%s", "libcudnn9-dev-cuda-%s")
NCCL = ("libnccl2", "libnccl-dev")
# NVIDIA's names: those of one release carry it at their end, the others are few.
OURS = re.compile(r".*-\d+-\d+$|(cuda|nsight|gds)-.*|(lib)?cudnn\d.*|libnccl.*")


def dashed(version):
    return version.replace(".", "-")


def tools(version, components):
    return ["%s-%s" % (name, dashed(version)) for name in TOOLS[components]]


def status(module):
    """Version and dependencies of every installed package, by name."""
    form = "${Package}\t${db:Status-Status}\t${Version}\t${Pre-Depends}, ${Depends}\n"
    found = {}
    for row in module.run_command(["dpkg-query", "--show", "--showformat", form])[1].splitlines():
        name, state, version, depends = row.split("\t")
        if state == "installed":
            found[name] = (version, re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", depends))
    return found


def closure(have, tops):
    """The installed packages of the toolkits that `tops` are or need, and their versions."""
    found, waiting = {}, [name for name in tops if name in have]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = have[name][0]
            waiting += [other for other in have[name][1] if other in have and OURS.match(other)]
    return found


def nccl(module, version, have):
    """NCCL's packages in a build for this toolkit: the one in place, else the newest that apt offers."""
    major, minor = version.split(".")[:2]
    fits = re.compile(r".*\+cuda%s\.(\d+)$" % major)
    held = have.get(NCCL[0], ("",))[0]
    if fits.match(held) and int(fits.match(held).group(1)) <= int(minor):
        return ["%s=%s" % (name, held) for name in NCCL]
    builds = {found: fits.match(found) for found in offered(module, NCCL[0])}
    fitting = [found for found, match in builds.items() if match and int(match.group(1)) <= int(minor)]
    if fitting:
        # The build that is nearest to the toolkit; of those the newest, which apt tells first.
        best = max(fitting, key=lambda found: int(builds[found].group(1)))
        return ["%s=%s" % (name, best) for name in NCCL]
    if builds or not module.check_mode:
        module.fail_json(
            msg="cuda_nccl asks for NCCL, and apt offers no build of it for CUDA %s (%s). Set cuda_nccl: false, or "
            "declare another default version." % (version, ", ".join(builds) or "none at all")
        )
    return list(NCCL)


def wanted(module, have):
    """The packages asked for, by the toolkit they belong to."""
    params = module.params
    names = [name for version in params["versions"] for name in tools(version, params["components"])]
    if params["versions"] and params["cudnn"]:
        names += [name % params["versions"][0].split(".")[0] for name in CUDNN]
    if params["versions"] and params["nccl"]:
        names += nccl(module, params["versions"][0], have)
    return names


def refuse_foreign(module):
    for version in module.params["versions"]:
        remover = "/usr/local/cuda-%s/bin/cuda-uninstaller" % version
        if os.path.exists(remover):
            module.fail_json(
                msg="CUDA %s was installed by NVIDIA's runfile, and packages would write over it. Run %s first, or "
                "take %s out of cuda_versions." % (version, remover, version)
            )


def refuse_unknown(module, names, have):
    """Names that apt does not offer; in check mode on a bare host it knows none of them yet."""
    plain = [name.partition("=")[0] for name in names]
    missing = [name for name in plain if name not in have]
    known = candidates(module, missing) if missing else []
    unknown = [name for name in missing if name not in known]
    if module.check_mode and missing and not known:
        return False
    if unknown:
        module.fail_json(
            msg="apt offers no %s. Declare in cuda_versions what NVIDIA's repository has for this distribution: "
            "apt-cache search --names-only '^cuda-toolkit-[0-9]+-[0-9]+$'" % " and no ".join(unknown)
        )
    return bool(missing)


def culprit(module, driver, new):
    """Which of the new packages asks for the driver's package."""
    told = module.run_command(["apt-cache", "depends", "--important", *new], environ_update=QUIET)[1]
    asking = ""
    for line in told.splitlines():
        if not line.startswith(" "):
            asking = line.strip()
        elif line.strip(" |").split(": ")[-1].strip("<>") == driver and not in_family(asking):
            return asking
    return "one of %s" % " ".join(new)


def simulated(module, names):
    """Names and versions of what apt would install; refused where a driver is among it."""
    argv = ["apt-get", "--simulate", "--quiet", "--no-install-recommends", "--allow-downgrades", "install", *names]
    code, out, err = module.run_command(argv, environ_update=QUIET)
    if code != 0:
        told = [line.strip() for line in (out + err).splitlines() if "Depends:" in line or line.startswith("E:")]
        module.fail_json(
            msg="apt cannot install %s: %s. See why: sudo %s" % (" ".join(names), " ".join(told), " ".join(argv))
        )
    new = dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", out, re.MULTILINE))
    drivers = [name for name in new if in_family(name)]
    if drivers:
        others = [name for name in new if name not in drivers]
        module.fail_json(
            msg="the toolkit would bring a driver: %s asks for %s. Nothing was installed. The driver is the role "
            "nvidia_driver's: see why: sudo %s" % (culprit(module, drivers[0], others), drivers[0], " ".join(argv))
        )
    return {name: version for name, version in new.items() if OURS.match(name)}


def main():
    module = AnsibleModule(
        argument_spec={
            "versions": {"type": "list", "elements": "str", "required": True},
            "components": {"type": "str", "choices": ["minimal", "full"], "required": True},
            "cudnn": {"type": "bool", "default": False},
            "nccl": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    refuse_foreign(module)
    have, versions = status(module), module.params["versions"]
    names = wanted(module, have)
    plain = [name.partition("=")[0] for name in names]
    held = closure(have, plain)
    moved = [name for name in names if "=" in name and have.get(name.partition("=")[0], ("",))[0] != name.split("=")[1]]
    if refuse_unknown(module, names, have) or moved:
        held.update(simulated(module, names))
    recorded = json.loads(text_of(RECORD) or '{"versions": [], "extras": []}')
    ours = [name for version in recorded["versions"] for kind in sorted(TOOLS) for name in tools(version, kind)]
    dropped = sorted(set(closure(have, [*ours, *recorded["extras"]])) - set(held))
    extras = [
        name for name in plain if name not in [n for v in versions for n in tools(v, module.params["components"])]
    ]
    module.exit_json(
        changed=False,
        packages=names,
        absent=dropped,
        preferences=preferences(held),
        record=json.dumps({"versions": versions, "extras": extras}, sort_keys=True) + "\n",
        recorded=os.path.exists(RECORD),
    )


if __name__ == "__main__":
    main()
