"""Negative controls in rounds: several things are broken together, one proof finds each of them, all are mended.

A proof costs nearly the same for one control as for twenty. Controls stand in one round as long as no two of them fail
the same check of a role, and none of them stands alone by its own word (`alone: REASON` in a role's controls.yml).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from provision.content import roles_dir

Check = tuple[str, str]  # the role and the name of its check


class Host(Protocol):
    """What is broken: root's hands on a target."""

    @property
    def name(self) -> str: ...

    def sh(self, script: str, *, check: bool = True) -> str: ...


class Proof(Protocol):
    """What `provision verify` came to."""

    @property
    def code(self) -> int: ...

    def host(self, name: str) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Control:
    """One thing that a role declares and that is broken on purpose."""

    role: str
    name: str
    breaking: str
    fails: frozenset[Check]
    mending: str
    alone: str = ""  # why nothing else may be broken with it

    def __str__(self) -> str:
        return f"{self.role}: {self.name}"


def controls(role: str) -> list[Control]:
    """A role's negative controls, as its controls.yml has them."""
    path = roles_dir() / role / "verify" / "controls.yml"
    return [
        Control(
            role, each["name"], each["break"], frozenset((role, check) for check in each["fails"]), each["mend"],
            each.get("alone", ""),
        )
        for each in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]  # fmt: skip


def fails_of(together: Iterable[Control]) -> frozenset[Check]:
    """The checks that fail while all of these are broken."""
    return frozenset().union(*(control.fails for control in together))


def packed(every: Iterable[Control]) -> list[list[Control]]:
    """Each control in the first round that has no other control of its checks, in the order in which they are given."""
    found: list[list[Control]] = []
    for control in every:
        open_to_it = (row for row in found if not control.alone and not row[0].alone)
        row = next((row for row in open_to_it if not fails_of(row) & control.fails), None)
        if row is None:
            found.append([control])
        else:
            row.append(control)
    return found


def rounds(roles: Iterable[str], leave_out: Collection[str] = ()) -> list[list[Control]]:
    """The controls of these roles, packed; `leave_out` has the names of those that this host cannot hold."""
    every = [control for role in roles for control in controls(role)]
    assert set(leave_out) <= {control.name for control in every}, "leave_out names a control that there is not"
    return packed(control for control in every if control.name not in leave_out)


def name_of(together: Sequence[Control]) -> str:
    """A round's name as a parameter of a test: how many stand in it, and the first."""
    return f"{len(together)} at once, {together[0]}" if len(together) > 1 else str(together[0])


def prove_broken(
    host: Host,
    together: Sequence[Control],
    verify: Callable[[Sequence[str]], Proof],
    unproved: Collection[Check] = (),
) -> None:
    """Break all of a round, prove the roles concerned once, mend: exactly the checks of its controls have failed.

    `unproved` are the checks that this host always skips, because they ask a card that it lacks.
    """
    break_all(host, together)
    try:
        proof = verify(list(dict.fromkeys(control.role for control in together)))
    finally:
        mend_all(host, together)
    checks = proof.host(host.name)["checks"]
    assert checks, f"nothing was proved while {', '.join(map(str, together))} were broken"
    skipped = {(check["role"], check["check"]) for check in checks if check["state"] == "skipped"}
    failed = {(check["role"], check["check"]) for check in checks if check["state"] not in ("passed", "skipped")}
    assert skipped <= set(unproved)
    assert failed == fails_of(together) - set(unproved)
    assert proof.code == 4


def break_all(host: Host, together: Sequence[Control]) -> None:
    """Break each in turn. Where one cannot be broken, those before it are mended again, and it is named."""
    told = host.sh(script([(number, control.breaking) for number, control in enumerate(together)]), check=False)
    broken = together[: len(_done(told))]
    if len(broken) < len(together):
        mend_all(host, broken)
        raise AssertionError(f"{together[len(broken)]}: its break failed\n{told}")


def mend_all(host: Host, together: Sequence[Control]) -> None:
    """Mend each, the last broken first. One that cannot be mended stops none of the others, and is named."""
    pieces = [(number, control.mending) for number, control in enumerate(together)]
    told = host.sh(script(pieces[::-1], go_on=True), check=False)
    done = _done(told)
    left = [str(control) for number, control in enumerate(together) if number not in done]
    assert left == [], f"the mend failed of {left}\n{told}"


def script(pieces: Iterable[tuple[int, str]], *, go_on: bool = False) -> str:
    """One script of many, each under `set -e` in a shell of its own; a line says which ended well."""
    # `set -e` has no effect inside a compound that is tested, so the exit status is looked at afterwards.
    after = 'if [ $? = 0 ]; then echo "{mark} {number}"; else {otherwise}; fi'
    otherwise = ":" if go_on else "exit 1"
    parts = [
        f"(\nset -e\n{piece}\n) < /dev/null 2>&1\n" + after.format(mark=MARK, number=number, otherwise=otherwise)
        for number, piece in pieces
    ]
    return "\n".join(parts) + "\n"


MARK = "round: done with"


def _done(told: str) -> set[int]:
    """The numbers of the pieces that ended well."""
    lines = told.splitlines()
    return {int(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)}
