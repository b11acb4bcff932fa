"""Parts of NVIDIA's driver and of the kernel by their package names. Pure: text in, text out."""

from __future__ import annotations

import hashlib
import re

from ansible.module_utils.provision_names import in_family, upstream

# The parts of the family that carry the driver's own version wherever they come from.
STRICT = re.compile(
    r"(libnvidia-(compute|cfg1|ml1|decode|encode|encode1|gl|ptxjitcompiler1|nvvm\d+)(-|$)|libcuda1$|libcudadebugger1$|libnvcuvid1$|nvidia-smi$"
    r"|nvidia-utils|nvidia-compute-utils|nvidia-dkms|nvidia-kernel|nvidia-open-kernel|nvidia-headless|nvidia-fabricmanager"
    r"|nvidia-driver-(cuda|bin|libs)$)"
)
RELEASE = re.compile(r"linux-image-(?:unsigned-)?(\d.*)$")
META = re.compile(r"linux-(image|headers|modules-extra)-([a-z].*)$")
WHOLE = re.compile(
    r"linux-(generic|virtual|lowlatency|aws|azure|gcp|oracle|kvm|nvidia|oem|cloud|amd64|arm64)(-[a-z0-9.]+)*$"
)
ABI = re.compile(r"(\d+\.\d+\.\d+(?:-\d+)?)(?:-(.+))?$")


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


def upgrade_blacklist(packages):
    """unattended-upgrades' own list; its entries are regular expressions that match from the start of a name."""
    families = ["nvidia-", "libnvidia-", "linux-modules-nvidia-", "linux-objects-nvidia-", "linux-signatures-nvidia-"]
    others = [name.partition(":")[0] for name in packages if not name.startswith(tuple(families))]
    entries = families + sorted({re.sub(r"[.+]", "[\\g<0>]", name) + "$" for name in others})
    lines = "".join('    "%s";\n' % entry for entry in entries)
    return "// Written by provision (role nvidia_driver).\nUnattended-Upgrade::Package-Blacklist {\n%s};\n" % lines
