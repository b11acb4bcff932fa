"""What every call answers, whatever becomes of it: its report on stdout, and the report's own exit code."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cli_server
import pytest
from jsonschema import Draft202012Validator
from report_cases import CASES, SCHEMA, events_of, report_of

from provision.cli.present import leave, unwritable
from provision.cli.progress import Progress
from provision.events import Event, HostPlanned, TaskStarted
from provision.fold import DECLINED
from provision.ledger import Ledger
from provision.operations.apply import _demand_documented_hardware
from provision.operations.look import Planned
from provision.operations.request import Request
from provision.operations.run import Run

CASE = {case.name: case for case in CASES}


def call(*argv: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    return cli_server.call(*argv, cwd=home.parent, env={**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home)})


@pytest.mark.parametrize(
    ("argv", "code", "fact"),
    [
        (["trust", "nosuch.invalid", "-y"], 3, "does not resolve to an address"),
        (["plan", "--xyzzy"], 2, "was called wrongly: No such option '--xyzzy'."),
        (["plam"], 2, "was called wrongly: there is no command 'plam'; did you mean: provision plan"),
        (["show", "nothing"], 2, "is not in the history"),
    ],
)
def test_a_program_gets_its_document_from_every_call(argv: list[str], code: int, fact: str, tmp_path: Path) -> None:
    done = call(*argv, "--output", "json", home=tmp_path)
    document = json.loads(done.stdout)
    Draft202012Validator(SCHEMA).validate(document)
    told = [*document["refusals"], *(host["failure"] for host in document["hosts"])]
    assert (done.returncode, document["exit_code"], [refusal["fact"] for refusal in told]) == (code, code, [fact])


def test_a_junit_file_that_cannot_be_written_costs_neither_report_nor_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        leave(report_of(CASE["unproved"]), "text", junit=tmp_path / "nowhere" / "x.xml")
    shown = capsys.readouterr()
    assert left.value.code == 4
    assert shown.out.endswith("exit 4: the proof disagrees\n")
    assert shown.err.startswith(f"provision: --junit {tmp_path}/nowhere/x.xml could not be written: No such file")


def test_a_junit_file_that_can_be_written_is(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    for _again in (1, 2):
        assert unwritable(path) == ()
        with pytest.raises(SystemExit):
            leave(report_of(CASE["unproved"]), "text", junit=path)
        assert path.read_text().startswith("<?xml")


def test_doctor_says_where_no_history_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("doctor", "--output", "json", home=tmp_path / "file")
    state = next(row for row in json.loads(done.stdout)["data"]["findings"] if row["name"] == "state")
    fact = f"{tmp_path}/file/provision cannot be created: Not a directory; no history"
    assert (state["state"], state["fact"]) == ("limited", fact)


def test_a_task_of_no_role_is_shown_by_its_name_alone() -> None:
    started = next(event for event in events_of(CASE["changed"]) if isinstance(event, TaskStarted))
    progress = Progress()
    progress.emit(TaskStarted("r", "h", "", "Leave the reboot", 0.0))
    assert progress._lines["h"].doing == "Leave the reboot"
    progress.emit(started)
    assert progress._lines[started.host].doing == f"{started.role}: {started.task}"


def test_the_tiers_of_an_inventory_are_the_run_s(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {hosts: {a.invalid: {tier: studio}, b.invalid: {tier: budget}, c.invalid: {tier: studio}}}")
    report = json.loads(call("plan", "-i", hosts, "--output", "json", home=tmp_path).stdout)
    (kept,) = json.loads(call("history", "--output", "json", home=tmp_path).stdout)["data"]["runs"]
    assert (report["exit_code"], report["tier"], kept["tier"]) == (3, "budget, studio", "budget, studio")


def test_a_box_below_its_tier_is_refused_once_with_all_it_lacks() -> None:
    *_, planned, rejected, _end = events_of(CASE["hardware_too_small"])
    assert isinstance(planned, HostPlanned)
    told: list[Event] = []
    run = cast("Run", SimpleNamespace(id=planned.run, emit=told.append))
    host = cast("Planned", SimpleNamespace(plan=planned.plan))
    _demand_documented_hardware(run, Request(accept_hardware=True), {planned.host: host})
    assert told == []
    _demand_documented_hardware(run, Request(), {planned.host: host})
    assert told == [rejected]


def test_a_declined_apply_is_told_as_one() -> None:
    assert report_of(CASE["declined"]).refusals == (DECLINED,)


def test_history_says_how_to_go_on_with_what_was_interrupted(tmp_path: Path) -> None:
    run = Ledger.open(tmp_path / "provision").begin("apply", ["gpu1"], "budget", ["apply", "gpu1"])
    steps = json.loads(call("history", "--output", "json", home=tmp_path).stdout)["next_steps"]
    assert steps == [f"{run} was interrupted; how to go on: provision show {run}", "provision show RUN"]
