#!/usr/bin/python3
# Managed by provision (role kernel_tuning)
"""Brings the running kernel to what is declared: sysctls, huge pages, the processors' governor, PCIe's power and ACS.

    kernel-tuning [--check] [/etc/provision/kernel-tuning.json]

The unit provision-kernel-tuning.service runs it at every boot. What it replaces it remembers, and puts back once it is
declared no longer. It ends with 1 where the kernel refuses, and says what; with --check it changes nothing and ends
with 3 where something would change. Runs on Python 3.8.
"""

import glob
import json
import os
import re
import sys
from collections import namedtuple

ROOT = "/"
DECLARED = "/etc/provision/kernel-tuning.json"
FORMER = "/var/lib/provision/kernel_tuning/former.json"
POLICIES = "/sys/devices/system/cpu/cpufreq/policy*"
PAGES = "/sys/kernel/mm/hugepages/hugepages-%skB/nr_hugepages"
TRANSPARENT = "/sys/kernel/mm/transparent_hugepage/enabled"
ASPM = "/sys/module/pcie_aspm/parameters/policy"
PCI = "/sys/bus/pci/devices/"
DIFFERS = 3

ACS_CAPABILITY, EXTENDED = 0x000D, 0x100  # the capability's id, and where PCIe's own capabilities begin
# Request redirect, completion redirect and egress control: what the kernel's pci=disable_acs_redir clears as well.
REDIRECTS = 0x04 | 0x08 | 0x20

# `found` is what the kernel says now. `back`: it is declared no longer and gets its former value.
Change = namedtuple("Change", "path wanted found back")


class Trouble(Exception):
    """A sentence about what the kernel does not do."""


def at(path):
    return os.path.join(ROOT, path.lstrip("/"))


def every(pattern):
    return ["/" + os.path.relpath(path, ROOT) for path in sorted(glob.glob(at(pattern)))]


def text_of(path):
    """A file's text, of `a [b] c` what is chosen; None where there is none."""
    try:
        with open(at(path)) as stream:
            text = stream.read().strip()
    except OSError:
        return None
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen.group(1) if chosen else text


def acs_control(path):
    """Where a bridge's ACS control register is and what it holds; None where it has none or only root may see it."""
    try:
        with open(at(path), "rb") as stream:
            config = stream.read()
    except OSError:
        return None
    offset, seen = EXTENDED, set()
    while offset and offset not in seen and offset + 8 <= len(config):
        seen.add(offset)
        header = int.from_bytes(config[offset : offset + 4], "little")
        if header & 0xFFFF == ACS_CAPABILITY:
            return offset + 6, int.from_bytes(config[offset + 6 : offset + 8], "little")
        offset = header >> 20
    return None


def value_of(path):
    if not path.endswith("/config"):
        return text_of(path)
    found = acs_control(path)
    return "0x%04x" % found[1] if found else None


def write(path, value):
    if not path.endswith("/config"):
        with open(at(path), "w") as stream:
            stream.write(value)
        return
    with open(at(path), "r+b") as stream:
        stream.seek(acs_control(path)[0])
        stream.write(int(value, 16).to_bytes(2, "little"))


def bridges():
    """The configuration spaces of the bridges above the cards, the cards being display controllers of NVIDIA's."""
    found = set()
    for card in cards():
        above = os.path.realpath(at(PCI + card)).split(os.sep)[:-1]
        found |= {name for name in above if re.match(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$", name)}
    return [PCI + name + "/config" for name in sorted(found)]


def cards():
    every_device = [os.path.basename(path) for path in every(PCI + "*")]
    return [
        name
        for name in every_device
        if (text_of(PCI + name + "/class") or "").startswith("0x03") and text_of(PCI + name + "/vendor") == "0x10de"
    ]


def redirecting():
    """The bridges above the cards that send what one card writes to another through the processor."""
    found = [(path, acs_control(path)) for path in bridges()]
    return [(path, control[1]) for path, control in found if control and control[1] & REDIRECTS]


def wishes(declared):
    """What each file of the kernel's shall say."""
    wanted = {"/proc/sys/" + name.replace(".", "/"): str(value) for name, value in declared["sysctls"].items()}
    wanted.update({PAGES % size: str(count) for size, count in declared["hugepages"].items() if count})
    if declared["transparent_hugepages"] != "leave":
        wanted[TRANSPARENT] = declared["transparent_hugepages"]
    if declared["governor"] != "leave":
        wanted.update(dict.fromkeys(every(POLICIES + "/scaling_governor"), declared["governor"]))
    if declared["pcie_aspm"] != "leave" and not aspm_is_kept():
        wanted[ASPM] = declared["pcie_aspm"]
    if declared["acs"] == "direct":
        wanted.update({path: "0x%04x" % (control & ~REDIRECTS) for path, control in redirecting()})
    return wanted


def aspm_is_kept():
    """Whether the firmware keeps PCIe's power saving: the kernel then refuses even the value that is in force."""
    now = text_of(ASPM)
    if now is None:
        return True
    try:
        write(ASPM, now)
    except OSError:
        return True
    return False


def notes(declared):
    """What is declared and cannot be here, without being anybody's fault; and what ACS does where nobody decided."""
    if declared["governor"] != "leave" and not every(POLICIES):
        yield "the kernel shows no frequency of the processors, as in a virtual machine: the governor is left out"
    if declared["pcie_aspm"] != "leave" and aspm_is_kept():
        yield "the firmware keeps the power saving of PCIe links: pcie_aspm is left out"
    for name in sorted(declared["sysctls"]):
        if value_of("/proc/sys/" + name.replace(".", "/")) is None:
            yield "this kernel has no %s: it is left out" % name
    if declared["acs"] == "leave" and len(cards()) > 1 and redirecting():
        told = ", ".join(path.split("/")[-2] for path, _ in redirecting())
        yield "ACS of the bridges %s sends what cards write to each other through the processor" % told


def refusals(declared):
    for path in every(POLICIES):
        offered = (text_of(path + "/scaling_available_governors") or "").split()
        if declared["governor"] != "leave" and declared["governor"] not in offered:
            told = (declared["governor"], os.path.basename(path), " ".join(offered) or "none")
            yield "there is no governor %s for %s, which offers %s" % told
    for size, count in sorted(declared["hugepages"].items()):
        if count and value_of(PAGES % size) is None:
            yield "this processor and kernel have no pages of %d MiB" % (int(size) // 1024)


def changes(declared, former):
    wanted = wishes(declared)
    for path in sorted(wanted):
        found = value_of(path)
        if found is not None and found != wanted[path]:
            yield Change(path, wanted[path], found, False)
    for path, (before, ours) in sorted(former.items()):
        # Somebody else's change since then is theirs, and so is what a reboot brought back.
        if path not in wanted and value_of(path) == ours and before != ours and not still_direct(declared, path):
            yield Change(path, before, ours, True)


def still_direct(declared, path):
    """A bridge that redirects no longer is no wish any more, and yet what is declared."""
    return declared["acs"] == "direct" and path.endswith("/config")


def make(change):
    try:
        write(change.path, change.wanted)
    except OSError as error:
        raise Trouble("%s does not take %s: %s" % (change.path, change.wanted, error.strerror)) from error
    found = value_of(change.path)
    if found != change.wanted and "hugepages-" in change.path and not change.back:
        raise Trouble(
            "of %s huge pages the kernel could set aside %s (%s): reboot, and apply again"
            % (change.wanted, found, change.path)
        )
    if found != change.wanted:
        raise Trouble("%s says %s and does not become %s" % (change.path, found, change.wanted))


def read_former():
    try:
        with open(at(FORMER)) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def remember(former):
    """In one step. Its own, and not provision_io's: on the host this file runs without the modules. What a power cut
    could take from it the boot after it has put back anyway.
    """
    path = at(FORMER)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as stream:
        json.dump(former, stream, indent=1, sort_keys=True)
    os.replace(path + ".new", path)


def apply(declared, check, say):
    """Do, or with `check` only say, what is to be done. Returns the number of changes and the troubles."""
    for note in notes(declared):
        say(note)
    former, troubles, done = read_former(), list(refusals(declared)), 0
    for change in list(changes(declared, former)):
        if not check and not change.back:
            # Before it is made: what a run that dies replaced is known to the next.
            former[change.path] = [former.get(change.path, [change.found])[0], change.wanted]
            remember(former)
        try:
            if not check:
                make(change)
            done += 1
            say("%s: %s instead of %s" % (change.path, change.wanted, change.found))
        except Trouble as trouble:
            troubles.append(str(trouble))
    if not check:
        wanted = wishes(declared)
        remember({path: was for path, was in former.items() if path in wanted or still_direct(declared, path)})
    return done, troubles


def main(arguments):
    check = "--check" in arguments
    given = [word for word in arguments if word != "--check"] or [at(DECLARED)]
    with open(given[0]) as stream:
        declared = json.load(stream)
    done, troubles = apply(declared, check, print)
    for trouble in troubles:
        print("kernel-tuning: %s" % trouble, file=sys.stderr)
    if troubles:
        return 1
    return DIFFERS if check and done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
