"""What the stand-ins of NVIDIA's packages are filled with: files that say plainly that they are stand-ins.

A kernel module of a prebuilt package is an ELF file with nothing in it but what `modinfo` reads.
"""

from __future__ import annotations

import struct

from tests.standins.apt_repository import Content, Link, Package

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
MODULE_FILES = ("nvidia", "nvidia-modeset", "nvidia-drm", "nvidia-uvm", "nvidia-peermem")

PERSISTENCED_UNIT = """\
[Unit]
Description=NVIDIA Persistence Daemon (stand-in)

[Service]
ExecStart=/usr/bin/nvidia-persistenced --verbose

[Install]
WantedBy=multi-user.target
"""
FABRIC_MANAGER_UNIT = """\
[Unit]
Description=NVIDIA fabric manager service (stand-in)

[Service]
ExecStart=/usr/bin/nv-fabricmanager

[Install]
WantedBy=multi-user.target
"""
DAEMON = """\
#!/bin/sh
echo "stand-in for {name} {version}: it watches over nothing"
exec sleep infinity
"""
# As the real program says and exits where no driver is loaded.
SMI = """\
#!/bin/sh
if [ "$1" = --version ]; then
    echo "NVIDIA-SMI version  : {version}"
    exit 0
fi
echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver: stand-in for {version}"
exit 9
"""


def smi(version: str) -> dict[str, Content]:
    return {"/usr/bin/nvidia-smi": SMI.format(version=version)}


def persistenced(version: str) -> dict[str, Content]:
    return {
        "/usr/bin/nvidia-persistenced": DAEMON.format(name="nvidia-persistenced", version=version),
        "/lib/systemd/system/nvidia-persistenced.service": PERSISTENCED_UNIT,
    }


def fabric_manager(version: str) -> dict[str, Content]:
    return {
        "/usr/bin/nv-fabricmanager": DAEMON.format(name="nv-fabricmanager", version=version),
        "/lib/systemd/system/nvidia-fabricmanager.service": FABRIC_MANAGER_UNIT,
    }


def library(*names: str, version: str) -> dict[str, Content]:
    """Libraries under the names that the real ones have: `libcuda.so.580.159.03`, and `libcuda.so.1` leading there."""
    files = {f"{LIBRARIES}/{name}.so.{version}": elf({}) for name in names}
    return {**files, **{f"{LIBRARIES}/{name}.so.1": Link(f"{name}.so.{version}") for name in names}}


def modules(folder: str, version: str) -> dict[str, Content]:
    """The five kernel modules; `modinfo` reads their version, nothing can load them."""
    info = {"version": version, "license": "stand-in", "description": "stand-in without code"}
    return {f"{folder}/{name}.ko": elf({**info, "name": name.replace("-", "_")}) for name in MODULE_FILES}


def elf(info: dict[str, str]) -> bytes:
    """A relocatable x86-64 ELF file whose only content is a section `.modinfo`."""
    text = b"".join(f"{key}={value}\0".encode() for key, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    start = 64 + len(text) + len(names)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2
    )  # fmt: skip
    sections = (
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 2, 0, 64, len(text), 0, 0, 1, 0),
        (10, 3, 0, 0, 64 + len(text), len(names), 0, 0, 1, 0),
    )
    return header + text + names + b"".join(struct.pack("<IIQQQQIIQQ", *section) for section in sections)


def exclusive(name: str, *more: str) -> dict[str, str]:
    """Fields of a package of which one branch at a time may be installed, under its name without the branch."""
    return {"Provides": ", ".join((name, *more)), "Conflicts": name, "Replaces": name}


def metapackage(name: str, version: str, *depends: str, **fields: str) -> Package:
    """A package that holds nothing but relations; words of a field's name are joined by `_` here."""
    named = {key.replace("_", "-"): value for key, value in fields.items()}
    return Package(name, version, depends=", ".join(depends), fields=named)
