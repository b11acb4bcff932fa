"""The words of the house: what a host is, what was found on it, what it should become.

Frozen dataclasses without I/O. Sizes are bytes unless the name says otherwise, speeds are Mbit/s, times are seconds.
Every one of them can be written as JSON and read back by `provision.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """Why something is not done: who it is about, what is the case, what to do next."""

    subject: str
    fact: str
    hint: str

    def __str__(self) -> str:
        return f"{self.subject} {self.fact}"


@dataclass(frozen=True)
class Host:
    """One machine as the user named it. `None` leaves the choice to the user's own ssh configuration."""

    name: str
    address: str | None = None
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    ssh_args: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


# -- what was found ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperatingSystem:
    """`id` and `version` as in os-release (`debian`, `12`); `python` is the system Python's full version."""

    id: str
    version: str
    codename: str
    architecture: str
    kernel: str = ""
    python: str | None = None


@dataclass(frozen=True)
class Cpu:
    """`cores` are physical, `threads` logical, both over all sockets; memory is divided over `numa_nodes`."""

    model: str
    sockets: int
    cores: int
    threads: int
    numa_nodes: int = 1


@dataclass(frozen=True)
class Gpu:
    """A display or 3D controller by its PCI id (`10de:2206`) and address (`0000:01:00.0`).

    `virtual`: a slice that a hypervisor's vGPU manager hands out, which only the matching guest driver drives.
    """

    pci_id: str
    address: str
    name: str
    driver: str | None = None
    virtual: bool = False


@dataclass(frozen=True)
class Nic:
    """`speed_mbps` is None where the link is down or the driver does not tell."""

    name: str
    kind: str  # ethernet | wifi
    driver: str | None
    speed_mbps: int | None
    up: bool


@dataclass(frozen=True)
class Disk:
    """A whole disk. `by_id` are the stable names; `contents` names what is on it (empty tuple: nothing was found)."""

    name: str
    by_id: tuple[str, ...]
    size_bytes: int
    rotational: bool
    transport: str  # nvme | sata | sas | usb | virtio | unknown
    contents: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.contents

    @property
    def mounts(self) -> tuple[str, ...]:
        """Where something on it is mounted: `/boot`, `[SWAP]`. The probe writes `sda1: ext4 on /boot`."""
        places = (what.partition(": ")[2].partition(" on ")[2] for what in self.contents)
        return tuple(place for place in places if place.startswith(("/", "[")))


@dataclass(frozen=True)
class Volume:
    """A tier of storage that an earlier run made, as the host's record has it; `disks` are by-id names."""

    name: str
    level: str  # single | mirror | lvm
    disks: tuple[str, ...]
    carried_by: tuple[str, ...] = ()  # kernel's names of the disks on which its file system is found now


@dataclass(frozen=True)
class HwmonChip:
    """A kernel hwmon chip with its counts of settable PWM outputs, fan tachometers and temperature inputs.

    `place` is its device below /sys/devices, with `*` for each number that is counted anew at every boot; `module` is
    the kernel module that drives it, empty where it is built into the kernel.
    """

    name: str
    pwms: int
    fans: int
    temperatures: int
    place: str = ""
    module: str = ""
    outputs: tuple[str, ...] = ()  # the names of the PWM outputs: pwm1, pwm3


@dataclass(frozen=True)
class Cooling:
    chips: tuple[HwmonChip, ...] = ()
    aio: tuple[str, ...] = ()  # USB ids of liquid coolers
    bmc: str | None = None  # the BMC's device node, where there is one
    board: str = ""  # the board's name, which says what commands a BMC knows


@dataclass(frozen=True)
class Firmware:
    """`secure_boot` is None where it cannot be known (no EFI, a container)."""

    vendor: str = ""
    product: str = ""
    secure_boot: bool | None = None
    virtualization: str = "metal"  # metal | container:<kind> | vm:<kind> | wsl


@dataclass(frozen=True)
class Hardware:
    os: OperatingSystem
    cpu: Cpu
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    nvswitches: tuple[str, ...] = ()  # PCI addresses; such a box needs NVIDIA's fabric manager
    nics: tuple[Nic, ...] = ()
    disks: tuple[Disk, ...] = ()
    volumes: tuple[Volume, ...] = ()
    cooling: Cooling = Cooling()
    firmware: Firmware = Firmware()
    unknown: tuple[str, ...] = ()  # fields above that nobody looked at: what they hold says nothing of the box


# -- what it should become ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tier:
    """A kind of machine as data: the documented hardware, the roles and the settings it stands for."""

    name: str
    title: str
    summary: str
    hardware: Mapping[str, Any]
    roles: tuple[str, ...]
    settings: Mapping[str, Any]
    not_managed_yet: Mapping[str, str]  # subject -> what is missing, said plainly
    workloads: tuple[str, ...] = ()
    origin: str = ""  # the file it came from


@dataclass(frozen=True)
class Reason:
    """One decision: what it is about, what was chosen, why, and which layer had the last word."""

    subject: str
    choice: str
    because: str
    source: str  # catalogue | tier NAME | hardware | inventory | --set
    rejected: tuple[str, ...] = ()  # what else there was, each with why not


@dataclass(frozen=True)
class Shortfall:
    """Where the box is less than the tier documents. A plan with one needs `--accept-hardware` to be applied."""

    subject: str
    documented: str
    found: str


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU of the box as the catalogue knows it. None: the catalogue does not say."""

    address: str
    pci_id: str
    product: str  # GeForce RTX 3080
    architecture: str  # Ampere
    compute_capability: str  # 8.6
    memory_gib: int | None = None
    passive: bool | None = None  # it has no fan of its own
    assumed: bool = False  # --assume-gpu put it there: nothing that needs the card itself can be proved

    def __str__(self) -> str:
        memory = f", {self.memory_gib} GiB" if self.memory_gib else ""
        assumed = ", assumed" if self.assumed else ""
        return f"{self.product} ({self.architecture}, {self.compute_capability}{memory}{assumed})"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver of a host: one branch, one flavour of kernel modules, one origin.

    `source`: `ubuntu` and `debian` are the distribution's archives, `cuda` is NVIDIA's CUDA repository, `host` means
    that what is outside brings it (WSL, a container, a vGPU guest's own driver).
    """

    branch: str  # 580; empty where `source` is host
    modules: str  # open | proprietary; empty where `source` is host
    source: str
    prebuilt: bool = False  # signed modules made by the distribution, not built on the host by DKMS
    fabric_manager: bool = False


@dataclass(frozen=True)
class Frameworks:
    """Which machine-learning builds a host gets. `python` is `system` or a version that uv brings."""

    torch_backend: str  # cpu | cu126 | cu130
    python: str
    tensorflow_backend: str = "cpu"  # cpu | cuda12


@dataclass(frozen=True)
class HostPlan:
    """Everything the roles read. `settings` are role variables by name, complete and final."""

    host: str
    tier: str
    os: OperatingSystem
    roles: tuple[str, ...]
    frameworks: Frameworks
    settings: Mapping[str, Any]
    cards: tuple[Card, ...] = ()
    driver: Driver | None = None  # None: there is no NVIDIA card
    cuda: tuple[str, ...] = ()  # toolkit versions, the default one first
    reasons: tuple[Reason, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    not_managed_yet: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
