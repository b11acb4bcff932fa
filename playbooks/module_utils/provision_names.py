"""Packages by name and version: which are NVIDIA's driver, what upstream calls a version, how apt keeps one. Pure.

For the target's Python 3.8.
"""

from __future__ import annotations

import re

# What moves with the driver, whoever packaged it.
FAMILY = re.compile(
    r"(nvidia-|libnvidia-|libcuda1$|libcudadebugger1$|libnvcuvid1$|libnvoptix1$|libnvsdm|libxnvctrl|libgl1-nvidia"
    r"|lib(egl|gles|glx)-nvidia|cuda-drivers|xserver-xorg-video-nvidia|firmware-nvidia-|glx-alternative-nvidia|dkms$"
    r"|linux-(modules|objects|signatures)-nvidia-)"
)
# Bears the name and moves by itself: containers, toolkits, tools.
STRANGERS = re.compile(
    r"(lib)?nvidia-(container|docker|cuda|cudnn|cg-|detect|fs-|gds|openjdk|primus|profiler|vaapi|visual-profiler"
    r"|libopencl|opencl-dev|ml-dev|egl-wayland-dev)"
)


def in_family(name):
    """Whether a package (`name` or `name:architecture`) belongs to the driver."""
    name = name.partition(":")[0]
    return bool(FAMILY.match(name)) and not STRANGERS.match(name)


def upstream(version):
    """Upstream's part of a package version: `1:580.95.05-0ubuntu1` is `580.95.05`."""
    version = version.partition(":")[2] if ":" in version else version
    return version.rpartition("-")[0] or version


def preferences(packages):
    """apt's preferences for versions by name: one record for all of a version.

    1001 brings back what somebody moved, downgrades included.
    """
    by_version = {}
    for name, version in sorted(packages.items()):
        by_version.setdefault(version, []).append(name)
    records = [
        "Package: %s\nPin: version %s\nPin-Priority: 1001\n" % (" ".join(names), version)
        for version, names in sorted(by_version.items(), key=lambda item: item[1])
    ]
    return "\n".join(records)
