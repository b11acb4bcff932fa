#!/usr/bin/python
"""Hold the driver as one closure of exact packages. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_closure
short_description: Install the driver with everything that moves with it as one set of exact versions, and lock that set
description:
  - Asks apt's own solver for the set (driver, every library of it, kernel modules, DKMS, the kernel with headers and
    meta packages, firmware, fabric manager), keeps its packages on the host, installs it in one transaction and locks
    it by preferences, dpkg holds and unattended-upgrades' list.
  - A locked set moves only when O(wish) changes, when its packages were changed behind its back, or with O(upgrade).
  - A transaction that fails is taken back to the previous set from the kept packages.
  - A run that died is continued by the next one, from its journal.
options:
  wish:
    description: Source, branch, version, modules, display and fabric_manager of the driver.
    type: dict
    required: true
  route:
    description: The package names of the source, as in the role's vars.
    type: dict
    required: true
  upgrade:
    description: Move to the newest version of the branch, and try again what failed before.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Hold the driver as one closure
  nvidia_driver_closure:
    wish: {source: debian, branch: "535", version: "", modules: proprietary, display: false, fabric_manager: false}
    route: "{{ __nvidia_driver_route }}"
"""

RETURN = r"""
msg:
  description: What was done and why, in one sentence.
  type: str
  returned: always
closure:
  description: The set that is locked now; empty in check mode where its versions cannot be known yet.
  type: dict
  returned: always
reboot_required:
  description: Whether the locked driver is in force only after a reboot.
  type: bool
  returned: always
"""

import glob
import os
import re
import shutil

from ansible.module_utils import nvidia_driver_host as host
from ansible.module_utils import nvidia_driver_state as state
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.nvidia_driver_apt import Apt, without_our_lock
from ansible.module_utils.nvidia_driver_moves import lock, note_judged, remove, restore, strays, why_move
from ansible.module_utils.nvidia_driver_plan import Impossible, Planner
from ansible.module_utils.provision_io import atomic_write, sha256_of

BUILD_LOG = os.path.join(state.ROOT, "failed-build.log")
SEE = "See what apt did: less /var/log/apt/term.log"
SPARE_BYTES = 1 << 30  # what a DKMS build, an initramfs and apt's own work take beside the packages


class Mover:
    def __init__(self, module):
        self.module, self.apt = module, Apt(module)
        self.wish, self.upgrade = module.params["wish"], module.params["upgrade"]
        self.locked, self.journal = state.current(), state.journal()
        self.before = self.apt.installed()
        self.why = why_move(self.wish, self.upgrade, self.before)
        self.stage = self.journal.get("stage")
        self.interrupted = self.stage == "installing"

    def run(self):
        failed = self.journal.get("failed") or {}
        gone_back = self.locked and self.locked["wish"] != self.wish == failed.get("wish")
        if self.stage == "awaiting-reboot" and gone_back and not self.upgrade:
            self.leave(
                "%s did not work here (%s), and %s waits for its reboot"
                % (failed["id"], failed["saw"], self.locked["id"])
            )
        if not self.why:
            self.hold_on("the driver is locked at %s" % self.locked["id"])
        if self.locked and self.locked["wish"] == self.wish and not self.upgrade and not self.interrupted:
            self.mend()
        if self.module.check_mode and not self.locked:
            # The lists may lack the archive that an earlier task would have added.
            self.leave("the driver would be installed: %s" % self.why, changed=True)
        if self.interrupted and not self.module.check_mode:
            self.apt.finish()
        plan = self.plan()
        if self.locked and plan.closure["id"] == self.locked["id"] and not self.interrupted:
            self.hold_on("the driver is locked at %s, and nothing newer is offered" % self.locked["id"])
        if failed.get("id") == plan.closure["id"] and not self.upgrade:
            self.module.fail_json(
                msg="%s is not installed again: it did not work on this host (%s). The driver is at %s. "
                "Declare another version, or try it once more with nvidia_driver_upgrade: true"
                % (failed["id"], failed["saw"], self.locked["id"] if self.locked else "no locked version")
            )
        if self.module.check_mode:
            self.leave("the driver would move to %s: %s" % (plan.closure["id"], self.why), True, plan.closure)
        self.move(plan)

    def plan(self):
        running = "" if host.container(self.module) else host.running()
        try:
            return Planner(self.apt, self.wish, self.module.params["route"], running).plan()
        except Impossible as error:
            if self.module.check_mode and self.locked and self.locked["wish"]["source"] != self.wish["source"]:
                # An earlier task would have added the other archive.
                self.leave("the driver would move: %s" % self.why, changed=True)
            back = "the driver stays at %s" % self.locked["id"] if self.locked else "nothing was installed"
            return self.module.fail_json(msg="%s; %s. See what apt knows: apt-cache policy '*nvidia*'" % (error, back))

    def move(self, plan):
        closure, folder = plan.closure, state.cache(plan.closure["id"])
        good = self.last_good()
        with without_our_lock(plan.package_version) as options:
            self.need_room(plan, folder, options)
            fault = self.apt.download(plan.words, folder, *options)
            if fault:
                shutil.rmtree(folder)
                self.module.fail_json(
                    msg="the packages of %s cannot be fetched: %s; nothing was changed" % (closure["id"], fault)
                )
            self.keep(closure, folder)
            state.note(stage="installing", to=closure["id"], previous=good, boot_id=state.boot_id())
            fault = self.apt.install(plan.words, "--no-download", "-o", "Dir::Cache::archives=" + folder, *options)
        fault = fault or "; ".join(strays(closure, self.apt.installed()))
        if fault:
            self.take_back(closure, good, fault)
        lock(self.apt, closure)
        state.make_current(closure)
        self.settle(closure, good)

    def last_good(self):
        """The closure to return to: what is locked now where it was found good, else what was good before it."""
        if self.stage in state.SETTLED and self.locked:
            return self.locked["id"]
        return self.journal.get("previous")

    def need_room(self, plan, folder, options):
        """Refuse a full disk before anything is touched."""
        download, grown = self.apt.sizes(plan.words, *options)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        needs = {folder: download, "/usr": grown + SPARE_BYTES}
        if os.stat(folder).st_dev == os.stat("/usr").st_dev:
            needs = {"/usr": download + grown + SPARE_BYTES}
        for path, need in sorted(needs.items()):
            free = shutil.disk_usage(path).free
            if free < need:
                self.module.fail_json(
                    msg="%s has %d MiB free and %s needs %d MiB there: nothing was changed. Make room, for example: "
                    "sudo apt-get clean; sudo journalctl --vacuum-size=100M"
                    % (path, free >> 20, plan.closure["id"], need >> 20)
                )

    def keep(self, closure, folder):
        """Record the kept packages, and fetch those too that a later return needs though they are installed already."""
        files = {name for name in os.listdir(folder) if name.endswith(".deb")}
        have = {tuple(name.split("_")[:2]) for name in files}
        missing = {
            name: version
            for name, version in closure["packages"].items()
            if (name.partition(":")[0], version.replace(":", "%3a")) not in have and not name.startswith("linux-")
        }
        offers = self.apt.offers(sorted(missing))
        words = ["%s=%s" % pair for pair in sorted(missing.items()) if (pair[1], True) in offers.get(pair[0], [])]
        if words:
            fault = self.apt.fetch(words, folder)
            if fault:
                self.module.warn("some packages of %s could not be kept for a way back: %s" % (closure["id"], fault))
        closure["kept"] = {}
        for file in sorted(name for name in os.listdir(folder) if name.endswith(".deb")):
            name, _, arch = file[: -len(".deb")].split("_")
            name = name if arch in (self.apt.native, "all") else "%s:%s" % (name, arch)
            closure["kept"][name] = {"file": file, "sha256": sha256_of(os.path.join(folder, file))}
        state.keep(closure)

    def take_back(self, closure, good, fault):
        """Return to the previous closure, or to none, after a transaction that failed, and say so."""
        saw = "its installation failed: %s%s" % (fault, build_errors(closure))
        failed = {"id": closure["id"], "wish": self.wish, "saw": saw}
        previous = state.kept(good)
        undone = restore(self.apt, previous) if previous else remove(self.apt, self.before)
        if undone:
            state.note(stage="stranded", to=closure["id"], previous=good, boot_id=state.boot_id(), failed=failed)
            self.module.fail_json(msg="%s: %s. It could not be taken back: %s. %s" % (closure["id"], saw, undone, SEE))
        if previous:
            lock(self.apt, previous)
            state.make_current(previous)
            note_judged(self.module, previous, None, failed=failed)
        else:
            state.note(stage="removed", to=None, previous=None, boot_id=state.boot_id(), failed=failed)
        state.prune({good})
        back = "The host is back at %s" % good if previous else "It was removed again: there was no driver before it"
        self.module.fail_json(msg="%s: %s. %s. %s" % (closure["id"], saw, back, SEE))

    def mend(self):
        """Bring the locked packages back to their versions, from those that were kept."""
        if self.module.check_mode:
            self.leave("the driver would be brought back to %s: %s" % (self.locked["id"], self.why), True)
        fault = restore(self.apt, self.locked)
        if fault:
            self.module.fail_json(msg="%s cannot be brought back (%s): %s" % (self.locked["id"], self.why, fault))
        lock(self.apt, self.locked)
        self.settle(self.locked, self.journal.get("previous"))

    def settle(self, closure, good):
        """Write down how far the closure is in force, and end."""
        good = good if good != closure["id"] else None
        _, seen = note_judged(self.module, closure, good)
        state.prune({closure["id"], good})
        self.leave("the driver moved to %s: %s. %s" % (closure["id"], self.why, seen), True, closure)

    def hold_on(self, text):
        """Nothing moves; the lock itself is put right where somebody changed it."""
        changed = lock(self.apt, self.locked, self.module.check_mode)
        self.leave(text + (": put right " + ", ".join(changed) if changed else ""), bool(changed))

    def leave(self, text, changed=False, closure=None):
        self.module.exit_json(
            changed=changed,
            msg=text,
            closure={key: value for key, value in (closure or self.locked or {}).items() if key != "kept"},
            reboot_required=state.journal().get("stage") == "awaiting-reboot",
        )


def build_errors(closure):
    """The first error of a module build that failed. Its log is kept where removing the package does not reach it."""
    kept = ""
    for path in sorted(glob.glob("/var/lib/dkms/*nvidia*/%s/build/make.log" % closure["version"])):
        text = state.read_text(path) or ""
        if re.search(r"\b(error|Error \d)", text):
            kept += "%s\n%s" % (path, text)
    if not kept:
        return ""
    atomic_write(BUILD_LOG, kept)
    first = re.search(r"^.*(?:error:|ERROR:|Error \d).*$", kept, re.MULTILINE)
    return "; the build, kept in %s, says first: %s" % (BUILD_LOG, first.group(0).strip() if first else "no error")


def main():
    module = AnsibleModule(
        argument_spec={
            "wish": {"type": "dict", "required": True},
            "route": {"type": "dict", "required": True},
            "upgrade": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    Mover(module).run()


if __name__ == "__main__":
    main()
