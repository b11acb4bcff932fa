"""Negative controls: break each verified thing, and exactly the checks that speak of it fail."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from provision.content import roles_dir
from tests.integration.conftest import Target

pytestmark = pytest.mark.lab


def controls() -> list[Any]:
    found = []
    for path in sorted(roles_dir().glob("*/verify/controls.yml")):
        role = path.parents[1].name
        found += [
            pytest.param(role, control, id=f"{role}: {control['name']}")
            for control in yaml.safe_load(path.read_text(encoding="utf-8"))
        ]
    return found


@pytest.fixture(scope="module")
def proved(box: Target) -> Target:
    answer = box.apply()
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    return box


@pytest.mark.parametrize(("role", "control"), controls())
def test_what_is_broken_is_found(proved: Target, role: str, control: dict[str, Any]) -> None:
    proved.sh(control["break"])
    try:
        answer = proved.verify("--only", role)
    finally:
        proved.sh(control["mend"])
    failed = {check["check"] for check in answer.host("box")["checks"] if check["state"] != "passed"}
    assert failed == set(control["fails"])
    assert answer.code == 4


def test_what_was_mended_is_as_declared_again(proved: Target) -> None:
    answer = proved.verify()
    assert answer.code == 0, answer.out[-4000:]
