"""Every card on every distribution, and the boxes that are special: what is planned, or the refusal's text.

tests/cases/selection has a table for each distribution, and `boxes.yml` (`os`, `cards`, `set` and the like) with
`boxes.expected.txt`. docs/selection.md shows the same for the tiers' documented cards. PROVISION_UPDATE_CASES=1 writes
all of them anew: read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import selection_boxes as boxes
import yaml

from provision.catalog import load_tier, tiers
from provision.errors import ProvisionError
from provision.model import HostPlan, Tier
from provision.resolve import Choice
from provision.solver.frameworks import builds

CASES = Path(__file__).parents[1] / "cases" / "selection"
DOCUMENT = Path(__file__).parents[2] / "docs" / "selection.md"
MARK = "<!-- written by tests/unit/test_selection.py -->\n"

CARDS = """
A100 SXM4 40GB, A100 PCIe 80GB, H100 PCIe, H100 SXM5 80GB, H200 NVL, B200, Tesla V100 PCIe 16GB, Tesla V100 SXM2 32GB,
Tesla T4, L4, L40S, A40, A10, RTX A6000, RTX 6000 Ada Generation, RTX PRO 6000 Blackwell Workstation Edition,
RTX PRO 6000 Blackwell Server Edition, TITAN RTX, GeForce RTX 2080 Ti, GeForce GTX 1080 Ti, Tesla P100 PCIe 16GB,
GeForce RTX 3060, GeForce RTX 3070, GeForce RTX 3080, GeForce RTX 3080 Ti, GeForce RTX 3090, GeForce RTX 3090 Ti,
GeForce RTX 4060, GeForce RTX 4070, GeForce RTX 4080, GeForce RTX 4090, GeForce RTX 5070, GeForce RTX 5080,
GeForce RTX 5090, GeForce GTX 980 Ti, Tesla K80
"""
COLUMNS = ("driver", "modules", "source", "built", "CUDA", "torch", "TensorFlow", "Python")


def updated(path: Path, text: str) -> str:
    """What the file should hold, written first where that is wanted."""
    if os.environ.get("PROVISION_UPDATE_CASES"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"


def head(*names: str) -> str:
    return row(*names) + "|---" * len(names) + "|\n"


def refused(error: ProvisionError) -> str:
    return "refused: " + "; ".join(f"{refusal.fact}. Hint: {refusal.hint}" for refusal in error.refusals)


def table(distribution: str) -> str:
    text = f"What each card gets on {distribution}, one at a time.\n\n" + head("card", *COLUMNS)
    for name in CARDS.replace("\n", " ").split(","):
        try:
            text += row(name.strip(), *boxes.said(boxes.planned(boxes.hardware(distribution, [name.strip()]))))
        except ProvisionError as error:
            text += row(name.strip(), refused(error))
    return text


@pytest.mark.parametrize("distribution", boxes.DISTRIBUTIONS)
def test_every_card(distribution: str) -> None:
    found = table(distribution)
    assert found == updated(CASES / f"{distribution}.md", found)


# -- special boxes -----------------------------------------------------------------------------------------------


def outcome(given: dict[str, Any]) -> Iterator[str]:
    """Lines: what is planned, and what is special about it; or each refusal with its hint."""
    keys = ("os", "cards", "set", "tier", "only", "skip", "assume_gpu")
    box = boxes.hardware(given["os"], given.get("cards", ()), **{key: given[key] for key in given if key not in keys})
    choice = Choice(tuple(given.get("only", ())), tuple(given.get("skip", ())), given.get("assume_gpu", ""))
    try:
        plan = boxes.planned(box, given.get("set", ()), given.get("tier", "datacenter"), choice)
    except ProvisionError as error:
        yield from (line for told in error.refusals for line in (f"refused: {told}", f"    {told.hint}"))
        return
    yield ", ".join(f"{name} {said}" for name, said in zip(COLUMNS, boxes.said(plan), strict=True) if said != "-")
    without = sorted(set(load_tier(plan.tier).roles) - set(plan.roles))
    assumed = [card.product for card in plan.cards if card.assumed]
    yield from [f"without {', '.join(without)}"] if without else []
    yield from [f"assumed: {', '.join(assumed)}"] if assumed else []
    yield from ["with the fabric manager"] if plan.driver and plan.driver.fabric_manager else []
    yield from ["containers see no card"] if not plan.settings["docker_nvidia"] else []
    yield from (f"warning: {warning}" for warning in plan.warnings)


def test_special_boxes() -> None:
    cases: dict[str, dict[str, Any]] = yaml.safe_load((CASES / "boxes.yml").read_text(encoding="utf-8"))
    found = "\n".join("\n  ".join([name, *outcome(given)]) + "\n" for name, given in cases.items())
    assert found == updated(CASES / "boxes.expected.txt", found)


# -- the document ------------------------------------------------------------------------------------------------


def why(plan: HostPlan) -> str:
    reasons = {reason.subject: reason.because for reason in plan.reasons}
    names = ("nvidia_driver_branch", "nvidia_driver_modules", "nvidia_driver_source")
    return "; ".join(reasons[name] for name in names if name in reasons)


def environments(tier: Tier) -> list[str]:
    default = boxes.CATALOG.settings.defaults()["python_ml_environments"]
    return [each["requirements"] for each in tier.settings.get("python_ml_environments", default)]


def frameworks(tier: Tier, plan: HostPlan) -> Iterator[str]:
    """The toolkit, each environment's build and the Python of a plan."""
    yield ", ".join(plan.cuda) or "none"
    for name in environments(tier):
        backend = plan.settings.get(f"python_ml_{name}_backend", "cpu")
        yield from (f"{build.version} {backend}" for build in builds(boxes.CATALOG, name) if build.backend == backend)
    yield plan.frameworks.python


def rows(tier: Tier, distribution: str) -> str:
    """A row for each set of documented cards that get the same."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for model in tier.hardware["gpus"]["models"]:
        cards = [model] * tier.hardware["gpus"]["min"]
        try:
            plan = boxes.planned(boxes.hardware(distribution, cards), tier=tier.name)
            driver, modules, source, built, *_ = boxes.said(plan)
            cells = (f"{driver} {modules}", f"{source}, {built}", *frameworks(tier, plan), why(plan))
        except ProvisionError as error:
            cells = (refused(error),)
        merged.setdefault(cells, []).append(model)
    return "".join(row(distribution, ", ".join(models), *cells) for cells, models in merged.items())


def document() -> str:
    text = ""
    for tier in tiers():
        text += f"\n## {tier.title} (`{tier.name}`)\n\n"
        text += f"Roles: {', '.join(tier.roles)}.\n\n"
        text += head("distribution", "cards", "driver", "from", "CUDA", *environments(tier), "Python", "why the driver")
        text += "".join(rows(tier, distribution) for distribution in boxes.DISTRIBUTIONS)
    return text


def test_the_document_says_what_is_planned() -> None:
    written, _, _ = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    found = written + MARK + document()
    assert found == updated(DOCUMENT, found)
