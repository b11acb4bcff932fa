"""Disks as they are at this moment: where a stable name leads, what is on it, what holds it. Writes nothing.

Runs on Python 3.8. `run` is AnsibleModule.run_command, so that a test can stand answers in its place.
"""

from __future__ import annotations

import json
import os
import re
from collections import namedtuple

from ansible.module_utils.provision_disks import disks_below

BY_ID, BY_UUID, SYS = "/dev/disk/by-id/", "/dev/disk/by-uuid/", "/sys/class/block/"
SAMPLES, SAMPLE = 64, 1 << 16
COLUMNS = "NAME,TYPE,FSTYPE,PTTYPE,LABEL,UUID,MOUNTPOINT,SERIAL,SIZE"

# `node` is /dev/nvme0n1; `on_it` are phrases, empty where nothing was found; `parts` are its partitions' nodes.
Disk = namedtuple("Disk", "by_id node size serial on_it mounts holders parts")


class Trouble(Exception):
    """A sentence that names the disk and what is on it."""


def look(by_id, run):
    """The disk behind a stable name.

    Raises:
        Trouble: there is none, or it is no whole disk, or it cannot be examined.
    """
    path = BY_ID + by_id
    if not os.path.exists(path):
        raise Trouble("%s is not there" % by_id)
    node = os.path.realpath(path)
    told = answer(run, ["lsblk", "--json", "--bytes", "--output", COLUMNS, node])
    entries = json.loads(told)["blockdevices"]
    if len(entries) != 1 or entries[0]["type"] != "disk":
        raise Trouble("%s is no whole disk" % by_id)
    return describe(by_id, node, entries[0], signatures(node, run))


def describe(by_id, node, entry, signed):
    """A disk from what lsblk and wipefs tell: wipefs reads the disk itself, lsblk may repeat an old answer of udev."""
    below = list(family(entry))
    on_it = [phrase for phrase in map(what, below) if phrase]
    seen = " ".join(on_it)
    on_it += ["%s: %s" % (os.path.basename(node), name) for name in signed if name not in seen and known(name, below)]
    mounts = [each["mountpoint"] for each in below if each.get("mountpoint")]
    parts = ["/dev/" + each["name"] for each in entry.get("children", []) if each["type"] == "part"]
    holders = [each["name"] for each in below if each["type"] not in ("disk", "part")]
    serial = re.sub(r"\s+", "_", (entry.get("serial") or "").strip())
    return Disk(by_id, node, int(entry["size"]), serial, on_it, mounts, holders, parts)


def known(name, below):
    """Whether a signature tells something new: that of a partition table lsblk calls by another name (gpt: PMBR)."""
    return not (name in ("PMBR", "gpt", "dos") and any(each.get("pttype") for each in below))


def family(entry):
    """An entry of lsblk and everything below it, each once: an array stands below every one of its members."""
    seen = {}
    stack = [entry]
    while stack:
        each = stack.pop(0)
        if each["name"] not in seen:
            seen[each["name"]] = each
            stack += each.get("children", [])
    return seen.values()


def what(entry):
    """`sdb1: ext4 labelled data on /mnt`, or nothing."""
    table = entry["pttype"] + " partition table" if entry.get("pttype") and entry["type"] == "disk" else ""
    bare = "" if entry["type"] == "disk" else entry["type"]
    kind = entry.get("fstype") or table or bare
    if not kind and not entry.get("mountpoint"):
        return ""
    labelled = " labelled " + entry["label"] if entry.get("label") else ""
    mounted = " on " + entry["mountpoint"] if entry.get("mountpoint") else ""
    return "%s: %s%s%s" % (entry["name"], kind or "data", labelled, mounted)


def signatures(node, run):
    """Names of the signatures that stand on a device."""
    told = answer(run, ["wipefs", "--json", "--no-act", node])
    return [each["type"] for each in json.loads(told or "{}").get("signatures", [])]


def remains(disk):
    """Data that bears no signature: an encrypted volume without a header, a database on the bare disk.

    Looked for at both ends and at places in between; a new disk holds zeros.
    """
    last = max(disk.size - SAMPLE, 0)
    places = {last * part // (SAMPLES - 1) // 4096 * 4096 for part in range(SAMPLES - 1)} | {last}
    with open(disk.node, "rb", buffering=0) as stream:
        for place in sorted(places):
            stream.seek(place)
            if stream.read(SAMPLE).strip(b"\0"):
                return ["%s: data without a signature" % os.path.basename(disk.node)]
    return []


def answer(run, argv):
    code, out, err = run(argv)
    if code != 0:
        raise Trouble("%s says: %s" % (argv[0], (err or out).strip() or "nothing"))
    return out


def objection(disk, may_wipe):
    """Why a file system must not be made on this disk; empty where it may."""
    on_it = ", ".join(disk.on_it)
    if disk.mounts:
        return "%s is in use and is never written to: on it is %s" % (disk.by_id, on_it)
    if disk.on_it and not may_wipe:
        hint = "name another disk, or give up what is on it by naming %s in storage_wipe" % disk.by_id
        return "%s is not empty: on it is %s; %s" % (disk.by_id, on_it, hint)
    if disk.holders:
        hint = "stop what holds it first (mdadm --stop, vgchange -an, cryptsetup close)"
        return "%s is held by %s: on it is %s; %s" % (disk.by_id, " and ".join(disk.holders), on_it, hint)
    if disk.serial and disk.by_id.startswith(("nvme-", "ata-")) and disk.serial not in disk.by_id:
        return "%s leads to a disk whose serial number is %s: look at %s" % (disk.by_id, disk.serial, disk.node)
    return ""


def claim(disk):
    """Ask the kernel: it refuses whoever wants a disk for himself while a mount, an array or a volume has it."""
    try:
        os.close(os.open(disk.node, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        raise Trouble("%s is in use, says the kernel: %s" % (disk.by_id, error.strerror)) from None


def device_of(uuid):
    """The device that holds the file system with this UUID, or None."""
    path = BY_UUID + uuid
    return os.path.realpath(path) if os.path.exists(path) else None


def nodes_below(device):
    """The whole disks that a device lies on, as nodes."""
    return ["/dev/" + name for name in disks_below(SYS + os.path.basename(os.path.realpath(device)))]


def degraded(device):
    """How many members an array lacks; 0 for what is no array."""
    path = SYS + os.path.basename(device) + "/md/degraded"
    if not os.path.exists(path):
        return 0
    with open(path) as stream:
        return int(stream.read())
