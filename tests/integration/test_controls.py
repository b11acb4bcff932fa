"""Negative controls: break each verified thing, and exactly the checks that speak of it fail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.content import roles_dir
from provision.solver import GPU_ROLES
from tests.integration.conftest import Target
from tests.integration.driver_host import GpuBox
from tests.standins.hub import Hub

pytestmark = pytest.mark.lab

# Roles that a container does not get: the tests of their own files break them on a virtual machine.
ON_MACHINES = ("cooling",)


def of_role(role: str) -> list[dict[str, Any]]:
    path = roles_dir() / role / "verify/controls.yml"
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def controls() -> list[Any]:
    roles = sorted(path.parents[1].name for path in roles_dir().glob("*/verify/controls.yml"))
    return [
        pytest.param(role, control, id=f"{role}: {control['name']}")
        for role in roles
        if role not in (*GPU_ROLES, *ON_MACHINES)
        for control in of_role(role)
    ]


def rounds() -> list[dict[str, dict[str, Any]]]:
    """The GPU roles' controls, one of each role at a time: a proof costs the same for one role as for five."""
    each = [[(role, control) for control in of_role(role)] for role in GPU_ROLES]
    return [dict(pair for pair in row if pair) for row in zip_longest(*each)]


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
    proved.sh(control["break"])
    try:
        answer = proved.verify("--only", role, tier=tier)
    finally:
        proved.sh(control["mend"])
    failed = {check["check"] for check in answer.host("box")["checks"] if check["state"] != "passed"}
    assert failed == set(control["fails"])
    assert answer.code == 4


def test_what_was_mended_is_as_declared_again(proved: Target, tier: Path) -> None:
    answer = proved.verify(tier=tier)
    assert answer.code == 0, answer.out[-4000:]


@pytest.mark.parametrize("together", rounds(), ids=lambda row: "; ".join(control["name"] for control in row.values()))
def test_what_is_broken_on_a_gpu_box_is_found(gpu_box: GpuBox, together: dict[str, dict[str, Any]]) -> None:
    for control in together.values():
        gpu_box.host.sh(control["break"])
    try:
        answer = gpu_box.verify(*together)
    finally:
        for control in reversed(together.values()):
            gpu_box.host.sh(control["mend"])
    checks = answer.host(gpu_box.name)["checks"]
    failed = {(check["role"], check["check"]) for check in checks if check["state"] not in ("passed", "skipped")}
    expected = {(role, name) for role, control in together.items() for name in control["fails"]}
    assert failed == expected - gpu_box.unproved


def test_what_was_mended_on_a_gpu_box_is_as_declared_again(gpu_box: GpuBox) -> None:
    answer = gpu_box.verify(*GPU_ROLES)
    states = {check["state"] for check in answer.host(gpu_box.name)["checks"]}
    assert states == {"passed", "skipped"}
