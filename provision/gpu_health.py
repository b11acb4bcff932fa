"""Whether the cards of a host are sound. Pure: every judgement returns sentences, none where nothing is wrong.

Where a figure comes from stands in docs/gpu-checks.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provision.catalog.nvidia import Product
from provision.model import Card, Driver
from provision.nvidia_smi import Smi, SmiGpu

# Below these shares of the data sheet something is wrong with a card. A copy within a sound GH200 was measured at 74 %
# of its bandwidth, other kernels at 83 %. The best FP16 shape reaches 73 to 87 %, a fixed shape less.
BANDWIDTH_SHARE = 0.65
MATMUL_SHARE = 0.55

_HELD_BACK = {
    "hw_slowdown": "its own protection has halved its clocks or more: check cooling and power cables",
    "hw_thermal_slowdown": "it is too hot: check its fans, dust and the airflow of the case",
    "hw_power_brake_slowdown": "the power supply pulled the brake: check it and its cables",
    "sw_thermal_slowdown": "the driver cools it: check its fans, dust and the airflow of the case",
}
_IDLE_PERCENT = 5  # a desktop on a card makes it this busy


@dataclass(frozen=True)
class Xid:
    """What a kernel message `NVRM: Xid` means."""

    meaning: str
    remedy: str


_RESET = "reset the card or reboot the host"
_REPLACE = "if it recurs after a reboot, test the card with dcgmi diag -r 3 and have it replaced"
XIDS = {
    48: Xid("double bit ECC error", f"{_RESET}; {_REPLACE}"),
    63: Xid("a memory page or row was marked to be taken out of use", f"{_RESET}, so that it is"),
    64: Xid("a memory page or row could not be taken out of use", f"reboot the host; {_REPLACE}"),
    74: Xid("NVLink error", f"{_RESET}; check the bridges or the fabric manager; {_REPLACE}"),
    79: Xid("the card fell off the bus", "reboot the host; if it recurs, reseat the card and check its power cables"),
    94: Xid("contained memory error", f"restart the program that had it, and {_RESET} at a convenient time"),
    95: Xid("uncontained memory error", f"{_RESET} now: every program on the card is affected; {_REPLACE}"),
    119: Xid("the card's own processor (GSP) did not answer in time", f"{_RESET}; if it recurs, change the driver"),
    120: Xid("the card's own processor (GSP) failed", f"{_RESET}; if it recurs, change the driver"),
}
# A program's own fault causes these on a sound card: a memory page fault, a stopped channel, a program taken off.
PROGRAMS = (13, 31, 43, 45)
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)")


def faults(
    smi: Smi,
    cards: Sequence[Card],
    driver: Driver | None = None,
    *,
    lanes: Mapping[str, int] | None = None,
    persistence: bool = False,
) -> list[str]:
    """Everything that is wrong with the cards of a plan, as `nvidia-smi -q -x` tells it.

    Args:
        cards: those of the plan; an assumed one is not looked for.
        lanes: the PCIe lanes of each card's slot by its address, where a board has slots narrower than its cards.
        persistence: whether persistence mode is declared.
    """
    found = [f"nvidia-smi warns: {warning}" for warning in smi.warnings]
    found += missing(smi, cards)
    found += wrong_branch(smi, driver)
    for gpu in smi.gpus:
        found += [
            *trouble(gpu),
            *narrow_link(gpu, (lanes or {}).get(gpu.address)),
            *slow_link(gpu),
            *held_back(gpu),
            *memory_errors(gpu),
            *too_hot(gpu),
        ]
        if persistence and gpu.persistence is not True:
            found.append(f"{_name(gpu)} is not in persistence mode, though it is declared: start nvidia-persistenced")
    return found


def missing(smi: Smi, cards: Sequence[Card]) -> list[str]:
    """Cards of the plan that the driver does not show."""
    seen = {gpu.address for gpu in smi.gpus}
    return [
        f"{card.product} at {card.address} is planned and not seen by the driver: see why in dmesg | grep -i nvrm"
        for card in cards
        if not card.assumed and card.address not in seen
    ]


def wrong_branch(smi: Smi, driver: Driver | None) -> list[str]:
    """A driver of another branch than the plan's."""
    if driver is None or not driver.branch or smi.driver_version.partition(".")[0] == driver.branch:
        return []
    return [f"the driver is {smi.driver_version}, and branch {driver.branch} is planned: reboot, or apply again"]


def trouble(gpu: SmiGpu) -> list[str]:
    """What the driver itself says is wrong."""
    found = [f"{_name(gpu)} tells no value for a field it has, {field}: reset it or reboot" for field in gpu.trouble]
    if gpu.recovery:
        found.append(f"{_name(gpu)} has to be recovered, the driver says: {gpu.recovery}")
    return found


def narrow_link(gpu: SmiGpu, slot: int | None = None) -> list[str]:
    """Fewer PCIe lanes than card and slot have. Unlike the generation, the width does not drop while a card idles."""
    width, most = gpu.link.width, min(gpu.link.width_max or 0, slot or 99)
    if width is None or width >= most:
        return []
    return [f"{_name(gpu)} runs on {width} of {most} PCIe lanes: reseat it, check riser and slot"]


def slow_link(gpu: SmiGpu) -> list[str]:
    """A PCIe generation below what card and host can, on a card that works: an idle one saves power that way."""
    link = gpu.link
    if link.generation is None or link.generation_max is None or (gpu.utilization or 0) <= _IDLE_PERCENT:
        return []
    if link.generation >= link.generation_max:
        return []
    told = f"{_name(gpu)} works over PCIe generation {link.generation} of {link.generation_max}"
    return [f"{told}: check riser, slot and the firmware's link speed"]


def held_back(gpu: SmiGpu) -> list[str]:
    """Clocks held down by heat or by the board. Running into its power cap is what a cap is for, unless it is idle."""
    found = [f"{_name(gpu)} is throttled ({name}): {_HELD_BACK[name]}" for name in gpu.throttling if name in _HELD_BACK]
    draw, limit = gpu.power.draw, gpu.power.enforced
    if "sw_power_cap" in gpu.throttling and draw is not None and limit is not None and draw < limit / 2:
        told = f"{_name(gpu)} is held back by its power cap at {draw:g} of {limit:g} W"
        found.append(f"{told}: something else limits its power; check its power cables")
    return found


def memory_errors(gpu: SmiGpu) -> list[str]:
    """Uncorrectable errors since the driver was loaded, and pages or rows that wait, or that cannot be replaced."""
    memory, found = gpu.memory, []
    if memory.volatile_uncorrectable:
        told = (
            f"{_name(gpu)} has {memory.volatile_uncorrectable} uncorrectable memory errors since the driver was loaded"
        )
        found.append(f"{told}: {_RESET}; {_REPLACE}")
    if memory.pending:
        found.append(f"{_name(gpu)} has memory that waits to be taken out of use: {_RESET}")
    if memory.failed:
        found.append(f"{_name(gpu)} has broken memory and nothing left to replace it: have the card replaced")
    return found


def too_hot(gpu: SmiGpu) -> list[str]:
    """At or beyond the temperature at which the card slows down."""
    margin = gpu.temperature.slowdown_margin
    if margin is None or margin > 0:
        return []
    return [
        f"{_name(gpu)} has {gpu.temperature.gpu} C, where it slows down: check its fans and the airflow of the case"
    ]


def wrong_caps(smi: Smi, limit_watts: float, limits: Mapping[str, float]) -> list[str]:
    """Caps that are not in force as declared: `limit_watts` for every card (0 for none), `limits` by UUID over it."""
    found = [f"{uuid} is to be capped and is not there" for uuid in sorted(set(limits) - {g.uuid for g in smi.gpus})]
    for gpu in smi.gpus:
        asked, power = limits.get(gpu.uuid, limit_watts), gpu.power
        if not asked:
            continue
        if power.limit is None or power.minimum is None or power.maximum is None:
            found.append(f"{_name(gpu)} is to be capped and has no power limit")
        elif power.limit != (cap := min(max(asked, power.minimum), power.maximum)):
            told = f"{_name(gpu)} is capped at {power.limit:g} W and not at {cap:g} W"
            found.append(f"{told}: see why: systemctl status provision-gpu-power")
    return found


def xid_faults(kernel_log: str) -> list[str]:
    """Xid messages of a kernel log that point at a card. Those of a program's own making are left to its owner."""
    return [sentence for number, sentence in _xids(kernel_log) if number not in PROGRAMS]


def bandwidth_fault(product: Product, measured_gbs: float) -> str | None:
    """Memory bandwidth in GB/s, reads and writes of a copy together, against the data sheet's."""
    if product.bandwidth_gbs is None:
        return None
    return _below(product, "memory bandwidth", measured_gbs, BANDWIDTH_SHARE * product.bandwidth_gbs, "GB/s")


def matmul_fault(product: Product, measured_tflops: float, power_share: float = 1.0) -> str | None:
    """Dense FP16 products with FP32 accumulation in TFLOPS, against the data sheet's.

    `power_share` is the card's cap over its default limit: throughput falls more slowly than power, so it is a floor.
    """
    if product.fp16_tflops is None:
        return None
    least = MATMUL_SHARE * product.fp16_tflops * min(power_share, 1.0)
    return _below(product, "FP16 matrix throughput", measured_tflops, least, "TFLOPS")


def _below(product: Product, what: str, measured: float, least: float, unit: str) -> str | None:
    if measured >= least:
        return None
    told = f"{product.name} reaches {measured:.0f} {unit} of {what}, and a sound one at least {least:.0f}"
    return f"{told}: see what else runs on it, its temperature and its PCIe slot"


def _xids(kernel_log: str) -> Iterator[tuple[int, str]]:
    counted = Counter((address.lower(), int(number)) for address, number in _XID.findall(kernel_log))
    for (address, number), times in counted.items():
        known = XIDS.get(number, Xid("see NVIDIA's Xid catalogue", f"look {number} up in NVIDIA's Xid catalogue"))
        often = "once" if times == 1 else f"{times} times"
        yield number, f"GPU {address} reported Xid {number} {often} ({known.meaning}): {known.remedy}"


def _name(gpu: SmiGpu) -> str:
    return f"{gpu.name or 'GPU'} at {gpu.address}"
