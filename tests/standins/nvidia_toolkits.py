"""Stand-ins for NVIDIA's CUDA toolkits, cuDNN and NCCL, and for the metapackage `cuda` that pulls a driver.

The compiler answers `--version` and refuses everything else; libraries are ELF files without code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.standins.apt_repository import Content, Package
from tests.standins.nvidia_parts import elf, metapackage

NVCC = """\
#!/bin/sh
# stand-in: answers which version it is
if [ "$1" = --version ] || [ "$1" = -V ]; then
    echo "nvcc: NVIDIA (R) Cuda compiler driver (stand-in)"
    echo "Cuda compilation tools, release {release}, V{compiler}"
    exit 0
fi
echo "nvcc: stand-in, compiles nothing" >&2
exit 1
"""
# With these, update-alternatives chooses the newest toolkit, as NVIDIA's own package does.
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
update-alternatives --install /usr/local/cuda cuda /usr/local/cuda-{release} {priority}
update-alternatives --install /usr/local/cuda-{major} cuda-{major} /usr/local/cuda-{release} {priority}
"""
PRERM = """\
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
update-alternatives --remove cuda /usr/local/cuda-{release}
update-alternatives --remove cuda-{major} /usr/local/cuda-{release}
"""
LIBRARIES = ("cufft", "curand", "cusolver", "cusparse", "nvjitlink", "npp")


@dataclass(frozen=True)
class Toolkit:
    """One toolkit. `driver` is the one its metapackage wants, `compiler` the version of nvcc."""

    version: str  # 13.0.2
    compiler: str
    driver: str

    @property
    def release(self) -> str:
        return ".".join(self.version.split(".")[:2])

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def packages(self) -> Iterator[Package]:
        yield from self._common()
        yield from self._parts()
        part, version = self.name, f"{self.version}-1"
        developer = self.named("cuda-nvcc", "cuda-cuobjdump", "cuda-nvprune", "cuda-cuxxfilt")
        runtime = self.named("cuda-cudart", "cuda-nvrtc", "libcublas", *(f"lib{name}" for name in LIBRARIES))
        yield metapackage(part("cuda-compiler"), version, *developer)
        yield metapackage(part("cuda-libraries"), version, *runtime)
        libraries = self.named("cuda-cudart-dev", "cuda-nvrtc-dev", "libcublas-dev", "cuda-cccl")
        yield metapackage(part("cuda-libraries-dev"), version, *libraries)
        yield metapackage(part("cuda-minimal-build"), version, *developer[:1], *libraries[:1], *libraries[3:])
        yield metapackage(part("cuda-tools"), version, *self.named("cuda-nsight-compute", "cuda-gdb"))
        yield metapackage(part("cuda-nsight-compute"), version)
        yield metapackage(part("cuda-gdb"), version)
        most = ("cuda-compiler", "cuda-libraries", "cuda-libraries-dev", "cuda-tools")
        yield metapackage(part("cuda-toolkit"), version, *(f"{part(name)} (>= {self.version})" for name in most))
        # What pulls a driver in: never to be installed.
        drivers = f"cuda-drivers (>= {self.driver})"
        yield metapackage(part("cuda-runtime"), version, *self.named("cuda-libraries"), drivers)
        yield metapackage(part("cuda"), version, *self.named("cuda-runtime", "cuda-toolkit"))
        yield metapackage("cuda-toolkit", version, *self.named("cuda-toolkit"))
        yield metapackage("cuda", version, *self.named("cuda"))

    def name(self, name: str) -> str:
        return f"{name}-{self.release.replace('.', '-')}"

    def named(self, *names: str) -> tuple[str, ...]:
        return tuple(self.name(name) for name in names)

    def _common(self) -> Iterator[Package]:
        """The folder that links lead to, and the linker's configuration: one for all, one a major, one a release."""
        values = {"release": self.release, "major": self.major, "priority": self.release.replace(".", "")}
        folder = f"/usr/local/cuda-{self.release}"
        version = f"{self.version}-1"
        yield Package(
            self.name("cuda-toolkit") + "-config-common",
            version,
            depends=f"cuda-toolkit-{self.major}-config-common, cuda-toolkit-config-common",
            files={f"{folder}/version.json": f'{{"cuda": {{"name": "CUDA SDK", "version": "{self.version}"}}}}\n'},
            scripts={"postinst": POSTINST.format(**values), "prerm": PRERM.format(**values)},
            architecture="all",
        )
        for name, link in (("cuda-toolkit", "cuda"), (f"cuda-toolkit-{self.major}", f"cuda-{self.major}")):
            order = "000" if link == "cuda" else "988"
            path = f"/etc/ld.so.conf.d/{order}_{link}.conf"
            text = f"/usr/local/{link}/targets/x86_64-linux/lib\n"
            yield Package(f"{name}-config-common", version, files={path: text}, architecture="all")

    def _parts(self) -> Iterator[Package]:
        folder = f"/usr/local/cuda-{self.release}"
        target = f"{folder}/targets/x86_64-linux"
        common = self.name("cuda-toolkit") + "-config-common"
        nvcc = NVCC.format(release=self.release, compiler=self.compiler)
        contents: dict[str, dict[str, Content]] = {
            "cuda-nvcc": {f"{folder}/bin/nvcc": nvcc},
            "cuda-cuobjdump": {},
            "cuda-nvprune": {},
            "cuda-cuxxfilt": {},
            "cuda-cccl": {},
            "cuda-cudart-dev": {f"{target}/include/cuda_runtime.h": "/* stand-in */\n"},
            "cuda-nvrtc-dev": {f"{target}/include/nvrtc.h": "/* stand-in */\n"},
            "libcublas-dev": {f"{target}/include/cublas_v2.h": "/* stand-in */\n"},
            "cuda-cudart": {f"{target}/lib/libcudart.so.{self.version}": elf({})},
            "cuda-nvrtc": {f"{target}/lib/libnvrtc.so.{self.version}": elf({})},
            "libcublas": {f"{target}/lib/libcublas.so.{self.version}": elf({})},
            **{f"lib{name}": {f"{target}/lib/lib{name}.so.{self.version}": elf({})} for name in LIBRARIES},
        }
        for name, files in contents.items():
            version = self.compiler if name == "cuda-nvcc" else self.version
            runtime = self.named(name.removesuffix("-dev")) if name.endswith("-dev") else ()
            depends = ", ".join((*runtime, common))
            yield Package(self.name(name), f"{version}-1", depends=depends, files=files)


TOOLKITS = (
    Toolkit("12.6.3", "12.6.85", "560.35.05"),
    Toolkit("12.9.1", "12.9.86", "575.57.08"),
    Toolkit("13.0.2", "13.0.88", "580.95.05"),
    Toolkit("13.1.0", "13.1.80", "590.44.01"),
)
CUDNN, NCCL = "9.14.0.64-1", "2.28.3-1"


def packages() -> Iterator[Package]:
    """Every toolkit, and cuDNN and NCCL for each major release."""
    for toolkit in TOOLKITS:
        yield from toolkit.packages()
    where = "/usr/lib/x86_64-linux-gnu"
    for major in ("12", "13"):
        name = f"libcudnn9-cuda-{major}"
        files: dict[str, Content] = {f"{where}/libcudnn.so.9.14.0": elf({})}
        own = {"Provides": "libcudnn9", "Conflicts": "libcudnn9", "Replaces": "libcudnn9"}
        yield Package(name, CUDNN, depends="libc6", fields=own, files=files)
        yield Package(f"libcudnn9-headers-cuda-{major}", CUDNN)
        needs = f"{name} (= {CUDNN}), libcudnn9-headers-cuda-{major} (= {CUDNN})"
        yield Package(f"libcudnn9-dev-cuda-{major}", CUDNN, depends=needs)
        yield metapackage(f"cudnn9-cuda-{major}", CUDNN, name, f"libcudnn9-dev-cuda-{major}")
    # One name for every toolkit: the version says for which it was built.
    for toolkit in TOOLKITS[1:]:
        version = f"{NCCL}+cuda{toolkit.release}"
        yield Package("libnccl2", version, depends="libc6", files={f"{where}/libnccl.so.2.28.3": elf({})})
        yield Package("libnccl-dev", version, depends=f"libnccl2 (= {version})")
