"""Negative controls: break each verified thing, and exactly the checks that speak of it fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from provision.content import roles_dir
from provision.solver import AREAS, GPU_ROLES
from tests.integration.conftest import Answer
from tests.integration.rounds import Control, name_of, prove_broken, rounds
from tests.integration.whole_box import ROLES, WholeBox

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("box")]


def test_every_role_is_broken_here_or_in_a_file_of_its_own() -> None:
    """GPU_ROLES: in test_gpu_box.py; AREAS: on a virtual machine, in the role's own file."""
    with_controls = {path.parents[1].name for path in roles_dir().glob("*/verify/controls.yml")}
    assert with_controls == {*ROLES, *GPU_ROLES, *AREAS}


@pytest.mark.parametrize("together", rounds(ROLES), ids=name_of)
def test_what_is_broken_is_found(box: WholeBox, together: list[Control]) -> None:
    def verify(roles: Sequence[str]) -> Answer:
        return box.verify(*(word for role in roles for word in ("--only", role)))

    prove_broken(box.proved, together, verify)


def test_what_was_mended_is_as_declared_again(box: WholeBox) -> None:
    assert box.proved
    answer = box.verify()
    assert answer.code == 0, answer.out[-4000:]
