"""The only code of the role that writes to disks. Everything here was judged by storage_disks. Python 3.8."""

from __future__ import annotations

import os

LABEL = "prov-%s"  # an xfs label has at most twelve bytes


def start_over(host, disk):
    """Take away what stands on a disk that may be wiped; an empty one is left as it is."""
    if not disk.on_it:
        return
    host.done.append("everything on %s is gone: %s" % (disk.by_id, ", ".join(disk.on_it)))
    for node in [*disk.parts, disk.node]:
        host.must("wipefs", "--all", "--quiet", node)
    host.must("blockdev", "--rereadpt", disk.node)
    host.must("udevadm", "settle")


def joined(host, volume, disks):
    """The device that the file system is made on."""
    name = LABEL % volume["name"]
    nodes = [disk.node for disk in disks]
    if volume["level"] == "mirror":
        words = ["--run", "--level=1", "--metadata=1.2", "--bitmap=internal", "--homehost=any", "--name=" + name]
        host.must("mdadm", "--create", "/dev/md/" + name, *words, "--raid-devices=%d" % len(nodes), *nodes)
        host.must("udevadm", "settle")
        return os.path.realpath("/dev/md/" + name)
    if volume["level"] == "lvm":
        host.must("pvcreate", "--quiet", *nodes)
        host.must("vgcreate", "--quiet", name, *nodes)
        host.must("lvcreate", "--quiet", "--yes", "--name", "data", "--extents", "100%FREE", name)
        host.must("udevadm", "settle")
        return "/dev/%s/data" % name
    return nodes[0]


def make_filesystem(host, device, volume, uuid):
    label = LABEL % volume["name"]
    if volume["filesystem"] == "xfs":
        # Without -f: mkfs.xfs itself refuses a device on which it finds something.
        host.must("mkfs.xfs", "-q", "-L", label, "-m", "uuid=" + uuid, device)
    else:
        host.must("mkfs.ext4", "-q", "-m", "0", "-L", label, "-U", uuid, device)
    host.must("udevadm", "trigger", "--settle", "--action=change", device)
