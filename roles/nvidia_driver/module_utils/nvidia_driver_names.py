"""Package names and versions of NVIDIA's driver. Pure: text in, text out."""

from __future__ import annotations

import hashlib
import re

# What moves with the driver, whoever packaged it.
FAMILY = re.compile(
    r"(nvidia-|libnvidia-|libcuda1$|libnvcuvid1$|libnvoptix1$|libnvsdm|libxnvctrl|libgl1-nvidia|lib(egl|gles|glx)-nvidia"
    r"|cuda-drivers|xserver-xorg-video-nvidia|firmware-nvidia-|glx-alternative-nvidia|dkms$"
    r"|linux-(modules|objects|signatures)-nvidia-)"
)
# Bears the name and moves by itself: containers, toolkits, tools.
STRANGERS = re.compile(
    r"(lib)?nvidia-(container|docker|cuda|cudnn|cg-|detect|fs-|gds|openjdk|primus|profiler|vaapi|visual-profiler"
    r"|libopencl|opencl-dev|ml-dev|egl-wayland-dev)"
)
# The parts of the family that carry the driver's own version wherever they come from.
STRICT = re.compile(
    r"(libnvidia-(compute|cfg1|ml1|decode|encode|encode1|gl|ptxjitcompiler1|nvvm\d+)(-|$)|libcuda1$|libnvcuvid1$|nvidia-smi$"
    r"|nvidia-utils|nvidia-compute-utils|nvidia-dkms|nvidia-kernel|nvidia-open-kernel|nvidia-headless|nvidia-fabricmanager"
    r"|nvidia-driver-(cuda|bin|libs)$)"
)
RELEASE = re.compile(r"linux-image-(?:unsigned-)?(\d.*)$")
META = re.compile(r"linux-(image|headers|modules-extra)-([a-z].*)$")
WHOLE = re.compile(
    r"linux-(generic|virtual|lowlatency|aws|azure|gcp|oracle|kvm|nvidia|oem|cloud|amd64|arm64)(-[a-z0-9.]+)*$"
)
ABI = re.compile(r"(\d+\.\d+\.\d+(?:-\d+)?)(?:-(.+))?$")


def upstream(version):
    """NVIDIA's part of a package version: `1:580.95.05-0ubuntu1` is `580.95.05`."""
    version = version.partition(":")[2] if ":" in version else version
    return version.rpartition("-")[0] or version


def in_family(name):
    """Whether a package (`name` or `name:architecture`) belongs to the driver."""
    name = name.partition(":")[0]
    return bool(FAMILY.match(name)) and not STRANGERS.match(name)


def mismatch(name, found, version):
    """Whether a package that carries the driver's version carries another one."""
    return bool(STRICT.match(name) and re.match(r"\d{3}[.]\d", upstream(found)) and upstream(found) != version)


def release_of(name):
    """The kernel release whose image this package is, or None."""
    found = RELEASE.match(name)
    return found.group(1) if found and not found.group(1).endswith(("-dbg", "-dbgsym")) else None


def flavour(release):
    """The kernel's flavour: `5.15.0-91-generic` is `generic`."""
    found = ABI.match(release)
    return (found.group(2) if found else None) or ""


def is_meta(name):
    """Whether a package makes a kernel's newest release come along."""
    return bool(META.match(name) or WHOLE.match(name)) and not in_family(name)


def kernel_part(name, releases):
    """Whether a package is part of these kernels, or what makes their successors come along."""
    if not name.startswith("linux-") or in_family(name):
        return False
    abis = [ABI.match(release).group(1) for release in releases if ABI.match(release)]
    if any(re.search(r"-%s(-|$)" % re.escape(abi), name) for abi in abis):
        return True
    return is_meta(name) or name.startswith(("linux-kbuild-", "linux-compiler-"))


def expand(words, values):
    """Fill `{branch}`, `{series}`, `{open}` and `{flavour}` into package names."""
    return [word.format(**values) for word in words]


def closure_id(version, packages):
    """A name for one exact set of packages."""
    lines = "".join("%s=%s\n" % pair for pair in sorted(packages.items()))
    return "%s-%s" % (version, hashlib.sha256(lines.encode()).hexdigest()[:10])


def preferences(packages):
    """apt's preferences: each package at its version, downgrades included, one record for all of a version."""
    by_version = {}
    for name, version in sorted(packages.items()):
        by_version.setdefault(version, []).append(name)
    records = [
        "Package: %s\nPin: version %s\nPin-Priority: 1001\n" % (" ".join(names), version)
        for version, names in sorted(by_version.items(), key=lambda item: item[1])
    ]
    return "# Written by provision (role nvidia_driver): the driver moves as a whole or not at all.\n" + "\n".join(
        records
    )


def upgrade_blacklist(packages):
    """unattended-upgrades' own list; its entries are regular expressions that match from the start of a name."""
    families = ["nvidia-", "libnvidia-", "linux-modules-nvidia-", "linux-objects-nvidia-", "linux-signatures-nvidia-"]
    others = [name.partition(":")[0] for name in packages if not name.startswith(tuple(families))]
    entries = families + sorted({re.sub(r"[.+]", "[\\g<0>]", name) + "$" for name in others})
    lines = "".join('    "%s";\n' % entry for entry in entries)
    return "// Written by provision (role nvidia_driver).\nUnattended-Upgrade::Package-Blacklist {\n%s};\n" % lines
