"""A stand-in for NVIDIA's CUDA repositories of Ubuntu 22.04 and Debian 12: drivers by DKMS, pinning, toolkits.

Flat layout, key file, Origin and Label as NVIDIA's. For Ubuntu the branch stands in the packages' names up to 580 and
no longer from 590 on; for Debian it never does. Sources: docs.nvidia.com/datacenter/tesla/driver-installation-guide,
docs.nvidia.com/cuda/cuda-installation-guide-linux.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.standins import nvidia_dkms, nvidia_toolkits
from tests.standins.apt_repository import FLAT, Package, Repository, SigningKey
from tests.standins.nvidia_parts import (
    exclusive,
    fabric_manager,
    library,
    metapackage,
    persistenced,
    smi,
)

KEY_NAME = "3bf863cc.pub"
UBUNTU_VERSIONS = ("580.159.03", "580.173.02", "595.71.05")
DEBIAN_VERSIONS = ("580.159.03", "580.173.02")
PINNED = """\
Package: src:*nvidia*:any src:cuda-drivers:any src:cuda-compat:any
Pin: version {branch}.*
Pin-Priority: 1000
"""
KEYRING_PREFERENCES = "Package: *\nPin: release l=NVIDIA CUDA\nPin-Priority: 600\n"


def repository(root: Path, key: SigningKey) -> Repository:
    """An empty flat repository, such as at .../cuda/repos/debian12/x86_64."""
    return Repository(root, key, FLAT, origin="NVIDIA", label="NVIDIA CUDA", key_name=KEY_NAME)


@dataclass(frozen=True)
class Driver:
    """One driver version; `fault` (`build`, `load`: see nvidia_dkms) makes it one without a usable kernel module."""

    upstream: str
    distribution: str  # ubuntu | debian
    fault: str = ""

    @property
    def branch(self) -> str:
        return self.upstream.split(".")[0]

    @property
    def version(self) -> str:
        return f"{self.upstream}-1" + ("ubuntu1" if self.distribution == "ubuntu" else "")

    @property
    def suffix(self) -> str:
        return f"-{self.branch}" if self.distribution == "ubuntu" and int(self.branch) < 590 else ""

    @property
    def source(self) -> dict[str, str]:
        return {"Source": f"nvidia-graphics-drivers{self.suffix}"}

    def same(self, *names: str) -> tuple[str, ...]:
        return tuple(f"{name} (= {self.version})" for name in names)

    def packages(self) -> Iterator[Package]:
        yield from self._ubuntu() if self.distribution == "ubuntu" else self._debian()
        yield from self._metapackages()
        pin = {"Source": "nvidia-driver-pinning", "Provides": "nvidia-driver-pinning"}
        yield Package(
            f"nvidia-driver-pinning-{self.branch}",
            f"{self.branch}-1",
            fields={**pin, "Conflicts": "nvidia-driver-pinning"},
            files={"/etc/apt/preferences.d/nvidia-driver-pinning": PINNED.format(branch=self.branch)},
            conffiles=("/etc/apt/preferences.d/nvidia-driver-pinning",),
            architecture="all",
        )
        manager = f"nvidia-fabricmanager{self.suffix}"
        fields = {"Source": "fabricmanager"} | (exclusive("nvidia-fabricmanager") if self.suffix else {})
        yield Package(manager, self.version, fields=fields, files=fabric_manager(self.upstream))

    def _metapackages(self) -> Iterator[Package]:
        """`cuda-drivers` and `nvidia-open` follow the newest branch, those with a number stay in theirs."""
        ubuntu = self.distribution == "ubuntu"
        proprietary = self._name("nvidia-driver") if ubuntu else "nvidia-driver"
        flavours = {"cuda-drivers": (proprietary, *(() if ubuntu else ("nvidia-kernel-dkms",)))}
        flavours["nvidia-open"] = (f"{proprietary}-open",) if ubuntu else ("nvidia-driver", "nvidia-kernel-open-dkms")
        for name, needs in flavours.items():
            source = {"Source": "cuda-drivers"}
            yield metapackage(f"{name}-{self.branch}", self.version, *self._least(*needs), **source)
            yield metapackage(name, self.version, *self._least(f"{name}-{self.branch}"), **source)

    def _least(self, *names: str) -> tuple[str, ...]:
        return tuple(f"{name} (>= {self.upstream})" for name in names)

    def _name(self, name: str) -> str:
        return name + self.suffix

    def _module(self, name: str, flavour: str, depends: tuple[str, ...], fields: dict[str, str]) -> Package:
        return Package(
            name,
            self.version,
            depends=", ".join((*depends, "dkms")),
            fields={**self.source, **fields},
            files=nvidia_dkms.files(self.upstream, flavour, self.fault),
            scripts=nvidia_dkms.scripts(self.upstream),
        )

    def _ubuntu(self) -> Iterator[Package]:
        """Packaged as in Ubuntu's archive, with DKMS instead of prebuilt modules."""
        names = {"cfg1": "libnvidia-cfg", "compute": "libcuda", "decode": "libnvcuvid", "encode": "libnvidia-encode"}
        for name, file in names.items():
            fields = exclusive(f"libnvidia-{name}") if self.suffix else {}
            files = library(file, *(("libnvidia-ml",) if name == "compute" else ()), version=self.upstream)
            unbound = self._name(f"libnvidia-{name}")
            yield Package(unbound, self.version, depends="libc6", fields={**self.source, **fields}, files=files)
        compute = self.same(self._name("libnvidia-compute"))
        common = self._name("nvidia-kernel-common")
        contents = {"utils": smi(self.upstream), "compute-utils": persistenced(self.upstream), "kernel-common": {}}
        for name, files in contents.items():
            needs = ", ".join(() if name == "kernel-common" else compute)
            fields = {**self.source, **(exclusive(f"nvidia-{name}") if self.suffix else {})}
            yield Package(self._name(f"nvidia-{name}"), self.version, needs, fields, files)
        for flavour in ("", "-open"):
            dkms = self._name("nvidia-dkms") + flavour
            yield self._module(dkms, flavour.strip("-"), self.same(common), exclusive("nvidia-dkms-kernel"))
            parts = [self._name(f"libnvidia-{name}") for name in names]
            parts += [self._name(f"nvidia-{name}") for name in ("utils", "compute-utils")]
            yield metapackage(
                self._name("nvidia-driver") + flavour, self.version, *self.same(*parts, dkms), **self.source
            )

    def _debian(self) -> Iterator[Package]:
        """Compute and desktop parts apart, no branch in any name."""
        for name, files in {
            "libcuda1": ("libcuda",),
            "libnvidia-ml1": ("libnvidia-ml",),
            "libnvidia-cfg1": ("libnvidia-cfg",),
            "libnvidia-ptxjitcompiler1": ("libnvidia-ptxjitcompiler",),
        }.items():
            yield Package(name, self.version, "libc6", self.source, library(*files, version=self.upstream))
        support = self.same("nvidia-kernel-support", "firmware-nvidia-gsp")
        yield metapackage("firmware-nvidia-gsp", self.version, **self.source)
        yield metapackage("nvidia-kernel-support", self.version, "nvidia-modprobe", **self.source)
        yield metapackage("nvidia-modprobe", self.version, "libc6", **self.source)
        yield Package(
            "nvidia-persistenced",
            self.version,
            ", ".join(self.same("libnvidia-cfg1")),
            self.source,
            persistenced(self.upstream),
        )
        libraries = self.same("libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1", "nvidia-persistenced")
        yield Package(
            "nvidia-driver-cuda",
            self.version,
            depends=", ".join((*libraries, "nvidia-kernel-dkms | nvidia-kernel-open-dkms")),
            fields={**self.source, "Conflicts": "nvidia-smi", "Provides": "nvidia-smi", "Replaces": "nvidia-smi"},
            files=smi(self.upstream),
        )
        yield metapackage("nvidia-driver", self.version, *self.same("nvidia-driver-cuda"), **self.source)
        for name, flavour in (("nvidia-kernel-dkms", "proprietary"), ("nvidia-kernel-open-dkms", "open")):
            provides = exclusive("nvidia-kernel-dkms-any", f"nvidia-kernel-{self.upstream}")
            yield self._module(name, flavour, support, provides)


def fill_ubuntu(tree: Repository) -> None:
    """Every driver version and toolkit for Ubuntu 22.04."""
    for version in UBUNTU_VERSIONS:
        tree.add_all(Driver(version, "ubuntu").packages())
    _fill_common(tree, "ubuntu2204")


def fill_debian(tree: Repository) -> None:
    """The first driver version and every toolkit for Debian 12: a test adds further ones, faulty ones among them."""
    tree.add_all(Driver(DEBIAN_VERSIONS[0], "debian").packages())
    _fill_common(tree, "debian12")


def _fill_common(tree: Repository, distribution: str) -> None:
    tree.add_all(nvidia_toolkits.packages())
    tree.add(
        Package(
            "cuda-keyring",
            "1.1-1",
            files={
                "/usr/share/keyrings/cuda-archive-keyring.gpg": tree.key.public,
                "/etc/apt/preferences.d/cuda-repository-pin-600": KEYRING_PREFERENCES,
                f"/etc/apt/sources.list.d/cuda-{distribution}-x86_64.list": (
                    "deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] "
                    f"https://developer.download.nvidia.com/compute/cuda/repos/{distribution}/x86_64/ /\n"
                ),
            },
            architecture="all",
        )
    )
