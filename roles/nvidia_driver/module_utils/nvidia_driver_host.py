"""What runs on the host and what lies on its disk. Nothing here changes anything."""

from __future__ import annotations

import glob
import os
import re

SYS = "/sys"
MODULES = "/lib/modules"
LIBRARY_FOLDERS = ("/usr/lib/*-linux-gnu*", "/usr/lib", "/usr/lib64", "/usr/local/lib*")
KEY_FOLDERS = ("/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*", "/etc/apt/keyrings/*", "/usr/share/keyrings/*")
RUNFILE = "/usr/bin/nvidia-uninstall"
KERNEL_OBJECTS = ("nvidia.ko", "nvidia-current.ko", "nvidia-current-open.ko")


def read(path):
    """A file's text without the line's end, or an empty text."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def running():
    return os.uname().release


def container(module):
    """The kind of container this is, or an empty text."""
    code, out, _ = module.run_command(["systemd-detect-virt", "--container"])
    return out.strip() if code == 0 else ""


def loaded():
    """Version of the nvidia module in the kernel; empty where none is loaded."""
    return read(SYS + "/module/nvidia/version")


def rivals():
    """Kernel drivers that hold the card instead of nvidia's."""
    return [name for name in ("nouveau", "nova_core") if os.path.isdir("%s/module/%s" % (SYS, name))]


def cards():
    """PCI addresses of NVIDIA's display and 3D controllers."""
    found = []
    for folder in sorted(glob.glob(SYS + "/bus/pci/devices/*")):
        if read(folder + "/vendor") == "0x10de" and read(folder + "/class").startswith("0x03"):
            found.append(os.path.basename(folder))
    return found


def secure_boot():
    """Whether the firmware lets only signed modules in."""
    for path in glob.glob(SYS + "/firmware/efi/efivars/SecureBoot-*"):
        with open(path, "rb") as stream:
            return stream.read()[-1:] == b"\x01"
    return False


def objects(release):
    """The nvidia kernel objects that lie on disk for a kernel."""
    found = []
    for folder, _, names in os.walk(os.path.join(MODULES, release)):
        found += [os.path.join(folder, name) for name in names if re.sub(r"\.(xz|zst|gz)$", "", name) in KERNEL_OBJECTS]
    return sorted(found)


def built(module, release):
    """Version of the nvidia module on disk for a kernel; empty where there is none."""
    for path in objects(release):
        code, out, _ = module.run_command(["modinfo", "-F", "version", path])
        if code == 0 and out.strip():
            return out.strip()
    return ""


def library():
    """Version of the installed NVML, from the file that its name leads to; empty where there is none."""
    for folder in LIBRARY_FOLDERS:
        for path in sorted(glob.glob(folder + "/libnvidia-ml.so.1")):
            found = re.search(r"\.so\.(\d{3}\.[\d.]+)$", os.path.realpath(path))
            if found:
                return found.group(1)
    return ""


def unowned(module, paths):
    """Those paths that no package owns."""
    known = set()
    for path in paths:
        # A package may name the same file with or without /usr in front.
        twins = {path, path[4:] if path.startswith("/usr/") else "/usr" + path}
        if any(module.run_command(["dpkg-query", "--search", twin])[0] == 0 for twin in sorted(twins)):
            known.add(path)
    return [path for path in paths if path not in known]


def foreign_libraries(module):
    """Driver libraries that no package brought."""
    found = []
    for folder in LIBRARY_FOLDERS:
        for name in ("libnvidia-ml.so.*", "libcuda.so.*"):
            found += [path for path in glob.glob(os.path.join(folder, name)) if not os.path.islink(path)]
    return unowned(module, sorted({os.path.realpath(path) for path in found}))


def foreign_modules(module):
    """Kernel modules that neither a package nor DKMS nor Ubuntu's linux-modules-nvidia put there."""
    ours = re.compile(r"/(updates/dkms|kernel/nvidia-\d[^/]*(/bits)?)/[^/]*$")
    found = (
        [path for release in sorted(os.listdir(MODULES)) for path in objects(release)] if os.path.isdir(MODULES) else []
    )
    return unowned(module, [path for path in found if not ours.search(path)])
