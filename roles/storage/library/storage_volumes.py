#!/usr/bin/python
"""Brings a host's disks to the layout of its plan. See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_volumes
short_description: Make, mount and keep the tiers of storage that the plan lays out
description:
  - Looks at every disk again, by its stable name, right before anything is written. A disk that is mounted or held is
    never written to; one that is not empty only where O(wipe) names it. It is the whole layout that is judged first.
  - A tier is known by the UUID of its file system, which stands in C(/var/lib/provision/storage/volumes.json) before
    the file system is made. What is there is mounted, never made again.
options:
  layout:
    description: The volumes, as in the setting storage_layout.
    type: list
    elements: dict
    required: true
  wipe:
    description: Stable names of disks whose contents may be destroyed.
    type: list
    elements: str
    default: []
  directories:
    description: Modes of directories to make on mounted volumes, by path. Existing ones are left as they are.
    type: dict
    default: {}
  group:
    description: Group of the directories that are made.
    type: str
    default: root
  quotas:
    description: Limits in GB (10^9 bytes) by directory, on volumes that are mounted with C(prjquota).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Make and mount the tiers
  storage_volumes:
    layout:
      - name: fast
        disks: [nvme-Samsung_SSD_990_PRO_2TB_S7KH]
        level: single
        filesystem: xfs
        mountpoint: /srv/fast
        options: [noatime, nofail]
        size_gb: 2000
        holds: [/srv/fast/scratch]
"""

RETURN = r"""
done:
  description: What was (or would be) done, one sentence each.
  type: list
  returned: always
reboot:
  description: Whether options come into force only at the next boot, because files are open.
  type: bool
  returned: always
"""

import grp
import os
import re
import uuid

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_io import atomic_write
from ansible.module_utils.storage_disks import (
    BY_ID,
    Trouble,
    claim,
    degraded,
    device_of,
    look,
    nodes_below,
    objection,
    remains,
)
from ansible.module_utils.storage_make import joined, make_filesystem, start_over
from ansible.module_utils.storage_quotas import limit, limit_of
from ansible.module_utils.storage_tables import (
    FSTAB,
    MOUNTINFO,
    fstab,
    mounts,
    number_of,
    read_record,
    write_record,
)


class Host:
    """The host during one run of the module: what is done, and what was said of it."""

    def __init__(self, module):
        self.module = module
        self.run = module.run_command
        self.check = module.check_mode
        self.record = read_record()
        self.done = []
        self.reboot = False

    def must(self, *argv):
        code, out, err = self.run(list(argv))
        if code != 0:
            raise Trouble("%s ended with %d and says: %s" % (" ".join(argv), code, (err or out).strip() or "nothing"))
        return out


def there(host, volume):
    """The device of a volume that an earlier run made, or None where it is still to be made.

    Raises:
        Trouble: it lies on other disks than planned, lacks one, or is another file system.
    """
    known = host.record.get(volume["name"])
    device = device_of(known["uuid"]) if known else None
    if device is None:
        return None
    planned = {os.path.realpath(BY_ID + name): name for name in volume["disks"]}
    found = nodes_below(device)
    if sorted(planned) != found:
        names = ", ".join(planned.values())
        told = "the %s tier is on %s and not on %s" % (volume["name"], " and ".join(found), names)
        raise Trouble("%s: plan again, or look at lsblk" % told)
    if degraded(device):
        raise Trouble(
            "%s is a degraded mirror on %s: see /proc/mdstat, and add the lost half back with mdadm --add"
            % (os.path.basename(device), ", ".join(planned.values()))
        )
    kind = host.must("blkid", "--probe", "--match-tag", "TYPE", "--output", "value", device).strip()
    if kind != volume["filesystem"]:
        told = "the %s tier on %s is %s and not %s" % (
            volume["name"],
            ", ".join(planned.values()),
            kind,
            volume["filesystem"],
        )
        raise Trouble("%s: set storage_%s_filesystem to %s" % (told, volume["name"], kind))
    return device


def judged(host, volume, wipe):
    """The disks of a volume that is to be made, each fit to be written to."""
    disks = [look(name, host.run) for name in volume["disks"]]
    disks = [disk if disk.on_it else disk._replace(on_it=remains(disk)) for disk in disks]
    given_up = {os.path.realpath(BY_ID + name.rpartition("/")[2]) for name in wipe}
    wrong = [why for disk in disks for why in [objection(disk, disk.node in given_up)] if why]
    if wrong:
        raise Trouble("; ".join(wrong))
    sizes = [disk.size for disk in disks]
    size = min(sizes) if volume["level"] == "mirror" else sum(sizes)
    if size // 10**9 != volume["size_gb"]:
        told = "%s has %d GB" % (" with ".join(volume["disks"]), size // 10**9)
        raise Trouble("%s, and %d GB were planned: it is another disk, plan again" % (told, volume["size_gb"]))
    return disks


def make(host, volume, disks):
    """Wipe what may be wiped, join the disks, make the file system. Its UUID is on record before the first write."""
    names = ", ".join(volume["disks"])
    host.done.append("%s on %s: %s, %s" % (volume["name"], names, volume["level"], volume["filesystem"]))
    if host.check:
        return None
    for disk in disks:
        claim(disk)
    entry = {"uuid": str(uuid.uuid4()), "level": volume["level"], "disks": volume["disks"]}
    host.record[volume["name"]] = entry
    write_record(host.record)
    for disk in disks:
        start_over(host, disk)
    left = [disk for disk in (look(disk.by_id, host.run) for disk in disks) if disk.on_it]
    if left:
        raise Trouble("%s did not become empty: on it is %s" % (left[0].by_id, ", ".join(left[0].on_it)))
    make_filesystem(host, joined(host, volume, disks), volume, entry["uuid"])
    device = device_of(entry["uuid"])
    if device is None:
        raise Trouble("the new file system on %s does not show: look at lsblk --fs" % names)
    return device


def bring_fstab(host, volumes):
    """Have the volumes mounted at boot."""
    with open(FSTAB) as stream:
        before = stream.read()
    uuids = {volume["name"]: host.record.get(volume["name"], {}).get("uuid", "new") for volume in volumes}
    after = fstab(before, volumes, uuids)
    if after == before:
        return
    host.done.append("the mounts in %s" % FSTAB)
    if not host.check:
        staged = FSTAB + ".provision"
        atomic_write(staged, after)
        try:
            # It also complains of what is not there now; a line that cannot be read is what must not be.
            _, told, _ = host.run(["findmnt", "--verify", "--tab-file", staged])
            if re.search(r"^[1-9]\d* parse error", told, re.MULTILINE):
                raise Trouble("%s was not changed, it would not be read: %s" % (FSTAB, " ".join(told.split())))
            os.replace(staged, FSTAB)
        finally:
            if os.path.exists(staged):
                os.unlink(staged)
        host.must("systemctl", "daemon-reload")


def occupied(place):
    return os.path.isdir(place) and bool(os.listdir(place))


def bring_mount(host, volume, device, mounted):
    """Mount a volume at its place, with its options."""
    place = volume["mountpoint"]
    at_place = mounted.get(place)
    if at_place and (device is None or at_place.number != number_of(device)):
        raise Trouble("something else is mounted at %s: unmount it, or choose another place" % place)
    if not at_place:
        if occupied(place):
            raise Trouble("%s is not empty, and a mount would hide its files: move them away" % place)
        host.done.append("%s at %s" % (volume["name"], place))
        if not host.check:
            leave_other_places(host, device, mounted)
            os.makedirs(place, exist_ok=True)
            host.must("mount", place)
        return
    bring_options(host, volume, at_place)


def leave_other_places(host, device, mounted):
    """A volume whose mount point moved in the plan is still mounted at the old one."""
    for mount in mounted.values():
        if mount.number == number_of(device):
            host.must("umount", mount.place)


def bring_options(host, volume, mount):
    """xfs takes up quotas only when it is mounted anew, which open files prevent until the next boot."""
    place = volume["mountpoint"]
    quota = "prjquota" in volume["options"]
    if quota != bool({"prjquota", "pquota"} & mount.options) and volume["filesystem"] == "xfs":
        host.done.append("%s mounted anew, %s quotas" % (place, "with" if quota else "without"))
        if not host.check:
            code, _, _ = host.run(["umount", place])
            if code != 0:
                host.reboot = True
                return
            host.must("mount", place)
    elif "noatime" in volume["options"] and "noatime" not in mount.options:
        host.done.append("the options of %s" % place)
        if not host.check:
            host.must("mount", "-o", "remount", place)


def bring_directories(host, modes, group):
    for path, mode in sorted(modes.items()):
        if not os.path.isdir(path):
            host.done.append("the directory %s" % path)
            if not host.check:
                os.mkdir(path)
                os.chown(path, 0, grp.getgrnam(group).gr_gid)
                os.chmod(path, int(mode, 8))


def bring_quotas(host, quotas, volumes, devices):
    for path, gigabytes in sorted(quotas.items()):
        volume = next(each for each in volumes if path.startswith(each["mountpoint"] + "/"))
        made = devices[volume["name"]] is not None and os.path.ismount(volume["mountpoint"]) and os.path.isdir(path)
        if made and not host.reboot and limit_of(host, volume["mountpoint"], path) == gigabytes:
            continue
        host.done.append("%s limited to %d GB" % (path, gigabytes))
        if not host.check and not host.reboot:
            os.makedirs(path, exist_ok=True)
            limit(host, volume["mountpoint"], path, gigabytes)


def bring(host, layout, params):
    """Everything is judged before anything is written."""
    if params["directories"] and params["group"] not in {each.gr_name for each in grp.getgrall()}:
        raise Trouble("storage_group is %s, and this host has no such group: create it first" % params["group"])
    devices = {volume["name"]: there(host, volume) for volume in layout}
    new = {each["name"]: judged(host, each, params["wipe"]) for each in layout if devices[each["name"]] is None}
    with open(MOUNTINFO) as stream:
        mounted = mounts(stream.read())
    for volume in layout:
        if volume["name"] in new and (volume["mountpoint"] in mounted or occupied(volume["mountpoint"])):
            raise Trouble("%s is in use: move what is there away, a mount would hide it" % volume["mountpoint"])
    for volume in layout:
        if volume["name"] in new:
            devices[volume["name"]] = make(host, volume, new[volume["name"]])
    bring_fstab(host, layout)
    for volume in layout:
        bring_mount(host, volume, devices[volume["name"]], mounted)
    bring_directories(host, params["directories"], params["group"])
    bring_quotas(host, params["quotas"], layout, devices)


def main():
    module = AnsibleModule(
        argument_spec={
            "layout": {"type": "list", "elements": "dict", "required": True},
            "wipe": {"type": "list", "elements": "str", "default": []},
            "directories": {"type": "dict", "default": {}},
            "group": {"type": "str", "default": "root"},
            "quotas": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        host = Host(module)
        bring(host, module.params["layout"], module.params)
    except Trouble as trouble:
        module.fail_json(msg=str(trouble))
    module.exit_json(changed=bool(host.done), done=host.done, reboot=host.reboot)


if __name__ == "__main__":
    main()
