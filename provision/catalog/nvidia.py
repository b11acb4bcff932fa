"""What is known of NVIDIA's cards, drivers and CUDA: facts as data, each with its source in the file it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A generation of GPUs. `modules`: the flavours of kernel modules that drive it, the recommended one first."""

    name: str  # Ampere
    modules: tuple[str, ...]  # open, proprietary
    last_branch: int | None = None  # the last driver branch that serves it; None: it is not ended
    last_cuda: str | None = None  # the last CUDA release that compiles for it


@dataclass(frozen=True)
class Product:
    """A GPU by PCI id. Where a figure is None the catalogue has no source for it.

    `bandwidth_gbs`: memory bandwidth in GB/s; `fp16_tflops`: dense FP16 tensor throughput with FP32 accumulation; both
    as the vendor's data sheet says. `slowdown_c`: temperature in Celsius at which the hardware slows the card down.
    """

    pci_id: str
    name: str  # GeForce RTX 3080, as pci.ids calls it
    chip: str  # GA102
    architecture: Architecture
    compute_capability: str  # 8.6
    memory_gib: int | None = None
    passive: bool | None = None
    power_watts: int | None = None
    bandwidth_gbs: float | None = None
    fp16_tflops: float | None = None
    slowdown_c: int | None = None
    source: str = ""  # where the figures come from


@dataclass(frozen=True)
class Origin:
    """A place that offers a driver branch for one distribution. `version`: the newest seen there."""

    source: str  # ubuntu | debian | cuda
    distribution: str  # ubuntu-22.04
    modules: tuple[str, ...]  # flavours it offers
    prebuilt: bool  # signed modules by the distribution, no DKMS
    version: str = ""


@dataclass(frozen=True)
class Branch:
    """A driver branch. `ends`: the month after which it gets no fixes, as YYYY-MM; None where unknown."""

    number: int
    status: str  # long-term | production | new-feature | ended
    ends: str | None
    architectures: tuple[str, ...]  # those it serves
    open_architectures: tuple[str, ...]  # those its open modules serve
    proprietary_architectures: tuple[str, ...]
    cuda: str  # the newest CUDA release that is matched to it, not by minor-version compatibility: 13.0
    origins: tuple[Origin, ...]


@dataclass(frozen=True)
class CudaRelease:
    """A CUDA release and the drivers it needs.

    `floor`: the least branch by minor-version compatibility; `matched`: the driver it came with.
    """

    version: str  # 13.0
    floor: int
    matched: str  # 580.65.06
    architectures: tuple[str, ...]  # those it compiles for
    distributions: tuple[str, ...]  # those whose CUDA repository offers its toolkit


@dataclass(frozen=True)
class Nvidia:
    """Everything the solver knows."""

    products: Mapping[str, Product]  # by PCI id in small letters, 10de:2206
    branches: tuple[Branch, ...]
    cuda: tuple[CudaRelease, ...]
    nvswitches: Mapping[str, str]  # names by PCI id


def parts(version: str) -> tuple[int, ...]:
    """A version as what orders it: `12.9` is (12, 9). What is no number in it, as a user may write, is left out."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
