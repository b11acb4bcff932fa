"""Facts in, plan out: one directory of tests/cases/resolve per case.

`hardware.json` is what the probe found, `input.yml` what the user said (`tier`, `inventory`, `set`, `only`, `skip`,
`assume_gpu`).
`expected.json` holds the plan, its settings reduced to those that are not the roles' defaults; `expected_refusals.yml`
holds the refusals. After a wanted change run this file with PROVISION_UPDATE_CASES=1, and read the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.catalog import load_catalog, load_tier
from provision.codec import from_data, to_data
from provision.errors import ProvisionError
from provision.model import Hardware, HostPlan, Reason
from provision.resolve import Choice, resolve
from provision.settings import parse_set

CASES = sorted((Path(__file__).parents[1] / "cases" / "resolve").iterdir())


def planned(case: Path) -> HostPlan:
    given = yaml.safe_load((case / "input.yml").read_text(encoding="utf-8"))
    catalog = load_catalog()
    layers = [("inventory", given.get("inventory", {})), ("--set", parse_set(given.get("set", []), catalog.settings))]
    hardware = from_data(Hardware, json.loads((case / "hardware.json").read_text(encoding="utf-8")), case.name)
    choice = Choice(tuple(given.get("only", ())), tuple(given.get("skip", ())), given.get("assume_gpu", ""))
    return resolve("box", hardware, load_tier(given["tier"]), layers, catalog, choice)


def said(reason: Reason) -> list[str]:
    """A reason as a line, and one more for each thing that it was not."""
    chosen = f"{reason.subject}: {reason.choice} ({reason.because}; {reason.source})"
    return [chosen, *(f"{reason.subject}, not {other}" for other in reason.rejected)]


def essence(plan: HostPlan) -> dict[str, Any]:
    """What a reader of the case wants to see of a plan."""
    defaults = load_catalog().settings.defaults()
    told = to_data(plan)
    return {
        "roles": told["roles"],
        "cards": told["cards"],
        "driver": told["driver"],
        "cuda": told["cuda"],
        "frameworks": told["frameworks"],
        "settings": {name: value for name, value in plan.settings.items() if value != defaults.get(name)},
        "reasons": [line for reason in plan.reasons for line in said(reason)],
        "shortfalls": [f"{s.subject}: {s.documented} documented, {s.found} found" for s in plan.shortfalls],
        "not_managed_yet": sorted(plan.not_managed_yet),
        "warnings": told["warnings"],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    try:
        found: Any = essence(planned(case))
        name = "expected.json"
        text = json.dumps(found, indent=2) + "\n"
    except ProvisionError as error:
        found = [[refusal.subject, refusal.fact, refusal.hint] for refusal in error.refusals]
        name = "expected_refusals.yml"
        text = "---\n" + yaml.safe_dump(found, width=120)
    if os.environ.get("PROVISION_UPDATE_CASES"):
        for old in case.glob("expected*"):
            old.unlink()
        (case / name).write_text(text, encoding="utf-8")
    expected = (case / name).read_text(encoding="utf-8")
    assert found == (json.loads(expected) if name.endswith(".json") else yaml.safe_load(expected))
