"""The whole disks below what is mounted or joined, and the names that they keep.

For the target's Python 3.8.
"""

from __future__ import annotations

import os

BY_ID = "/dev/disk/by-id"
NUMBERS = ("wwn-", "nvme-eui.", "nvme-nvme.")  # names that stand on no disk's label


def disks_below(path):
    """The whole disks of the kernel that a block device of /sys lies on, by name."""
    path = os.path.realpath(path)
    slaves = os.path.join(path, "slaves")
    if os.path.isdir(slaves) and os.listdir(slaves):
        return sorted({disk for name in os.listdir(slaves) for disk in disks_below(os.path.join(slaves, name))})
    part = os.path.exists(os.path.join(path, "partition"))
    return [os.path.basename(os.path.dirname(path) if part else path)]


def stable_names(number, sys="/sys/dev/block"):
    """The disks below a file system, by the names that outlive a boot; empty for what lies on none."""
    block = "%s/%d:%d" % (sys, os.major(number), os.minor(number))
    if not os.path.exists(block) or not os.path.isdir(BY_ID):
        return []
    links = sorted(os.listdir(BY_ID), key=lambda name: (name.startswith(NUMBERS), name))
    names = {os.path.basename(os.path.realpath(os.path.join(BY_ID, name))): name for name in reversed(links)}
    return [names.get(disk, disk) for disk in disks_below(block)]
