"""What is built into a machine: network cards, disks, sensors, fans and coolers."""

from __future__ import annotations

import json
import re

from ansible.module_utils.provision_machine import link, number, read

# What the role storage made: a file system's UUID, level and disks by the name of the tier.
VOLUMES = "var/lib/provision/storage/volumes.json"
NOT_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "zd")
# Liquid coolers with a pump, as liquidctl 1.16 knows them: vendor, then products.
COOLERS = {
    "0b05": ("1887", "1988", "1aa2", "1ada", "1ade", "1bcb"),
    "0c70": ("f00e",),
    "0db0": ("b130",),
    "1b1c": (
        *("0c02", "0c03", "0c04", "0c07", "0c08", "0c09", "0c0a", "0c12", "0c13", "0c15", "0c17", "0c18"),
        *("0c19", "0c1c", "0c20", "0c21", "0c22", "0c29", "0c32", "0c35", "0c36", "0c37", "0c40", "0c41"),
    ),
    "1e71": ("170e", "1715", "2007", "2014", "2015", "3008", "300c", "300e", "3012", "3014"),
    "2433": ("b200",),
}


def nics(box):
    """Network cards. Bridges, tunnels and a container's veth have no device behind them and are none."""
    found = []
    for name in sorted(box.names("sys/class/net")):
        card = "sys/class/net/" + name + "/"
        if not box.exists(card + "device"):
            continue
        speed = number(read(box, card + "speed"))
        wifi = box.exists(card + "wireless") or box.exists(card + "phy80211")
        found.append(
            {
                "name": name,
                "kind": "wifi" if wifi else "ethernet",
                "driver": link(box, card + "device/driver"),
                "speed_mbps": speed if speed and speed > 0 else None,
                "up": read(box, card + "operstate") == "up",
            }
        )
    return found


def transport(box, name):
    path = box.target("sys/block/" + name)
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("vd"):
        return "virtio"
    for word, kind in (("/usb", "usb"), ("/ata", "sata"), ("/end_device-", "sas"), ("/virtio", "virtio")):
        if word in path:
            return kind
    return "unknown"


def block_tree(box):
    """What lsblk tells of each whole disk, by name; None where it cannot be asked."""
    told = box.run("lsblk", "--json", "--bytes", "--output", "NAME,TYPE,FSTYPE,PTTYPE,MOUNTPOINT,UUID")
    try:
        return {entry["name"]: entry for entry in json.loads(told)["blockdevices"]}
    except (TypeError, ValueError, KeyError):
        return None


def contents(entry):
    """Everything found on a disk or below it, as phrases; an empty list means that nothing was found."""
    table = entry["pttype"] + " partition table" if entry.get("pttype") else None
    what = entry.get("fstype") or (table if entry.get("type") == "disk" else entry.get("type"))
    if entry.get("mountpoint"):
        what = (what or "data") + " on " + entry["mountpoint"]
    told = [entry["name"] + ": " + what] if what else []
    return told + [phrase for child in entry.get("children", []) for phrase in contents(child)]


def uuids(entry):
    """The UUIDs of everything on a disk or below it."""
    below = [uuid for child in entry.get("children", []) for uuid in uuids(child)]
    return [entry["uuid"], *below] if entry.get("uuid") else below


def volumes(box):
    """What the role storage made here, each with the disks that carry it now. A disk is known by what is on it."""
    try:
        record = json.loads(read(box, VOLUMES, "{}"))
        tree = (block_tree(box) or {}).values()
        return [
            {
                "name": name,
                "level": volume["level"],
                "disks": volume["disks"],
                "carried_by": sorted(entry["name"] for entry in tree if volume["uuid"] in uuids(entry)),
            }
            for name, volume in sorted(record.items())
        ]
    except (TypeError, ValueError, KeyError, AttributeError):
        return []  # then its disks are merely not empty, and nothing on them is touched


def disks(box):
    found, links, tree = [], {}, block_tree(box)
    for name in sorted(box.names("dev/disk/by-id")):
        links.setdefault(link(box, "dev/disk/by-id/" + name), []).append(name)
    for name in sorted(box.names("sys/block")):
        base = "sys/block/" + name + "/"
        sectors = number(read(box, base + "size")) or 0
        if name.startswith(NOT_DISKS) or not sectors or not box.exists(base + "device"):
            continue
        entry = (tree or {}).get(name)
        # A disk that could not be looked at must never pass for an empty one. blkid sees what root alone may read.
        examined = entry is not None and box.readable("dev/" + name)
        found.append(
            {
                "name": name,
                "by_id": links.get(name, []),
                "size_bytes": sectors * 512,
                "rotational": read(box, base + "queue/rotational") == "1",
                "transport": transport(box, name),
                "contents": contents(entry) if examined else [name + ": not examined"],
            }
        )
    return found


def place(target):
    """Where a chip's device is below /sys/devices, with `*` for what another boot numbers otherwise."""
    found = re.match(r"/?sys/devices/(.+)/hwmon/hwmon\d+$", target)
    below = re.sub(r"i2c-\d+/\d+-", "i2c-*/*-", found.group(1)) if found else ""
    return re.sub(r"(/\w{4}:\w{4}:\w{4})\.\w{4}$", r"\1.*", below)  # a HID device's last number counts plugging in


def chips(box):
    found = []
    for name in sorted(box.names("sys/class/hwmon")):
        base = "sys/class/hwmon/" + name
        files = box.names(base)
        pwms = sorted((file for file in files if re.match(r"pwm\d+$", file)), key=lambda file: int(file[3:]))
        found.append(
            {
                "name": read(box, base + "/name", name),
                "pwms": len(pwms),
                "fans": sum(bool(re.match(r"fan\d+_input$", file)) for file in files),
                "temperatures": sum(bool(re.match(r"temp\d+_input$", file)) for file in files),
                "place": place(box.target(base)),
                "module": link(box, base + "/device/driver/module") or "",
                "outputs": pwms,
            }
        )
    return found


def coolers(box):
    base = "sys/bus/usb/devices/"
    ids = [
        (read(box, base + name + "/idVendor"), read(box, base + name + "/idProduct"))
        for name in sorted(box.names(base))
    ]
    return [vendor + ":" + product for vendor, product in ids if product in COOLERS.get(vendor, ())]


def cooling(box, contained):
    nodes = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")
    return {
        "chips": [] if contained else chips(box),
        "aio": [] if contained else coolers(box),
        "bmc": next(("/" + node for node in nodes if box.exists(node)), None),
        "board": read(box, "sys/class/dmi/id/board_name"),
    }
