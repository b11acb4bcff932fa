#!/usr/bin/python3
# Managed by provision (role network)
"""The dead man's switch of a network change: what stood before comes back by itself, unless somebody says in time
that the host is still reached.

    network-guard apply | revert WHY | boot

A change is armed (`arm`) before anything is touched: the former files are kept, and a timer will bring them back. It is
disarmed (`disarm`) over a new connection. The mark `armed` lies on the disk, so that a machine that is rebooted in
between comes up with what stood before (`boot`, run by provision-network-guard.service before the network starts;
it loads the firewall too).
Runs on Python 3.8.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

HOME = "/var/lib/provision/network"
TIMER, APPLY = "provision-network-revert", "provision-network-apply"
PROGRAM = "/usr/local/lib/provision/network-guard"
NFT = "/etc/provision/network.nft"


class Trouble(Exception):
    """A sentence about a command that failed."""


def place(name):
    return os.path.join(HOME, "guard", name)


def run(*argv, fails=True):
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=90, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble("%s: %s" % (" ".join(argv), error)) from None
    if fails and done.returncode != 0:
        raise Trouble("%s: %s" % (" ".join(argv), " ".join(done.stdout.split())[-300:] or "ended with an error"))
    return done.stdout


def save(name, text):
    """A file of the guard's own: it may hold a passphrase."""
    write(place(name), text.encode(), 0o600)


def load(name):
    try:
        with open(place(name)) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def write(path, content, mode):
    """So that a power cut leaves the old file or the new one, of which no network manager reads the draft.

    Its own, and not provision_io's: on the host this file runs without the modules.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = path + ".provision-new"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(draft, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def remove(path):
    if os.path.lexists(path):
        os.unlink(path)


def armed():
    return os.path.exists(place("armed"))


def abandoned():
    """Whether a change is armed and nothing is left that would take it back: its revert was killed half way."""
    states = run("systemctl", "is-active", TIMER + ".timer", TIMER + ".service", fails=False).split()
    return armed() and not {"active", "activating", "deactivating"} & set(states)


# -- the change -------------------------------------------------------------------------------------------------------


def arm(change, seconds):
    """Keep what stands now and set the timer. `change`: what (a sentence), files (path -> text or None), modes,
    links (card -> its MTU now), made (links that did not exist before), renderer.
    """
    shutil.rmtree(place(""), ignore_errors=True)
    os.makedirs(place("former"), mode=0o700)
    former = {}
    for index, path in enumerate(sorted(change["files"])):
        former[path] = None
        if os.path.exists(path):
            shutil.copy2(path, place("former/%d" % index))
            former[path] = {"kept": place("former/%d" % index), "mode": os.stat(path).st_mode & 0o7777}
    save("change.json", json.dumps(dict(change, former=former, boot=boot_id())))
    stop(TIMER)
    save("armed", "")
    try:
        # Transient: a boot has the mark instead.
        later(TIMER, seconds, "revert", "SSH did not come back within %d s" % seconds)
    except Trouble:
        remove(place("armed"))
        raise


def write_new(change):
    for path, text in sorted(change["files"].items()):
        if text is None:
            remove(path)
        else:
            write(path, text.encode(), int(change["modes"][path], 8))


def apply_later():
    """In a moment, and not by a child of the connection that may not outlive it."""
    stop(APPLY)
    later(APPLY, 1, "apply")


def later(unit, seconds, *words):
    """This program with these words in so many seconds, by systemd: whatever becomes of who asked for it."""
    timer = ["--unit", unit, "--on-active=%d" % seconds, "--timer-property=AccuracySec=100ms"]
    run("systemd-run", "--quiet", "--collect", *timer, PROGRAM, *words)


def stop(unit):
    run("systemctl", "stop", unit + ".timer", fails=False)
    run("systemctl", "reset-failed", unit + ".service", fails=False)


@contextlib.contextmanager
def alone():
    """The timer and the controller may come at the same moment: one of them has the word."""
    with open(HOME + ".lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def disarm():
    """The host is reached: what stands now stays. False where it has been taken back already."""
    with alone():
        if not armed():
            return False
        stop(TIMER)  # while it is armed nobody else arms: the timer is this change's
        remove(place("armed"))
        shutil.rmtree(place(""))  # it may hold a passphrase
        os.sync()
    return True


def revert(why):
    """Bring back what stood before, whatever of it fails, and remember why. Returns what did not come back."""
    with alone():
        change = load("change.json")
        if not armed() or not change:
            return []
        troubles = restore(change) + reapply(change, back=True)
        with contextlib.suppress(Trouble):  # a timer that is left finds nothing armed
            run("systemctl", "stop", TIMER + ".timer", fails=False)
        settle(why, troubles)
    return troubles


def restore(change):
    """Put the former files back, each whatever becomes of the others."""
    troubles = []
    for path, former in change["former"].items():
        try:
            if former is None:
                remove(path)
            else:
                with open(former["kept"], "rb") as stream:
                    write(path, stream.read(), former["mode"])
        except OSError as error:
            troubles.append("%s was not put back: %s" % (path, error))
    return troubles


def settle(why, troubles):
    save("outcome.json", json.dumps({"why": why, "troubles": troubles}))
    remove(place("armed"))


def boot():
    """Before the network starts: files that nobody proved before the reboot make way, and the firewall is loaded
    whatever becomes of them.
    """
    try:
        unprove()
    finally:
        if os.path.exists(NFT):
            run("nft", "--file", NFT)


def unprove():
    change = load("change.json")
    if not armed() or not change or change["boot"] == boot_id():
        return
    troubles = restore(change)
    if change["renderer"] == "netplan":
        try:
            run("netplan", "generate")
        except Trouble as trouble:
            troubles.append(str(trouble))
    settle("the host was rebooted before SSH was proved", troubles)


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return stream.read().strip()


# -- bringing files into force ---------------------------------------------------------------------------------------


def reapply(change, back):
    """Bring the files that lie there into force. Backwards it goes on after a failure and returns what went wrong;
    forwards the first failure is raised.
    """
    troubles = []
    for argv, fails in [*firewall(change, back), *wireless(change, back), *links(change, back)]:
        try:
            run(*argv, fails=fails)
        except Trouble as trouble:
            if not back:
                raise
            troubles.append(str(trouble))
    return troubles


# Each yields commands, and whether it matters that one fails: backwards there may be nothing to take away.


def firewall(change, back):
    if NFT not in change["files"]:
        return
    if os.path.exists(NFT):
        yield ("nft", "--file", NFT), True
    else:
        yield ("nft", "delete", "table", "inet", "provision"), not back


def wireless(change, back):
    """One wpa_supplicant for each card whose settings lie there (networkd; netplan starts its own)."""
    for path in change["files"]:
        name = os.path.basename(path)
        if name.startswith("wpa_supplicant-") and name.endswith(".conf"):
            unit = "wpa_supplicant@%s.service" % name[len("wpa_supplicant-") : -len(".conf")]
            if os.path.exists(path):
                yield ("systemctl", "enable", "--quiet", unit), True
                yield ("systemctl", "restart", unit), True
            else:
                yield ("systemctl", "disable", "--quiet", "--now", unit), not back


def links(change, back):
    if not change["links"]:
        return
    for name in change["made"] if back else ():
        yield ("ip", "link", "delete", name), False
    if change["renderer"] == "netplan":
        yield ("netplan", "apply"), True
    else:
        yield ("networkctl", "reload"), True
        yield ("networkctl", "reconfigure", *sorted(change["links"])), True
    # Neither sets an MTU that no file declares any longer.
    for card, mtu in change["links"].items() if back else ():
        yield ("ip", "link", "set", "dev", card, "mtu", str(mtu)), True


def apply_now():
    """Bring the new files into force; a failure brings the former ones back at once."""
    change = load("change.json")
    if not armed():
        return 0
    try:
        reapply(change, back=False)
    except Trouble as trouble:
        return complain([str(trouble), *revert(str(trouble))])
    save("applied", json.dumps({"at": time.clock_gettime(time.CLOCK_BOOTTIME)}))
    return 0


def complain(troubles):
    """Say them in the journal. Returns the exit status."""
    for trouble in troubles:
        print("network-guard: %s" % trouble, file=sys.stderr)
    return 1 if troubles else 0


def main(arguments):
    try:
        if arguments[:1] == ["apply"]:
            return apply_now()
        if arguments[:1] == ["boot"]:
            boot()
            return 0
        if arguments[:1] == ["revert"]:
            run("systemctl", "stop", APPLY + ".service", fails=False)  # it may hang
            return complain(revert(" ".join(arguments[1:]) or "somebody asked for it"))
    except Trouble as trouble:
        return complain([str(trouble)])
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
