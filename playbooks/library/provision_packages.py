#!/usr/bin/python
"""One task for all the packages of one concern. See DOCUMENTATION for why it exists beside `apt`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_packages
short_description: Mend a half-configured dpkg, refresh stale package lists, install and remove packages
description:
  - M(ansible.builtin.apt) fails in check mode on a bare host, whose lists are empty and which lacks the repositories
    that an earlier task would have added. This module asks dpkg alone what is missing, so that check mode can foretell.
    It also needs no python3-apt, and a run that finds nothing to do costs one C(dpkg-query).
  - A dpkg left half-configured is mended first (C(dpkg --configure -a), C(apt-get --fix-broken install)).
  - Lists are refreshed when they are missing, older than O(lists_max_age) or older than the sources; that alone is not
    reported as a change.
  - Every step waits for the locks of apt and dpkg.
options:
  names:
    description:
      - Packages to be installed. C(a | b) is content with either and installs the first where both are missing;
        C(a=1.2) wants a version, in which a trailing C(*) is allowed.
    type: list
    elements: str
    default: []
  absent:
    description: Packages not to be installed. They are removed in the same transaction; their configuration stays.
    type: list
    elements: str
    default: []
  refresh:
    description: Refresh stale lists even when there is nothing to install.
    type: bool
    default: false
  lists_max_age:
    description: Age in seconds from which lists are stale.
    type: int
    default: 86400
  recommends:
    description: Install recommended packages too.
    type: bool
    default: false
  lock_timeout:
    description: How long to wait for another program that holds a lock, in seconds.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Install the container engine
  provision_packages:
    names: [docker-ce, docker-ce-cli, containerd.io]
    absent: [docker.io, podman-docker]
"""

RETURN = r"""
installed:
  description: Entries of O(names) that were (or would be) installed.
  type: list
  returned: always
removed:
  description: Entries of O(absent) that were (or would be) removed.
  type: list
  returned: always
repaired:
  description: Packages that were (or would be) brought out of a half-installed state.
  type: list
  returned: always
refreshed:
  description: Whether the package lists were read anew.
  type: bool
  returned: always
chosen:
  description: For each entry of O(names), the package that satisfies it.
  type: dict
  returned: always
"""

import fcntl
import fnmatch
import glob
import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_quiet import KEEP_CONFIGURATION, NETWORK_PATIENCE, QUIET

LISTS = "/var/lib/apt/lists"
STAMP = "/var/lib/provision/apt-lists-refreshed"
FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend"
UPDATES = "/var/lib/dpkg/updates"
# apt's own timeouts were seen not to end a connection whose other side had vanished.
REFRESH_SECONDS = 300
# Second letter of dpkg's status: half-installed, unpacked, half-configured, waiting for or owing triggers.
UNFINISHED = "HUFWt"
LOCKED = re.compile(r"could not get lock|unable to (acquire the dpkg|lock)|is locked by another process", re.IGNORECASE)


class Packages:
    """What dpkg knows of this host, and the ways to change it."""

    def __init__(self, module):
        self.module = module
        self.deadline = time.time() + module.params["lock_timeout"]
        self.refreshed = False
        self.unfetched = ""
        self.look()

    def look(self):
        """Read the state of all packages: versions of the installed ones, names of the unfinished ones."""
        form = "${db:Status-Abbrev}\t${Package}\t${Version}\n"
        _, out, _ = self.module.run_command(["dpkg-query", "--show", "--showformat", form], environ_update=QUIET)
        self.installed, unfinished = {}, set()
        for line in out.splitlines():
            state, name, version = line.split("\t")
            if state[1] == "i":
                self.installed.setdefault(name, version)
            if state[1] in UNFINISHED or state[2:3] == "R":
                unfinished.add(name)
        # Numbered files here are steps of a dpkg that died before it could write them into its database.
        if os.path.isdir(UPDATES) and any(name.isdigit() for name in os.listdir(UPDATES)):
            unfinished.add("dpkg")
        self.unfinished = sorted(unfinished)

    def chosen(self, entry):
        """The package that satisfies an entry, or None."""
        for choice in entry.split("|"):
            name, _, version = choice.strip().partition("=")
            if name in self.installed and fnmatch.fnmatchcase(self.installed[name], version or "*"):
                return name
        return None

    def run(self, *argv):
        """Run a command once no other program holds its locks; the caller judges the exit status."""
        while True:
            code, out, err = self.module.run_command(list(argv), environ_update=QUIET)
            if code == 0 or not LOCKED.search(err):
                return code, out, err
            if time.time() > self.deadline:
                waited = "another program has held apt's or dpkg's lock for %d s" % self.module.params["lock_timeout"]
                self.fail(waited, err, "see which one: sudo fuser -v %s %s/lock" % (FRONTEND_LOCK, LISTS))
            time.sleep(1)

    def apt(self, *argv):
        return self.run("apt-get", "--yes", "--quiet", *KEEP_CONFIGURATION, *argv)

    def fail(self, fact, output, hint):
        output = self.unfetched + output
        told = [line for line in output.splitlines() if line.startswith(("E:", "dpkg:"))] or output.splitlines()[-5:]
        self.module.fail_json(msg="%s: %s; %s" % (fact, " ".join(told), hint))

    def repair(self):
        """Finish what an interrupted dpkg began; returns the packages it was about."""
        while self.unfinished and frontend_locked() and time.time() < self.deadline:
            # Another program is in the middle of its work: what looks half done may be done by it.
            time.sleep(1)
            self.look()
        broken = self.unfinished
        if not broken or self.module.check_mode:
            return broken
        # Its status is not judged: what it cannot do for want of a dependency, apt-get does next.
        self.run("dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
        code, out, err = self.apt("--fix-broken", "install")
        self.look()
        if code != 0 or self.unfinished:
            still = " ".join(self.unfinished) or "dpkg"
            self.fail("cannot mend %s" % still, err or out, "see why: sudo dpkg --configure -a")
        return broken

    def refresh(self):
        """Read the package lists anew; one archive that does not answer is told of, but stands in no other's way."""
        code, out, err = self.run("timeout", str(REFRESH_SECONDS), "apt-get", "update", "--quiet", *NETWORK_PATIENCE)
        if code != 0:
            err = err or out or "E: nothing arrived within %d s" % REFRESH_SECONDS
            self.fail("the package lists cannot be refreshed", err, "see why: sudo apt-get update")
        self.refreshed = True
        self.unfetched = "".join(
            "E: %s\n" % text for text in re.findall(r"^W: (Failed to fetch .*)", err, re.MULTILINE)
        )
        if self.unfetched:
            self.module.warn("some package lists could not be refreshed: %s" % self.unfetched)
            return
        os.makedirs(os.path.dirname(STAMP), exist_ok=True)
        with open(STAMP, "w"):
            pass

    def change(self, wanted):
        """Install and remove in one transaction, again after a repair or a refresh where that may help."""
        recommends = "--install-recommends" if self.module.params["recommends"] else "--no-install-recommends"
        # A version that is asked for by number may well be older than the installed one.
        downgrade = ["--allow-downgrades"] if any("=" in entry for entry in wanted) else []
        argv = ["install", recommends, *downgrade, *wanted]
        code, out, err = self.apt(*argv)
        if code != 0 and "--fix-broken" in err + out:
            self.apt("--fix-broken", "install")
            code, out, err = self.apt(*argv)
        if code != 0 and not self.refreshed:
            self.refresh()
            code, out, err = self.apt(*argv)
        if code != 0:
            again = "see why: sudo apt-get install --dry-run %s" % " ".join(wanted)
            self.fail("cannot install what is declared", err or out, again)


def frontend_locked():
    """Whether another program holds dpkg's frontend lock now."""
    try:
        with open(FRONTEND_LOCK, "rb+") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def lists_stale(max_age):
    """Whether the lists are missing, too old, or older than what the sources say."""
    if not glob.glob(LISTS + "/*Release"):
        return True
    # The folder's own time moves when a refresh fails half way and stays when it finds nothing new, hence the stamps.
    stamps = [STAMP, "/var/lib/apt/periodic/update-success-stamp"]
    read = max([os.path.getmtime(path) for path in stamps if os.path.exists(path)] or [0])
    sources = ["/etc/apt/sources.list", "/etc/apt/sources.list.d", *glob.glob("/etc/apt/sources.list.d/*")]
    written = max([os.path.getmtime(path) for path in sources if os.path.exists(path)] or [0])
    return written > read or time.time() - read > max_age


def main():
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "refresh": {"type": "bool", "default": False},
            "lists_max_age": {"type": "int", "default": 86400},
            "recommends": {"type": "bool", "default": False},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    names, absent = module.params["names"], module.params["absent"]
    packages = Packages(module)
    repaired = packages.repair()
    missing = [entry for entry in names if not packages.chosen(entry)]
    removed = [name for name in absent if name in packages.installed]
    first = {entry: entry.split("|")[0].strip() for entry in names}
    if not module.check_mode:
        if (missing or module.params["refresh"]) and lists_stale(module.params["lists_max_age"]):
            packages.refresh()
        if missing or removed:
            packages.change([first[entry] for entry in missing] + [name + "-" for name in removed])
            packages.look()
            virtual = [entry for entry in missing if not packages.chosen(entry)]
            if virtual:
                module.fail_json(msg="%s: not a package of that name; name a real package" % " ".join(virtual))
    module.exit_json(
        changed=bool(repaired or missing or removed),
        installed=missing,
        removed=removed,
        repaired=repaired,
        refreshed=packages.refreshed,
        chosen={entry: packages.chosen(entry) or first[entry].partition("=")[0] for entry in names},
    )


if __name__ == "__main__":
    main()
