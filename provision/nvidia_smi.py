"""`nvidia-smi -q -x` as data. Pure.

Names moved over the driver branches: with R535 `clocks_throttle_reasons` became `clocks_event_reasons` and
`power_readings` became `gpu_power_readings`; later `power_draw` became `average_power_draw` and `instant_power_draw`;
cards since Ada tell their temperature limits as a margin. Every form from R460 on is read, and what is not known is
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from provision.errors import ProvisionError, refuse

# What nvidia-smi says where a card does not have the thing. Whatever else is no value is a card in trouble.
_ABSENT = re.compile(
    r"|none|\[?n/a\]?|\[?not (supported|found|available)\]?|\[?insufficient permissions\]?"
    r"|requested functionality has been deprecated",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: ?(?:W|C|MiB|%|MHz|us|x))?")
_DOCUMENT = re.compile(r"<nvidia_smi_log\b.*</nvidia_smi_log>", re.DOTALL)
_PROLOG = re.compile(r"<\?xml[^>]*\?>|<!DOCTYPE[^>\[]*>")
_WHY = {
    "Driver/library version mismatch": "the library is newer than the loaded module; reboot the host",
    "couldn't communicate with the NVIDIA driver": "the module is not loaded; see why: sudo dmesg | grep -i nvrm",
    "GPU is lost": "the card fell off the bus; reboot, and if that recurs, reseat it and check its power cables",
    "No devices were found": "the driver took no card; see why: sudo dmesg | grep -i nvrm",
    "Unknown Error": "reboot the host; inside a container, see that its GPUs come through CDI",
}


@dataclass(frozen=True)
class Link:
    """A PCIe link: generations and lanes, now and at most. `generation_max` is what card and host both can."""

    generation: int | None
    generation_max: int | None
    width: int | None
    width_max: int | None


@dataclass(frozen=True)
class MigInstance:
    gpu_instance: int
    compute_instance: int
    memory_mib: int | None


@dataclass(frozen=True)
class Mig:
    """`enabled` and `pending` are None where the card cannot be divided; they differ until it is reset."""

    enabled: bool | None
    pending: bool | None
    instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True)
class Temperature:
    """Celsius. `slowdown_margin`: how far the card is from slowing down, however the driver tells it."""

    gpu: int | None
    slowdown: int | None
    shutdown: int | None
    slowdown_margin: int | None


@dataclass(frozen=True)
class Power:
    """Watts. `limit` is what was asked for, `enforced` what holds after every other limiter."""

    draw: float | None
    limit: float | None
    enforced: float | None
    default: float | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class Memory:
    """The errors of a card's memory. Counts are None where the card has no ECC, or it is off.

    `volatile_uncorrectable` are those since the driver was loaded, `aggregate_uncorrectable` those of the card's life.
    `pending`: a page or row waits for a reset to be taken out of use; `failed`: no spare row was left.
    """

    total_mib: int | None
    ecc: bool | None
    volatile_uncorrectable: int | None
    aggregate_uncorrectable: int | None
    retired: int | None
    pending: bool
    failed: bool


@dataclass(frozen=True)
class SmiGpu:
    """`throttling` are the names of the reasons that hold the clocks down now: `sw_power_cap`, `hw_slowdown`.

    `trouble` are fields with something that is no value, such as `power_draw: ERR!`. `recovery` is what the driver
    says has to be done: `Reset`, `Reboot`, empty for nothing. `utilization` is in percent, `fan` in percent.
    """

    uuid: str
    name: str
    address: str  # 0000:01:00.0
    architecture: str
    persistence: bool | None
    mig: Mig
    link: Link
    fan: int | None
    utilization: int | None
    temperature: Temperature
    throttling: tuple[str, ...]
    memory: Memory
    power: Power
    recovery: str = ""
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True)
class Smi:
    """`warnings` is what nvidia-smi said around its document."""

    driver_version: str
    cuda_version: str
    gpus: tuple[SmiGpu, ...]
    warnings: tuple[str, ...] = ()


def parse(text: str) -> Smi:
    """What `nvidia-smi -q -x` answered.

    Raises:
        ProvisionError: it is no such answer; the refusal says what it is, and what to do.
    """
    found = _DOCUMENT.search(text)
    if found is None:
        raise _no_answer(text)
    if "<!ENTITY" in text:
        raise refuse("nvidia-smi", "answers XML with entities, which it never does", "see what it is: type nvidia-smi")
    try:
        root = ElementTree.fromstring(found.group())  # noqa: S314  an answer with entities was refused above
    except ElementTree.ParseError as error:
        raise refuse("nvidia-smi", f"answers XML that cannot be read: {error}", _AGAIN) from error
    around = _PROLOG.sub("", text[: found.start()]) + text[found.end() :]
    return Smi(
        driver_version=_text(root, "driver_version"),
        cuda_version=_text(root, "cuda_version"),
        gpus=tuple(_gpu(element) for element in root.iter("gpu")),
        warnings=tuple(line.strip() for line in around.splitlines() if line.strip()),
    )


def bus_address(text: str) -> str:
    """A PCI address the way Linux writes it: `00000000:0C:00.0` is `0000:0c:00.0`."""
    domain, _, rest = text.strip().lower().partition(":")
    return f"{domain[-4:]:0>4}:{rest}"


_AGAIN = "see what it says: nvidia-smi -q -x"


def _no_answer(text: str) -> ProvisionError:
    if "<nvidia_smi_log" in text:
        return refuse("nvidia-smi", "answers XML that ends in the middle", _AGAIN)
    said = " ".join(text.split())[:300] or "nothing"
    hint = next((hint for words, hint in _WHY.items() if words in said), _AGAIN)
    return refuse("nvidia-smi", f"says: {said}", hint)


def _text(element: ElementTree.Element, *paths: str) -> str:
    """The text at the first of the paths that has one; empty where there is none."""
    for path in paths:
        if text := (element.findtext(path) or "").strip():
            return text
    return ""


class _Reader:
    """Reads one card and remembers which fields held no value."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element
        self.trouble: list[str] = []

    def number(self, *paths: str, within: ElementTree.Element | None = None) -> float | None:
        """The first of the fields that holds a number."""
        for path in paths:
            text = _text(self.element if within is None else within, path)
            if found := _NUMBER.fullmatch(text):
                return float(found.group(1))
            self._doubt(path, text)
        return None

    def whole(self, *paths: str, within: ElementTree.Element | None = None) -> int | None:
        number = self.number(*paths, within=within)
        return None if number is None else int(number)

    def flag(self, path: str) -> bool | None:
        text = _text(self.element, path)
        if text in ("Enabled", "Yes", "Active"):
            return True
        if text in ("Disabled", "No", "Not Active"):
            return False
        self._doubt(path, text)
        return None

    def total(self, *paths: str) -> int | None:
        """The sum of those fields that hold a number; None where none does."""
        numbers = [number for path in paths if (number := self.whole(path)) is not None]
        return sum(numbers) if numbers else None

    def _doubt(self, path: str, text: str) -> None:
        if not _ABSENT.fullmatch(text):
            self.trouble.append(f"{path.rpartition('/')[2]}: {text}")


def _gpu(element: ElementTree.Element) -> SmiGpu:
    read = _Reader(element)
    return SmiGpu(
        uuid=_text(element, "uuid"),
        name=_text(element, "product_name"),
        address=bus_address(_text(element, "pci/pci_bus_id") or element.get("id", "")),
        architecture=_text(element, "product_architecture"),
        persistence=read.flag("persistence_mode"),
        mig=_mig(read),
        link=_link(read),
        fan=read.whole("fan_speed"),
        utilization=read.whole("utilization/gpu_util"),
        temperature=_temperature(read),
        throttling=tuple(_throttling(element)),
        memory=_memory(read),
        power=_power(read),
        recovery=_recovery(read),
        trouble=tuple(dict.fromkeys(read.trouble)),
    )


def _mig(read: _Reader) -> Mig:
    instances = tuple(
        MigInstance(gpu, compute, read.whole("fb_memory_usage/total", within=device))
        for device in read.element.iterfind("mig_devices/mig_device")
        if (gpu := read.whole("gpu_instance_id", within=device)) is not None
        and (compute := read.whole("compute_instance_id", within=device)) is not None
    )
    return Mig(read.flag("mig_mode/current_mig"), read.flag("mig_mode/pending_mig"), instances)


def _link(read: _Reader) -> Link:
    generation, width = "pci/pci_gpu_link_info/pcie_gen/", "pci/pci_gpu_link_info/link_widths/"
    return Link(
        read.whole(generation + "current_link_gen"),
        read.whole(generation + "max_link_gen"),
        read.whole(width + "current_link_width"),
        read.whole(width + "max_link_width"),
    )


def _temperature(read: _Reader) -> Temperature:
    gpu = read.whole("temperature/gpu_temp")
    slowdown, shutdown = (read.whole(f"temperature/gpu_temp_{name}_threshold") for name in ("slow", "max"))
    left, edge = read.whole("temperature/gpu_temp_tlimit"), read.whole("temperature/gpu_temp_slow_tlimit_threshold")
    margin = None
    if gpu is not None and slowdown is not None:
        margin = slowdown - gpu
    elif left is not None and edge is not None:
        margin = left - edge
    return Temperature(gpu, slowdown, shutdown, margin)


def _throttling(element: ElementTree.Element) -> Iterator[str]:
    for form in ("event", "throttle"):
        for reason in element.iterfind(f"clocks_{form}_reasons/*"):
            if (reason.text or "").strip() == "Active":
                yield reason.tag.removeprefix(f"clocks_{form}_reason_")


def _memory(read: _Reader) -> Memory:
    return Memory(
        total_mib=read.whole("fb_memory_usage/total"),
        ecc=read.flag("ecc_mode/current_ecc"),
        volatile_uncorrectable=_uncorrectable(read, "ecc_errors/volatile"),
        aggregate_uncorrectable=_uncorrectable(read, "ecc_errors/aggregate"),
        retired=read.total(
            "retired_pages/multiple_single_bit_retirement/retired_count",
            "retired_pages/double_bit_retirement/retired_count",
            "remapped_rows/remapped_row_unc",
            "remapped_rows/remapped_row_corr",
        ),
        pending=any(
            read.flag(path)
            for path in (
                "retired_pages/pending_blacklist",
                "retired_pages/pending_retirement",
                "remapped_rows/remapped_row_pending",
                "ecc_errors/channel_repair_pending",
                "ecc_errors/tpc_repair_pending",
            )
        ),
        failed=bool(read.flag("remapped_rows/remapped_row_failure") or read.flag("ecc_errors/unrepairable_memory")),
    )


def _uncorrectable(read: _Reader, section: str) -> int | None:
    """`double_bit/total` up to Volta; since then one or several counters with `uncorrectable` in their names."""
    names = [child.tag for child in read.element.iterfind(f"{section}/*") if "_uncorrectable" in child.tag]
    return read.total(f"{section}/double_bit/total", *(f"{section}/{name}" for name in names))


def _power(read: _Reader) -> Power:
    section = "gpu_power_readings" if read.element.find("gpu_power_readings") is not None else "power_readings"

    def watts(*names: str) -> float | None:
        return read.number(*(f"{section}/{name}" for name in names))

    return Power(
        draw=watts("power_draw", "instant_power_draw", "average_power_draw"),
        limit=watts("requested_power_limit", "power_limit"),
        enforced=watts("current_power_limit", "enforced_power_limit"),
        default=watts("default_power_limit"),
        minimum=watts("min_power_limit"),
        maximum=watts("max_power_limit"),
    )


def _recovery(read: _Reader) -> str:
    action = _text(read.element, "gpu_recovery_action")
    if not _ABSENT.fullmatch(action):
        return action
    return "Reset" if read.flag("gpu_reset_status/reset_required") else ""
