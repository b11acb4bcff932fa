"""Rounds of negative controls: what may stand together, what is compared, and what is said of a control that fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provision.content import roles_dir
from tests.integration.rounds import Control, controls, fails_of, name_of, packed, prove_broken, rounds

ROLES = sorted(path.parents[1].name for path in roles_dir().glob("*/verify/controls.yml"))


def control(name: str, *checks: str, role: str = "lamp", alone: str = "", **scripts: str) -> Control:
    given = {"breaking": f"touch {name}", "mending": f"rm {name}", **scripts}
    fails = frozenset((role, check) for check in checks)
    return Control(role=role, name=name, fails=fails, alone=alone, **given)


@dataclass
class Here:
    """A folder of this machine in the place of a target, with what its proof says: each file there is a fault."""

    folder: Path
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    states: list[dict[str, str]] = field(default_factory=list)
    code: int = 4
    asked: list[str] = field(default_factory=list)
    name: str = "here"

    def sh(self, script: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ["sh", "-s"], cwd=self.folder, input=script, capture_output=True, text=True, timeout=60, check=check
        )
        return done.stdout

    def verify(self, roles: Sequence[str]) -> Here:
        self.asked.extend(roles)
        found = [pair for file in sorted(self.files()) for pair in self.faults.get(file, [])]
        sound = [("lamp", "test_always_passes")]
        self.states += [{"role": role, "check": check, "state": "failed"} for role, check in found]
        self.states += [{"role": role, "check": check, "state": "passed"} for role, check in sound]
        return self

    def host(self, name: str) -> dict[str, Any]:
        assert name == self.name
        return {"checks": self.states}

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def names(found: list[list[Control]]) -> list[list[str]]:
    return [[each.name for each in row] for row in found]


def test_no_two_of_a_round_share_a_check_of_a_role() -> None:
    every = [control("a", "x"), control("b", "x", "y"), control("c", "z"), control("d", "y"), control("e", "x")]
    assert names(packed(every)) == [["a", "c", "d"], ["b"], ["e"]]


def test_the_same_check_of_another_role_is_another_check() -> None:
    assert names(packed([control("a", "x"), control("b", "x", role="fan")])) == [["a", "b"]]


def test_who_stands_alone_stands_with_nobody_before_or_after() -> None:
    every = [control("a", "x"), control("b", "y", alone="it hides the others"), control("c", "z", role="fan")]
    assert names(packed(every)) == [["a", "c"], ["b"]]
    assert names(packed(every[1:])) == [["b"], ["c"]]


def test_all_controls_stand_in_exactly_one_round() -> None:
    every = [each for role in ROLES for each in controls(role)]
    found = rounds(ROLES)
    assert sorted(str(each) for row in found for each in row) == sorted(map(str, every))
    for row in found:
        assert sum(len(each.fails) for each in row) == len(fails_of(row))
    assert len(found) < len(every) / 3


def test_what_is_left_out_is_known_and_in_no_round() -> None:
    first = controls(ROLES[0])[0]
    assert first not in [each for row in rounds(ROLES, [first.name]) for each in row]
    with pytest.raises(AssertionError, match="leave_out"):
        rounds(ROLES, ["there is no such control"])


def test_a_round_is_named_by_its_first_and_how_many_there_are() -> None:
    assert name_of([control("a", "x")]) == "lamp: a"
    assert name_of([control("a", "x"), control("b", "y")]) == "2 at once, lamp: a"


PAIR = [control("a", "x"), control("b", "y", role="fan")]
FOUND = {"a": [("lamp", "x")], "b": [("fan", "y")]}


def test_all_is_broken_found_and_mended(tmp_path: Path) -> None:
    here = Here(tmp_path, FOUND)
    prove_broken(here, PAIR, here.verify)
    assert here.asked == ["lamp", "fan"]
    assert here.files() == set()


@pytest.mark.parametrize(
    "faults",
    [{"a": [("lamp", "x")]}, {**FOUND, "b": [("lamp", "y")]}, {**FOUND, "a": [("lamp", "x"), ("lamp", "z")]}],
    ids=["one is not found", "the check of another role", "one check more"],
)
def test_whatever_else_fails_is_told(tmp_path: Path, faults: dict[str, list[tuple[str, str]]]) -> None:
    here = Here(tmp_path, faults)
    with pytest.raises(AssertionError):
        prove_broken(here, PAIR, here.verify)
    assert here.files() == set()


def test_another_exit_code_is_told(tmp_path: Path) -> None:
    here = Here(tmp_path, FOUND, code=0)
    with pytest.raises(AssertionError):
        prove_broken(here, PAIR, here.verify)


def test_only_what_is_known_to_be_unproved_may_be_skipped(tmp_path: Path) -> None:
    skips = [{"role": "fan", "check": "y", "state": "skipped"}]
    prove_broken(Here(tmp_path), PAIR, Here(tmp_path, {"a": FOUND["a"]}, skips).verify, [("fan", "y")])
    with pytest.raises(AssertionError):
        prove_broken(Here(tmp_path), PAIR, Here(tmp_path, {"a": FOUND["a"]}, skips).verify)


def test_a_proof_of_nothing_is_none(tmp_path: Path) -> None:
    empty = Here(tmp_path)
    with pytest.raises(AssertionError, match="nothing was proved"):
        prove_broken(empty, PAIR, lambda _: empty)


def test_who_cannot_be_broken_is_named_and_those_before_are_mended(tmp_path: Path) -> None:
    """Though its last command is content: each runs under `set -e`."""
    here = Here(tmp_path, FOUND)
    bad = control("b", "y", breaking="false\ntouch b")
    with pytest.raises(AssertionError, match="lamp: b: its break failed"):
        prove_broken(here, [control("a", "x"), bad, control("c", "z")], here.verify)
    assert here.asked == []
    assert here.files() == set()


def test_who_cannot_be_mended_is_named_and_the_others_are_mended(tmp_path: Path) -> None:
    here = Here(tmp_path, FOUND)
    bad = control("b", "y", role="fan", mending="ls nowhere; rm b")
    with pytest.raises(AssertionError, match=r"the mend failed of \['fan: b'\][\s\S]*nowhere"):
        prove_broken(here, [control("a", "x"), bad], here.verify)
    assert here.files() == {"b"}


def test_they_are_mended_also_where_the_proof_fails(tmp_path: Path) -> None:
    def fails(roles: Sequence[str]) -> Here:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        prove_broken(Here(tmp_path), PAIR, fails)
    assert list(tmp_path.iterdir()) == []


def test_the_last_broken_is_mended_first_and_none_reads_the_others_script(tmp_path: Path) -> None:
    write = "{ echo $0; cat; } > /dev/null; echo %s >> log"
    row = [control(name, name, breaking=write % f"break-{name}", mending=write % f"mend-{name}") for name in "abc"]
    here = Here(tmp_path, {"log": [("lamp", name) for name in "abc"]})
    prove_broken(here, row, here.verify)
    assert (tmp_path / "log").read_text().split() == [
        "break-a", "break-b", "break-c", "mend-c", "mend-b", "mend-a",
    ]  # fmt: skip


def test_a_piece_of_many_lines_and_a_document_of_its_own_is_run(tmp_path: Path) -> None:
    text = "cat > a <<'END'\none\nEND\ncd /\n"
    here = Here(tmp_path, FOUND)
    prove_broken(here, [control("a", "x", breaking=text), PAIR[1]], here.verify)
    assert here.files() == set()
