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


def save(name, text, mode=0o600):
    """Write a file of the guard's own so that a power cut leaves the old one or the new one."""
    write(place(name), text.encode(), mode)


def load(name):
    try:
        with open(place(name)) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def write(path, content, mode):
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
    units = (TIMER + ".timer", TIMER + ".service")
    states = [run("systemctl", "is-active", unit, fails=False).strip() for unit in units]
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
    save("armed", "")
    stop(TIMER)
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
        remove(place("armed"))
        shutil.rmtree(place(""))  # it may hold a passphrase
        os.sync()
    stop(TIMER)
    return True


def revert(why):
    """Bring back what stood before, whatever of it fails, and remember why."""
    with alone():
        change = load("change.json")
        if armed() and change:
            take_back(change, why)


def take_back(change, why):
    for path, former in change["former"].items():
        if former is None:
            remove(path)
        else:
            with open(former["kept"], "rb") as stream:
                write(path, stream.read(), former["mode"])
    said = reapply(change, back=True)
    save("outcome.json", json.dumps({"why": why, "said": said}))
    remove(place("armed"))
    run("systemctl", "stop", TIMER + ".timer", fails=False)


def boot():
    """Before the network starts: files that nobody proved before the reboot make way, and the firewall is loaded."""
    change = load("change.json")
    if armed() and change and change["boot"] != boot_id():
        for path, former in change["former"].items():
            if former is None:
                remove(path)
            else:
                shutil.copy2(former["kept"], path)
        if change["renderer"] == "netplan":
            run("netplan", "generate", fails=False)
        save("outcome.json", json.dumps({"why": "the host was rebooted before SSH was proved", "said": []}))
        remove(place("armed"))
    if os.path.exists(NFT):
        run("nft", "--file", NFT)


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return stream.read().strip()


# -- bringing files into force ---------------------------------------------------------------------------------------


def reapply(change, back):
    """Bring the files that lie there into force. Backwards it goes on after a failure and returns what went wrong;
    forwards the first failure is raised.
    """
    told = []
    for step in (firewall, wireless, links):
        try:
            step(change, back)
        except Trouble as trouble:
            if not back:
                raise
            told.append(str(trouble))
    return told


def firewall(change, back):
    if NFT not in change["files"]:
        return
    if os.path.exists(NFT):
        run("nft", "-f", NFT)
    else:
        run("nft", "delete", "table", "inet", "provision", fails=not back)


def wireless(change, back):
    """One wpa_supplicant for each card whose settings lie there (networkd; netplan starts its own)."""
    for path in change["files"]:
        name = os.path.basename(path)
        if name.startswith("wpa_supplicant-") and name.endswith(".conf"):
            unit = "wpa_supplicant@%s.service" % name[len("wpa_supplicant-") : -len(".conf")]
            if os.path.exists(path):
                run("systemctl", "enable", "--quiet", unit)
                run("systemctl", "restart", unit)
            else:
                run("systemctl", "disable", "--quiet", "--now", unit, fails=not back)


def links(change, back):
    if not change["links"]:
        return
    if back:
        for name in change["made"]:
            run("ip", "link", "delete", name, fails=False)
    if change["renderer"] == "netplan":
        run("netplan", "apply")
    else:
        run("networkctl", "reload")
        run("networkctl", "reconfigure", *sorted(change["links"]))
    if back:
        for card, mtu in change["links"].items():
            run("ip", "link", "set", "dev", card, "mtu", str(mtu))


def apply_now():
    """Bring the new files into force; a failure brings the former ones back at once."""
    change = load("change.json")
    if not armed():
        return 0
    try:
        reapply(change, back=False)
    except Trouble as trouble:
        print("network-guard: %s" % trouble, file=sys.stderr)
        revert(str(trouble))
        return 1
    save("applied", json.dumps({"at": time.clock_gettime(time.CLOCK_BOOTTIME)}))
    return 0


def main(arguments):
    if arguments[:1] == ["apply"]:
        return apply_now()
    if arguments[:1] == ["boot"]:
        boot()
        return 0
    if arguments[:1] == ["revert"]:
        run("systemctl", "stop", APPLY + ".service", fails=False)  # it may hang
        revert(" ".join(arguments[1:]) or "somebody asked for it")
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
