"""The machine itself: how it is read, its system, processors, memory, firmware and PCI bus."""

from __future__ import annotations

import os
import re
import subprocess

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")
PCI = "sys/bus/pci/devices/"
DISPLAY_CLASSES = ("0300", "0302", "0380")  # VGA, 3D and other display controllers
OTHER_BRIDGE = "0680"  # NVSwitches are of this class, and so were the network cards of NVIDIA's nForce boards
NVIDIA, LAST_NFORCE = "10de", 0x0FFF  # the device ids of nForce parts end below the first NVSwitch's


class Box:
    """The machine this runs on. Paths have no leading slash, so that tests can stand a table of files in its place."""

    def read_bytes(self, path):
        try:
            with open("/" + path, "rb") as stream:
                return stream.read()
        except OSError:
            return b""

    def names(self, path):
        try:
            return os.listdir("/" + path)
        except OSError:
            return []

    def exists(self, path):
        return os.path.lexists("/" + path)

    def readable(self, path):
        return os.access("/" + path, os.R_OK)

    def target(self, path):
        """Where a symbolic link leads in the end."""
        return os.path.realpath("/" + path)

    def run(self, *argv):
        """A command's output, or None where it is missing or says nothing."""
        try:
            done = subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=20,
                env=dict(os.environ, LC_ALL="C"),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        # Not its exit status: systemd-detect-virt says `none` and fails.
        return done.stdout.decode("utf-8", "replace").strip() or None


def read(box, path, default=""):
    """A file's text without surrounding space; `default` where it is missing, unreadable or empty."""
    return box.read_bytes(path).decode("utf-8", "replace").strip() or default


def link(box, path):
    """The name a symbolic link leads to, or None where there is no such link."""
    return os.path.basename(box.target(path)) if box.exists(path) else None


def number(text):
    """A whole number, or None where the kernel says nothing sensible."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def operating_system(box, python):
    release = dict(re.findall(r'^(\w+)=["\']?(.*?)["\']?$', read(box, "etc/os-release"), re.MULTILINE))
    return {
        "id": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "architecture": box.run("uname", "-m") or "",
        "kernel": read(box, "proc/sys/kernel/osrelease"),
        "python": python,
    }


def cpu(box):
    sockets, cores, threads, model = set(), set(), 0, ""
    for block in read(box, "proc/cpuinfo").split("\n\n"):
        entry = dict(re.findall(r"^([^\t:]+)\s*: ?(.*)$", block, re.MULTILINE))
        if "processor" not in entry:
            continue
        threads += 1
        model = model or entry.get("model name", entry.get("Processor", ""))
        socket = entry.get("physical id", "0")
        sockets.add(socket)
        cores.add((socket, entry.get("core id", entry["processor"])))
    nodes = [name for name in box.names("sys/devices/system/node") if re.match(r"node\d+$", name)]
    return {
        "model": " ".join(model.split()),
        "sockets": len(sockets),
        "cores": len(cores),
        "threads": threads,
        "numa_nodes": len(nodes) or 1,
    }


def memory(box):
    """Bytes of RAM; in a container with a limit, the limit."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", read(box, "proc/meminfo"), re.MULTILINE)
    total = int(match.group(1)) * 1024 if match else 0
    limits = [read(box, name) for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")]
    return min([total] + [int(limit) for limit in limits if limit.isdigit()])


def virtualization(box):
    """metal, wsl, container:<kind> or vm:<kind>."""
    if "microsoft" in read(box, "proc/sys/kernel/osrelease").lower():
        return "wsl"
    kind = box.run("systemd-detect-virt", "--container")
    if kind is None:
        known = (("run/.containerenv", "podman"), (".dockerenv", "docker"))
        kind = read(box, "run/systemd/container") or next((name for path, name in known if box.exists(path)), "none")
    if kind != "none":
        return "container:" + kind
    kind = box.run("systemd-detect-virt", "--vm")
    if kind is None:
        kind = (
            "unknown" if re.search(r"^flags\s*:.*\bhypervisor\b", read(box, "proc/cpuinfo"), re.MULTILINE) else "none"
        )
    return "metal" if kind == "none" else "vm:" + kind


def pci_names(box):
    """Names by PCI id (`10de:2206`), from the machine's own list."""
    names = {}
    text = next((text for text in (read(box, path) for path in PCI_IDS) if text), "")
    vendor, vendor_name = "", ""
    for line in text.splitlines():
        if line.startswith("C "):
            break  # device classes follow
        match = re.match(r"(\t?)([0-9a-f]{4})  (.*)", line)
        if match and match.group(1):
            names[vendor + ":" + match.group(2)] = vendor_name + " " + match.group(3)
        elif match:
            vendor, vendor_name = match.group(2), match.group(3)
    return names


def pci_devices(box):
    """Address, class, vendor and device id of everything on the bus, the last three as four hexadecimal digits."""
    for address in sorted(box.names(PCI)):
        words = [read(box, PCI + address + "/" + name)[2:6] for name in ("class", "vendor", "device")]
        if all(words):
            yield (address, *words)


def is_vgpu(config):
    """Whether a PCI configuration space has a vendor-specific capability marked VF. The mark is taken from
    NVIDIA's own gpu-feature-discovery (internal/vgpu in NVIDIA/k8s-device-plugin)."""
    seen = set()
    at = config[0x34] if len(config) >= 256 and config[0x06] & 0x10 else 0  # the list is there if the status says so
    while at and at not in seen and at + 5 <= len(config):
        if config[at] == 0x09 and config[at + 3 : at + 5] == b"VF":
            return True
        seen.add(at)
        at = config[at + 1]
    return False


def handed_in(box, address):
    """Whether a container has this GPU's device node; any one counts where NVIDIA's driver does not tell which."""
    told = read(box, "proc/driver/nvidia/gpus/" + address + "/information")
    minor = re.search(r"^Device Minor:\s*(\d+)", told, re.MULTILINE)
    if minor:
        return box.exists("dev/nvidia" + minor.group(1))
    return any(re.match(r"(nvidia|renderD)\d+$", name) for name in [*box.names("dev"), *box.names("dev/dri")])


def gpus(box, contained):
    displays = [
        (address, vendor, vendor + ":" + device)
        for address, kind, vendor, device in pci_devices(box)
        if kind in DISPLAY_CLASSES and not (contained and not handed_in(box, address))
    ]
    names = pci_names(box) if displays else {}
    return [
        {
            "pci_id": pci_id,
            "address": address,
            "name": names.get(pci_id, pci_id),
            "driver": link(box, PCI + address + "/driver"),
            "virtual": vendor == NVIDIA and is_vgpu(box.read_bytes(PCI + address + "/config")),
        }
        for address, vendor, pci_id in displays
    ]


def nvswitches(box):
    """PCI addresses of the switches between the GPUs of an HGX or DGX board."""
    return [
        address
        for address, kind, vendor, device in pci_devices(box)
        if (kind, vendor) == (OTHER_BRIDGE, NVIDIA) and int(device, 16) > LAST_NFORCE
    ]


def firmware(box, kind, contained):
    state = box.read_bytes(SECURE_BOOT)  # four bytes of attributes, then the value
    return {
        "vendor": "" if contained else read(box, "sys/class/dmi/id/sys_vendor"),
        "product": "" if contained else read(box, "sys/class/dmi/id/product_name"),
        "secure_boot": state[4] == 1 if len(state) == 5 and not contained else None,
        "virtualization": kind,
    }
