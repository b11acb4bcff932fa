"""What lspci printed on real boxes in, GPUs and NVSwitches out. The lines are typed anew, and name no serials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_cases import compare

from provision import codec
from provision.lspci import parse

CASES = sorted((Path(__file__).parents[1] / "cases" / "lspci").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cards_of_a_box(case: Path) -> None:
    gpus, nvswitches = parse((case / "lspci.txt").read_text(encoding="utf-8"), "it")
    told = {"gpus": codec.to_data(gpus), "nvswitches": list(nvswitches)}
    compare(case / "expected.json", json.dumps(told, indent=1) + "\n")
