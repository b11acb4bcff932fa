"""Events in, report out: each directory of cases/report holds a stream of events and what it must come to.

After a change that is meant, `PROVISION_UPDATE_CASES=1 pytest tests/unit/test_fold_cases.py` writes the expectations
anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from report_cases import CASES, SCHEMA, compare, report_of

from provision.cli.render import json_document, text

# What the operator is told to do next, case by case: the exit code and the state of each host.
VERDICTS = {
    "all_ok": (0, ["converged"]),
    "changed": (0, ["converged"]),
    "check_mode": (0, ["planned"]),
    "check_mode_nothing_to_do": (0, ["planned"]),
    "check_mode_without_python": (0, ["planned"]),
    "dead_controller": (130, ["interrupted"]),
    "declined": (2, ["refused"]),
    "failed_and_unreachable": (1, ["failed", "unreachable", "converged"]),
    "failed_task": (1, ["failed"]),
    "hardware_too_small": (2, ["refused"]),
    "interrupted": (130, ["interrupted", "failed"]),
    "left_without_result": (1, ["failed"]),
    "machine": (4, ["converged", "unproved"]),
    "next_steps_given": (0, ["verified"]),
    "no_check_for_a_role": (4, ["unproved"]),
    "no_events": (130, []),
    "not_verified": (0, ["converged"]),
    "plan": (0, ["planned"]),
    "plan_gpus": (0, ["planned", "planned"]),
    "plan_interrupted": (130, ["planned", "interrupted"]),
    "refused_input": (2, ["refused", "planned"]),
    "refused_run": (2, ["refused"]),
    "skipped_check": (4, ["unproved"]),
    "two_hosts": (0, ["converged", "converged"]),
    "unproved": (4, ["unproved"]),
    "unreachable": (3, ["unreachable"]),
    "reboot_due": (0, ["converged"]),
    "verified": (0, ["verified"]),
    "verify_unproved": (4, ["unproved"]),
    "verify_without_checks": (4, ["unproved"]),
}


def test_every_case_has_its_verdict() -> None:
    assert [case.name for case in CASES] == sorted(VERDICTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case: Path) -> None:
    report = report_of(case)
    assert (report.exit_code, [outcome.state for outcome in report.hosts]) == VERDICTS[case.name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_document_is_as_kept(case: Path) -> None:
    told = json.dumps(json_document(report_of(case)), indent=1) + "\n"
    compare(case / "expected.json", told)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_text_is_as_kept(case: Path) -> None:
    compare(case / "expected.txt", text(report_of(case), color=False))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_document_obeys_its_schema(case: Path) -> None:
    faults = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(json_document(report_of(case)))]
    assert not faults


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_state_that_is_not_good_says_why_and_what_next(case: Path) -> None:
    report = report_of(case)
    for outcome in report.hosts:
        good = outcome.state in ("converged", "planned", "verified")
        assert (outcome.failure is None) == good
        assert good or (outcome.failure and outcome.failure.fact and outcome.failure.hint)
    assert report.exit_code == 0 or report.next_steps or not report.hosts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_secret_of_the_stream_is_shown(case: Path) -> None:
    report = report_of(case)
    shown = text(report, verbose=True) + json.dumps(json_document(report))
    assert "s3cret" not in shown
    assert "hunter2" not in shown
    assert "\x1b" not in shown
