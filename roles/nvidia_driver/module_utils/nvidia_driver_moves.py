"""Moving the closure: lock it, bring one back from the kept packages, and judge what the kernel has loaded."""

from __future__ import annotations

import os

from ansible.module_utils import nvidia_driver_host as host
from ansible.module_utils import nvidia_driver_state as state
from ansible.module_utils.nvidia_driver_apt import without_our_lock
from ansible.module_utils.nvidia_driver_names import release_of, upgrade_blacklist
from ansible.module_utils.provision_io import atomic_write, sha256_of
from ansible.module_utils.provision_names import in_family, preferences

WRITTEN = "# Written by provision (role nvidia_driver): the driver moves as a whole or not at all.\n"


def why_move(wish, upgrade, installed):
    """What makes the closure move, or an empty text where it is as it should be."""
    locked, journal = state.current(), state.journal()
    if journal.get("stage") == "installing":
        return "an earlier run ended in the middle of the move to %s" % journal["to"]
    if not locked:
        return "no driver is locked on this host yet"
    changed = [key for key in sorted(wish) if locked["wish"].get(key) != wish[key]]
    if changed:
        return "; ".join("%s was %s and is now %s" % (key, locked["wish"].get(key), wish[key]) for key in changed)
    strayed = strays(locked, installed)
    if strayed:
        return "the locked packages are not as locked: %s" % ", ".join(strayed)
    return "nvidia_driver_upgrade asks for the newest of the branch" if upgrade else ""


def strays(closure, installed):
    """Packages of a closure that are not installed in their version, as text."""
    return [
        "%s is %s instead of %s" % (name, installed.get(name, "missing"), version)
        for name, version in sorted(closure["packages"].items())
        if installed.get(name) != version
    ]


def lock(apt, closure, check=False):
    """Hold a closure's packages by preference, by dpkg and against unattended upgrades; returns what that changed."""
    changed = []
    for path, text in (
        (state.PREFERENCES, WRITTEN + preferences(closure["packages"])),
        (state.BLACKLIST, upgrade_blacklist(closure["packages"])),
    ):
        if state.read_text(path) != text:
            changed.append(path)
            if not check:
                atomic_write(path, text)
    table = apt.table()
    held = {name for name, row in table.items() if row[0] == "hold"}
    wanted = set(closure["packages"])
    stale = {name for name in held - wanted if in_family(name)} | (held & (set(locked_before(closure)) - wanted))
    if wanted - held or stale:
        changed.append("dpkg's holds")
        if not check:
            apt.unhold(stale)
            apt.hold(wanted - held)
    return changed


def locked_before(closure):
    """Packages of the closure that this one takes the place of."""
    before = state.current()
    return before["packages"] if before and before["id"] != closure["id"] else {}


def restore(apt, closure):
    """Bring a closure back from its kept packages in one transaction; why that failed, or an empty text."""
    apt.finish()
    installed = apt.installed()
    words = []
    for name, version in sorted(closure["packages"].items()):
        if installed.get(name) != version:
            path = kept_package(closure, name)
            if isinstance(path, OSError):
                return str(path)
            words.append(path or "%s=%s" % (name, version))
    gone = [name for name in sorted(installed) if in_family(name) and name not in closure["packages"]]
    newer = newer_kernels(apt, closure, installed)
    if newer:
        # A kernel without this driver's module would boot first. Removing the running one asks; this answers.
        answer = "linux-base linux-base/removing-running-kernel boolean false\n"
        apt.module.run_command(["debconf-set-selections"], data=answer)
    with without_our_lock() as options:
        return apt.install(words + [name + "-" for name in gone + newer], *options) if words or gone or newer else ""


def remove(apt, before):
    """Remove the driver packages that were not there before; why that failed, or an empty text."""
    apt.finish()
    new = [name for name in sorted(apt.installed()) if in_family(name) and name not in before]
    return apt.install([name + "-" for name in new]) if new else ""


def newer_kernels(apt, closure, installed):
    """Images that would boot before the closure's kernel and have none of its modules; DKMS builds for any kernel."""
    if closure["wish"]["source"] != "ubuntu":
        return []
    return [name for name in sorted(installed) if release_of(name) and later(apt, release_of(name), closure["kernels"])]


def later(apt, release, kernels):
    """Whether a kernel would boot before all of these, which are on this host."""
    there = [kernel for kernel in kernels if os.path.exists("/boot/vmlinuz-" + kernel)]
    return bool(there) and all(
        apt.module.run_command(["dpkg", "--compare-versions", release, "gt", kernel])[0] == 0 for kernel in there
    )


def kept_package(closure, name):
    """Path of a package in the cache, None where it was not kept, an OSError where it is not what was kept."""
    entry = closure.get("kept", {}).get(name)
    if not entry:
        return None
    path = os.path.join(state.cache(closure["id"]), entry["file"])
    if not os.path.exists(path):
        return None
    if sha256_of(path) != entry["sha256"]:
        return OSError("%s was changed since it was kept: its checksum is another" % path)
    return path


def judge(module, closure):
    """How the kernel agrees with a closure: (verdict, what was seen); the verdict is fit, unfit, or unknown."""
    kind = host.container(module)
    if kind:
        return "unknown", "a container (%s) has no kernel of its own to load a module into" % kind
    version = closure["version"]
    if not host.loaded() and not host.rivals():
        module.run_command(["modprobe", "nvidia"])
    loaded, library, built = host.loaded(), host.library(), host.built(module, host.running())
    seen = "kernel %s has %s; the libraries are %s" % (
        host.running(),
        "the module %s loaded" % loaded if loaded else "no nvidia module loaded",
        library or "missing",
    )
    if host.rivals():
        return "unfit", "%s; %s holds the card" % (seen, " and ".join(host.rivals()))
    if loaded == version == library:
        return "fit", seen
    if not loaded and not host.cards() and built == version:
        return "unknown", "%s, its module %s lies ready, and the machine shows no NVIDIA card to load it for" % (
            seen,
            built,
        )
    return "unfit", seen if loaded else "%s; on disk there is %s for it" % (seen, built or "no module")


def note_judged(module, closure, previous, **more):
    """Judge a closure that was just installed and write down how far it is in force; the verdict and what was seen."""
    verdict, seen = judge(module, closure)
    stage = {"fit": "proved", "unknown": "installed", "unfit": "awaiting-reboot"}[verdict]
    state.note(stage=stage, why=seen, to=closure["id"], previous=previous, boot_id=state.boot_id(), **more)
    return verdict, seen
