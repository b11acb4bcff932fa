"""A stand-in for Ubuntu's archive: server branches of NVIDIA's driver, their prebuilt kernel modules, and the kernels.

Names and version relations are those of the jammy packages as packages.ubuntu.com shows them (nvidia-graphics-drivers-
NNN-server, linux-restricted-modules, fabric-manager-NNN, linux-meta); there is no code in them. What is left out: the
desktop branches, i386, and that Ubuntu turns an ended branch into transitional packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.standins.apt_repository import Package, Repository
from tests.standins.nvidia_parts import (
    exclusive,
    fabric_manager,
    library,
    metapackage,
    modules,
    persistenced,
    smi,
)

REVISION = "0ubuntu0.22.04.1"
# Per branch the version in the archive, and the one that appears later.
VERSIONS = {
    "535": ("535.274.02", "535.288.01"),
    "570": ("570.195.03", "570.211.01"),
    "580": ("580.159.03", "580.173.02"),
}
DEPMOD = """\
#!/bin/sh
[ ! -d /lib/modules/{release} ] || depmod {release} 2>/dev/null || :
"""
LIBRARY_FILES = {
    "cfg1": ("libnvidia-cfg",),
    "compute": ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler", "libnvidia-opencl"),
    "decode": ("libnvcuvid",),
    "encode": ("libnvidia-encode",),
    "extra": ("libnvidia-extra",),
    "fbc1": ("libnvidia-fbc",),
    "gl": ("libGLX_nvidia", "libEGL_nvidia"),
}


@dataclass(frozen=True)
class Kernel:
    """One kernel ABI; `upload` is the last part of its package version."""

    abi: str
    upload: str

    @property
    def release(self) -> str:
        return f"{self.abi}-generic"

    @property
    def version(self) -> str:
        return f"{self.abi}.{self.upload}"

    @property
    def meta_version(self) -> str:
        return f"{self.abi.replace('-', '.')}.{self.upload}"


KERNEL, NEXT_KERNEL = Kernel("5.15.0-185", "195"), Kernel("5.15.0-186", "196")


def kernel_packages(kernel: Kernel) -> Iterator[Package]:
    """Image, modules and headers of a kernel, and the metapackages that follow the newest one."""
    release, version = kernel.release, kernel.version
    yield Package(
        f"linux-image-{release}",
        version,
        depends=f"kmod, linux-modules-{release}",
        fields={"Source": "linux-signed", "Provides": "linux-image"},
        files={f"/boot/vmlinuz-{release}": "stand-in, not bootable\n", f"/boot/config-{release}": "# stand-in\n"},
    )
    order = {f"/lib/modules/{release}/modules.{name}": "" for name in ("order", "builtin")}
    yield Package(f"linux-modules-{release}", version, fields={"Source": "linux"}, files=order)
    yield metapackage(f"linux-modules-extra-{release}", version, f"linux-modules-{release}", Source="linux")
    yield metapackage(f"linux-headers-{kernel.abi}", version, Source="linux")
    yield metapackage(f"linux-headers-{release}", version, f"linux-headers-{kernel.abi}", Source="linux")
    meta = kernel.meta_version
    image = (f"linux-image-{release}", f"linux-modules-extra-{release}")
    yield metapackage("linux-image-generic", meta, *image, Source="linux-meta")
    yield metapackage("linux-headers-generic", meta, f"linux-headers-{release}", Source="linux-meta")
    both = (f"linux-image-generic (= {meta})", f"linux-headers-generic (= {meta})")
    yield metapackage("linux-generic", meta, *both, Source="linux-meta")


@dataclass(frozen=True)
class Driver:
    """One version of a server branch: `Driver("580.159.03")` is of nvidia-graphics-drivers-580-server."""

    upstream: str

    @property
    def branch(self) -> str:
        return f"{self.upstream.split('.')[0]}-server"

    @property
    def version(self) -> str:
        return f"{self.upstream}-{REVISION}"

    def same(self, *names: str) -> tuple[str, ...]:
        """Dependencies on packages of this source in this very version."""
        return tuple(f"{name} (= {self.version})" for name in names)

    def near(self, name: str) -> tuple[str, str]:
        """The pair of bounds by which kernel modules and the rest find each other, whoever built them."""
        return f"{name} (<= {self.upstream}-1)", f"{name} (>= {self.upstream})"

    def part(self, name: str) -> str:
        return f"{name}-{self.branch}"

    @property
    def source(self) -> dict[str, str]:
        return {"Source": self.part("nvidia-graphics-drivers")}

    def packages(self) -> Iterator[Package]:
        yield from self._libraries()
        yield from self._kernel_side()
        yield from self._tools()
        for flavour in ("", "-open"):
            yield from self._flavour(flavour)

    def _libraries(self) -> Iterator[Package]:
        yield Package(self.part("libnvidia-common"), self.version, fields=self.source, architecture="all")
        for name, files in LIBRARY_FILES.items():
            more = ("libcuda1", "libnvidia-ml1") if name == "compute" else ()
            needs = {"gl": ("libnvidia-common",), "decode": ("libnvidia-compute",), "encode": ("libnvidia-decode",)}
            yield Package(
                self.part(f"libnvidia-{name}"),
                self.version,
                depends=", ".join(("libc6", *self.same(*(self.part(need) for need in needs.get(name, ()))))),
                fields={**self.source, **exclusive(f"libnvidia-{name}", *more)},
                files=library(*files, version=self.upstream),
            )

    def _kernel_side(self) -> Iterator[Package]:
        firmware = f"{self.part('nvidia-firmware')}-{self.upstream}"
        folder = f"/lib/firmware/nvidia/{self.upstream}"
        yield Package(firmware, self.version, fields=self.source, files={f"{folder}/gsp_ga10x.bin": "stand-in\n"})
        common = self.part("nvidia-kernel-common")
        yield Package(
            common,
            self.version,
            depends=", ".join(("kmod", *self.same(firmware))),
            fields={**self.source, **exclusive("nvidia-kernel-common", f"{common}-{self.upstream}")},
            files={"/lib/udev/rules.d/71-nvidia.rules": "# stand-in\n"},
        )

    def _tools(self) -> Iterator[Package]:
        compute = self.same(self.part("libnvidia-compute"))
        for name, files in (("utils", smi(self.upstream)), ("compute-utils", persistenced(self.upstream))):
            fields = {**self.source, **exclusive(f"nvidia-{name}")}
            yield Package(self.part(f"nvidia-{name}"), self.version, ", ".join(("libc6", *compute)), fields, files)
        video = self.part("xserver-xorg-video-nvidia")
        yield metapackage(video, self.version, *self.same(self.part("libnvidia-gl")), **self.source)
        number = self.upstream.split(".")[0]
        yield Package(
            f"nvidia-fabricmanager-{number}",
            self.version,
            depends=f"{self.part('nvidia-kernel-common')}-{self.upstream}",
            fields={"Source": f"fabric-manager-{number}", **exclusive("nvidia-fabricmanager")},
            files=fabric_manager(self.upstream),
        )

    def _flavour(self, flavour: str) -> Iterator[Package]:
        source, dkms = self.part("nvidia-kernel-source") + flavour, self.part("nvidia-dkms") + flavour
        common = self.near(self.part("nvidia-kernel-common"))
        yield Package(source, self.version, fields={**self.source, **exclusive("nvidia-kernel-source")})
        yield metapackage(
            dkms, self.version, *self.same(source), *common, "dkms", **self.source, **exclusive("nvidia-dkms-kernel")
        )
        libraries = [self.part(f"libnvidia-{name}") for name in ("cfg1", "compute", "extra", "decode", "encode")]
        tools = [self.part("nvidia-compute-utils"), source]
        no_dkms = self.part("nvidia-headless-no-dkms") + flavour
        yield metapackage(no_dkms, self.version, *self.same(*libraries, *tools), *common, **self.source)
        headless = self.part("nvidia-headless") + flavour
        yield metapackage(headless, self.version, *self.same(no_dkms), *self.near(dkms), **self.source)
        desktop = ("libnvidia-fbc1", "libnvidia-gl", "nvidia-utils", "xserver-xorg-video-nvidia")
        everything = self.same(*libraries, *tools, *(self.part(name) for name in desktop))
        driver = self.part("nvidia-driver") + flavour
        yield metapackage(driver, self.version, *everything, *common, *self.near(dkms), **self.source)

    def modules(self, kernel: Kernel, rebuild: str = "") -> Iterator[Package]:
        """The prebuilt modules for one kernel, and the metapackage that follows the newest of both."""
        version, release = kernel.version + rebuild, kernel.release
        common = self.near(self.part("nvidia-kernel-common"))
        source = {"Source": "linux-restricted-modules"}
        indexed = dict.fromkeys(("postinst", "postrm"), DEPMOD.format(release=release))
        for flavour in ("", "-open"):
            name = f"linux-modules-nvidia-{self.branch}{flavour}"
            image = f"linux-image-{release} | linux-image-unsigned-{release}"
            objects = f"linux-objects-nvidia-{self.branch}-{release}"
            signed = (f"linux-signatures-nvidia-{release} (= {version})", f"{objects} (= {version})")
            folder = f"/lib/modules/{release}/kernel/nvidia-{self.branch.replace('-server', 'srv')}{flavour}"
            files = modules(folder, self.upstream)
            if not flavour:
                needs = f"{image}, {', '.join(common)}"
                yield Package(objects, version, needs, source, files, scripts=indexed)
            dkms = f"{self.part('nvidia-dkms')}{flavour} (= {self.upstream}-1)"
            yield Package(
                f"{name}-{release}",
                version,
                depends=", ".join((image, *common, *(() if flavour else signed))),
                fields={**source, "Provides": f"{dkms}, nvidia-prebuilt-kernel"},
                files=files if flavour else {},
                scripts=indexed if flavour else {},
            )
            yield metapackage(f"{name}-generic", version, f"{name}-{release} (= {version})", *common, **source)


def fill(repository: Repository) -> None:
    """The archive as a host first sees it: every branch in its first version, one kernel."""
    repository.add_all(kernel_packages(KERNEL))
    repository.add(_signatures(KERNEL, ""))
    for first, _ in VERSIONS.values():
        repository.add_all(Driver(first).packages())
        repository.add_all(Driver(first).modules(KERNEL))
    repository.add(Package("nvidia-settings", "510.47.03-0ubuntu1", depends="libc6"))
    repository.add(Package("nvidia-modprobe", "510.47.03-1", depends="libc6"))


def renew(repository: Repository, keep: bool = True) -> None:
    """A newer version of every branch and a newer kernel appear. Without `keep` the old ones are gone, as is usual.

    The modules of the old kernel are rebuilt for the new driver, and those of the new kernel are only built for it.
    """
    if not keep:
        repository.withdraw("*")
    repository.add_all(kernel_packages(NEXT_KERNEL))
    repository.add(_signatures(NEXT_KERNEL, ""))
    repository.add(_signatures(KERNEL, "+1"))
    for _, following in VERSIONS.values():
        repository.add_all(Driver(following).packages())
        repository.add_all(Driver(following).modules(KERNEL, "+1"))
        repository.add_all(Driver(following).modules(NEXT_KERNEL))


def _signatures(kernel: Kernel, rebuild: str) -> Package:
    image = f"linux-image-{kernel.release} | linux-image-unsigned-{kernel.release}"
    name = f"linux-signatures-nvidia-{kernel.release}"
    return metapackage(name, kernel.version + rebuild, image, Source="linux-restricted-signatures")
