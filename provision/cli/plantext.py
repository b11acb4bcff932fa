"""A plan as text: what a host is and becomes in a few lines, its reasons, and the chain of decisions of `explain`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from provision.cli.page import BOLD, DIM, YELLOW, Page, Segment
from provision.model import Card, Driver, Hardware, HostPlan
from provision.redact import redact_data
from provision.solver.driver import archive

_HEAD = ("subject", "choice", "source", "because")


def summary(page: Page, hardware: Hardware | None, plan: HostPlan | None) -> None:
    """The box and its stack, a line each."""
    rows: list[tuple[str, str]] = [("found", found(hardware, plan.cards if plan else ()))] if hardware else []
    if plan:
        rows += stack(plan)
        rows.append(("roles", ", ".join(plan.roles) or "none"))
    page.table((((name, DIM), words) for name, words in rows), indent=2)


def reasons(page: Page, plan: HostPlan, *, verbose: bool) -> None:
    """Every decision as a row; `verbose` adds what was not chosen, and the settings."""
    rows: list[tuple[Segment, ...]] = []
    told = [vars(reason) for reason in plan.reasons if reason.subject.partition(" ")[0] != "card"]  # they have a line
    for reason in redact_data(told):
        rows.append(tuple(reason[key] for key in _HEAD))
        rows += [("", (f"not {other}", DIM), "", "") for other in reason["rejected"] if verbose]
    if rows:
        page.table(rows, indent=2, head=_HEAD)
    if verbose:
        page.line(("settings", BOLD), indent=2)
        settings = redact_data(dict(plan.settings))
        page.table(
            ((key, json.dumps(value, ensure_ascii=False, default=str)) for key, value in sorted(settings.items())),
            indent=4,
        )


def decisions(page: Page, told: Iterable[Mapping[str, Any]]) -> None:
    """Each decision with why, on what it rests and what was rejected."""
    for decision in redact_data(list(told)):
        page.line((decision["subject"], BOLD), f"  {decision['choice']}", indent=2)
        rows: list[tuple[Segment, Segment]] = [
            (("because", DIM), decision["because"]),
            (("source", DIM), decision["source"]),
        ]
        if decision["rests_on"]:
            rows.append((("rests on", DIM), ", ".join(decision["rests_on"])))
        rows += [(("not", YELLOW), other) for other in decision["rejected"]]
        page.table(rows, indent=4)


def found(hardware: Hardware, cards: Sequence[Card]) -> str:
    """The box in one line, without what nobody looked at, and without the cards, which have a line of their own."""
    os, cpu = hardware.os, hardware.cpu
    places = {card.address for card in cards}
    others = counted(gpu.name for gpu in hardware.gpus if gpu.address not in places)
    disks, switches = len(hardware.disks), len(hardware.nvswitches)
    parts = {
        "os": f"{os.id} {os.version} {os.architecture}",
        "cpu": f"{cpu.threads} threads",
        "memory_bytes": f"{hardware.memory_bytes / 2**30:.0f} GiB memory",
        "gpus": others or ("" if cards else "no GPU"),
        "nvswitches": f"{switches} NVSwitch{'' if switches == 1 else 'es'}" if switches else "",
        "disks": f"{disks} disk{'' if disks == 1 else 's'}",
        "firmware": hardware.firmware.virtualization,
    }
    return ", ".join(words for name, words in parts.items() if words and name not in hardware.unknown)


def counted(things: Iterable[object]) -> str:
    """`2x GeForce RTX 4090 (Ada, 8.9, 24 GiB), TITAN RTX (Turing, 7.5, 24 GiB)`."""
    numbers = Counter(map(str, things))
    return ", ".join(f"{number}x {name}" if number > 1 else name for name, number in numbers.items())


def stack(plan: HostPlan) -> list[tuple[str, str]]:
    """What the host gets, layer by layer, as names and words."""
    rows = [("cards", counted(plan.cards))] if plan.cards else []
    rows += [("driver", _driver(plan.driver))] if plan.driver else []
    rows += [("CUDA", ", ".join(plan.cuda))] if plan.cuda else []
    if "python_ml" in plan.roles:
        builds = plan.frameworks
        wanted = [environment["requirements"] for environment in plan.settings.get("python_ml_environments", ())]
        tensorflow = f"TensorFlow {builds.tensorflow_backend}; " if "tensorflow" in wanted else ""
        rows.append(("torch", f"{builds.torch_backend}; {tensorflow}Python {builds.python}"))
    return rows


def _driver(driver: Driver) -> str:
    if driver.source == "host":
        return "from outside, left alone"
    parts = [
        driver.branch,
        f"{driver.modules} kernel modules",
        "prebuilt and signed" if driver.prebuilt else "built on the host by DKMS",
        f"from {archive(driver.source)}",
        *(["with the fabric manager"] if driver.fabric_manager else []),
    ]
    return ", ".join(parts)
