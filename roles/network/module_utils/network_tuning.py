#!/usr/bin/python3
# Managed by provision (role network)
"""Brings the network cards of this host to what is declared: rings, queues, interrupts, queueing, power saving.

    network-tuning [--check | --boot] [/etc/provision/network.json]

The unit provision-network.service runs it at every boot, because none of this outlives one. What it can do it does,
whatever else fails; it ends with 1 where a card is gone or refuses, and says which. With --check it changes nothing,
and ends with 3 where something would change; with --boot it waits until the cards are up, because a card has no
interrupts before. Runs on Python 3.8.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import namedtuple

DECLARED = "/etc/provision/network.json"
NET = "/sys/class/net/"
PATIENCE = 30  # seconds that --boot waits for the cards
DIFFERS = 3
IFF_UP = 1

# `wanted` is a sentence, `act` brings it about.
Change = namedtuple("Change", "card wanted act")


class Trouble(Exception):
    """A sentence about a card."""


def run(*argv):
    """A command's output; Trouble with its own words where it fails."""
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble("%s: %s" % (" ".join(argv), error)) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise Trouble("%s ended with %d and says: %s" % (" ".join(argv), done.returncode, said[-1]))
    return done.stdout


def read(path):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except (OSError, ValueError):
        return ""


def write(path, text):
    try:
        with open(path, "w") as stream:
            stream.write(text)
    except OSError as error:
        raise Trouble("%s refuses %s: %s" % (path, text, error.strerror)) from None


def is_up(card):
    return bool(int(read(NET + card + "/flags") or "0", 16) & IFF_UP)


def pairs(text):
    """The two sections of `ethtool -g` and `-l`, by lower-case names: at most, and now."""
    most, _, now = text.partition("Current hardware settings")
    return tuple(
        {name.strip().lower(): int(count) for name, count in re.findall(r"^([A-Za-z ]+):\s+(\d+)$", part, re.MULTILINE)}
        for part in (most, now)
    )


def ask(option, card):
    """What the card can have and has of rings (`-g`) or channels (`-l`); two empty ones where it has no such thing."""
    try:
        return pairs(run("ethtool", option, card))
    except Trouble as trouble:
        if re.search(r"not supported|No such operation", str(trouble)):
            return {}, {}
        raise


def counted(wanted, most):
    """The declared number, or all that the card can have; never more than that."""
    return most if wanted == "max" else min(int(wanted), most)


def set_counts(card, declared):
    """Rings first need the channels that they belong to."""
    plans = (
        ("queues", "-l", "-L", ("combined",), "queues"),
        ("rings", "-g", "-G", ("rx", "tx"), "descriptors in its rings"),
    )
    for name, asking, setting, fields, what in plans:
        if declared[name] == "keep":
            continue
        most, now = ask(asking, card)
        wanted = {field: counted(declared[name], most[field]) for field in fields if most.get(field)}
        other = {field: count for field, count in wanted.items() if now.get(field) != count}
        if other:
            words = [word for field, count in sorted(other.items()) for word in (field, str(count))]
            told = "%s: %s" % (what, " ".join(words))
            yield Change(card, told, lambda setting=setting, words=words: run("ethtool", setting, card, *words))


def cpus(text):
    """`0-3,8` as numbers."""
    found = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def interrupts(card):
    """The card's interrupts that somebody handles, by their numbers. Those of a virtio card belong to its parent."""
    device = os.path.realpath(NET + card + "/device")
    numbers = []
    for place in (device, os.path.dirname(device)):
        if os.path.isdir(place + "/msi_irqs"):
            numbers = [int(name) for name in os.listdir(place + "/msi_irqs")]
            break
    return [number for number in sorted(numbers) if read("/proc/irq/%d/smp_affinity_list" % number) and handled(number)]


def handled(number):
    return bool(read("/sys/kernel/irq/%d/actions" % number))


def near(card):
    """The processors near the card that are switched on."""
    online = cpus(read("/sys/devices/system/cpu/online"))
    local = cpus(read(NET + card + "/device/local_cpulist"))
    return [cpu for cpu in local if cpu in online] or online


def spread(card, declared):
    if declared["irq_affinity"] != "spread":
        return
    processors = near(card)
    for index, number in enumerate(interrupts(card)):
        wanted, path = str(processors[index % len(processors)]), "/proc/irq/%d/smp_affinity_list" % number
        if read(path) != wanted:
            told = "interrupt %d at processor %s instead of %s" % (number, wanted, read(path))
            yield Change(card, told, lambda path=path, wanted=wanted: write(path, wanted))


def queueing(card, declared):
    """A card with several queues has an mq, and one discipline for each queue below it."""
    if not declared["qdisc"] or not is_up(card):
        return
    found = json.loads(run("tc", "-j", "qdisc", "show", "dev", card) or "[]")
    kinds = {each["kind"] for each in found} - {"mq", "clsact", "ingress"}
    if kinds - {declared["qdisc"], "noqueue"}:
        several = len([name for name in os.listdir(NET + card + "/queues") if name.startswith("tx-")]) > 1
        root = "mq" if several else declared["qdisc"]
        # A root that is there already keeps its children: another handle makes both anew.
        yield Change(
            card,
            "queueing by %s instead of %s" % (declared["qdisc"], ", ".join(sorted(kinds))),
            lambda: renew(card, root),
        )


def renew(card, root):
    run("tc", "qdisc", "replace", "dev", card, "root", "pfifo")
    run("tc", "qdisc", "replace", "dev", card, "root", root)


def wireless(card, declared):
    if not os.path.isdir(NET + card + "/phy80211"):
        return
    if declared["country"] and "country %s:" % declared["country"] not in run("iw", "reg", "get"):
        told = "the regulatory domain %s" % declared["country"]
        yield Change(card, told, lambda: run("iw", "reg", "set", declared["country"]))
    saves = is_up(card) and not run("iw", "dev", card, "get", "power_save").strip().endswith("off")
    if saves and not declared["power_save"]:
        yield Change(card, "no power saving", lambda: run("iw", "dev", card, "set", "power_save", "off"))


STEPS = (set_counts, spread, queueing, wireless)


def apply(declared, check, say):
    """Do, or with `check` only say, what is to be done. Returns the sentences of the changes, and the troubles."""
    done, troubles = [], []
    for card in declared["cards"]:
        if not os.path.isdir(NET + card):
            troubles.append("there is no network card %s; those there: %s" % (card, ", ".join(sorted(os.listdir(NET)))))
            continue
        for step in STEPS:
            try:
                for change in step(card, declared):
                    if not check:
                        change.act()
                    done.append("%s: %s" % (card, change.wanted))
                    say(done[-1])
            except Trouble as trouble:
                troubles.append("%s: %s" % (card, trouble))
    return done, troubles


def wait_up(declared):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not all(is_up(card) for card in declared["cards"] if card):
        time.sleep(0.5)


def main(arguments):
    options = {word for word in arguments if word.startswith("--")}
    with open(([word for word in arguments if word not in options] or [DECLARED])[0]) as stream:
        declared = json.load(stream)
    if "--boot" in options:
        wait_up(declared)
    done, troubles = apply(declared, "--check" in options, print)
    for trouble in troubles:
        print("network: %s" % trouble, file=sys.stderr)
    if troubles:
        return 1
    return DIFFERS if "--check" in options and done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
