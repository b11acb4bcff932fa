"""Negative controls: break each verified thing, and exactly the checks that speak of it fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.content import roles_dir
from provision.solver import AREAS, GPU_ROLES
from tests.integration.conftest import Target, broken, controls_of
from tests.standins.hub import Hub

pytestmark = pytest.mark.lab


def controls() -> list[Any]:
    roles = sorted(path.parents[1].name for path in roles_dir().glob("*/verify/controls.yml"))
    return [
        pytest.param(role, control, id=f"{role}: {control['name']}")
        for role in roles
        if role not in (*GPU_ROLES, *AREAS)  # AREAS: on a virtual machine, in the role's own file
        for control in controls_of(role)
    ]


@pytest.fixture(scope="module")
def tier(box: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The budget tier with one declared model: the control of an altered model needs one to alter."""
    with Hub(box.sh("ip -4 route show default").split()[2]) as hub:
        model = hub.add("acme/tiny", {"weights.bin": bytes(range(256)) * 100, "config.json": b"{}\n"})
        settings = {"model_cache_models": [model.manifest()], "model_cache_endpoint": hub.endpoint}
        path = tmp_path_factory.mktemp("tier") / "declared.yml"
        path.write_text(yaml.safe_dump({"extends": "budget", "settings": settings}), encoding="utf-8")
        yield path


@pytest.fixture(scope="module")
def proved(box: Target, tier: Path) -> Target:
    answer = box.apply(tier=tier)
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    return box


@pytest.mark.parametrize(("role", "control"), controls())
def test_what_is_broken_is_found(proved: Target, tier: Path, role: str, control: dict[str, Any]) -> None:
    answer = broken(proved, [control], lambda: proved.verify("--only", role, tier=tier))
    assert answer.failed("box") == set(control["fails"])
    assert answer.code == 4


def test_what_was_mended_is_as_declared_again(proved: Target, tier: Path) -> None:
    answer = proved.verify(tier=tier)
    assert answer.code == 0, answer.out[-4000:]
