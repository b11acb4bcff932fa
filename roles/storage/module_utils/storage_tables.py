"""The host's tables: what this role made, what is mounted at boot, what is mounted now. Runs on Python 3.8."""

from __future__ import annotations

import json
import os
from collections import namedtuple

from ansible.module_utils.provision_io import atomic_write
from ansible.module_utils.storage_disks import Trouble

RECORD = "/var/lib/provision/storage/volumes.json"
FSTAB, MOUNTINFO = "/etc/fstab", "/proc/self/mountinfo"
MARK = "# provision (role storage): the tier %s"

Mount = namedtuple("Mount", "number place filesystem options")


def read_record(path=RECORD):
    """UUID, level and disks by the name of the tier."""
    try:
        with open(path) as stream:
            return json.load(stream)
    except FileNotFoundError:
        return {}
    except ValueError:
        raise Trouble(
            "%s is not JSON any more: put it back from a backup, it says which disks are whose" % path
        ) from None


def write_record(record, path=RECORD):
    atomic_write(path, json.dumps(record, indent=2, sort_keys=True) + "\n")


def fstab_line(volume, uuid):
    """ext4 is checked at boot, xfs never."""
    check = 2 if volume["filesystem"] == "ext4" else 0
    options = ",".join(volume["options"])
    return "UUID=%s %s %s %s 0 %d" % (uuid, escaped(volume["mountpoint"]), volume["filesystem"], options, check)


def escaped(path):
    return path.replace("\\", "\\134").replace(" ", "\\040")


def fstab(text, volumes, uuids):
    """The table with one line for each volume, in place of older ones of the same file system.

    Raises:
        Trouble: somebody else mounts something at a volume's place.
    """
    ours = {"UUID=" + uuids[volume["name"]] for volume in volumes}
    places = {escaped(volume["mountpoint"]) for volume in volumes}
    marks = {MARK % volume["name"] for volume in volumes}
    kept = []
    for line in text.splitlines():
        fields = line.split()
        if line in marks or (fields and fields[0] in ours):
            continue
        if len(fields) > 1 and not line.lstrip().startswith("#") and fields[1] in places:
            raise Trouble("%s mounts %s at %s already: take that line out" % (FSTAB, fields[0], fields[1]))
        kept.append(line)
    for volume in volumes:
        kept += [MARK % volume["name"], fstab_line(volume, uuids[volume["name"]])]
    return "".join(line + "\n" for line in kept)


def mounts(text):
    """What is mounted, the last one over a place winning; from /proc/self/mountinfo."""
    found = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        place = fields[4].replace("\\040", " ").replace("\\134", "\\")
        found[place] = Mount(fields[2], place, kind[0], set(fields[5].split(",")) | set(kind[2].split(",")))
    return found


def number_of(device):
    """Major and minor number, as mountinfo writes them."""
    info = os.stat(device)
    return "%d:%d" % (os.major(info.st_rdev), os.minor(info.st_rdev))
