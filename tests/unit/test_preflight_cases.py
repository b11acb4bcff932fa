"""What ssh and the preflight script say, in; what the operator is told, out. One directory a case.

The texts of ssh are OpenSSH 9.2's, taken from real refusals; too-many-keys, outdated-ssh and the bastion's two
forwarding faults are from its source.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_fakes import FakeSsh

from provision.engine.preflight import Found, Requirements, Unfit, preflight
from provision.engine.workspace import Workspace
from provision.model import Host

CASES = sorted((Path(__file__).parents[1] / "cases" / "preflight").iterdir())
NEEDED = Requirements(frozenset({("debian", "12"), ("ubuntu", "22.04")}))


def told(found: Found | Unfit) -> dict[str, Any]:
    if isinstance(found, Unfit):
        refusals = [{"subject": r.subject, "fact": r.fact, "hint": r.hint} for r in found.refusals]
        return {"unreachable": found.unreachable, "refusals": refusals}
    seen = {"user": found.user, "sudo": found.sudo, "python": found.python, "missing": list(found.missing)}
    return {"found": seen}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_preflight_says_what_is_the_case(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = yaml.safe_load((case / "given.yml").read_text(encoding="utf-8"))
    out = given.get("out", "").replace("{now}", str(int(time.time())))
    out = out.replace("{three hours ago}", str(int(time.time()) - 10800))
    fake = FakeSsh(tmp_path, monkeypatch)
    fake.answer(given["code"], out, given.get("err", ""), given.get("settings"))
    host = Host(**given["host"])
    with Workspace([host], user_config=tmp_path / "none") as workspace:
        found = preflight(workspace, NEEDED, given.get("password"))[host.name]
    assert told(found) == yaml.safe_load((case / "expected.yml").read_text(encoding="utf-8"))


def test_the_password_goes_through_stdin_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSsh(tmp_path, monkeypatch)
    fake.answer(255, err="Connection reset by peer")
    kept = tmp_path / "run"
    with Workspace([Host("box")], kept) as workspace:
        preflight(workspace, NEEDED, "correct horse")
    assert "password='correct horse'" in fake.stdin
    assert not [call for call in fake.calls if "correct horse" in call]
    assert not [path for path in kept.rglob("*") if path.is_file() and "correct horse" in path.read_text()]


def test_the_inventorys_sudo_password_stands_above_the_asked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSsh(tmp_path, monkeypatch)
    with Workspace([Host("box", variables={"ansible_become_password": "theirs"})]) as workspace:
        preflight(workspace, NEEDED, "asked")
    assert "password=theirs\n" in fake.stdin
