"""Reports as text and JUnit beyond what the cases show: colour, verbosity, tables, and hostile words from hosts."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from report_cases import CASES, events_of, report_of

from provision.cli.junit import junit
from provision.cli.page import Page, plain
from provision.cli.render import text
from provision.events import CheckFinished, Event, RunFinished, RunStarted, TaskFinished
from provision.fold import fold, preview
from provision.model import Refusal
from provision.report import HostOutcome, Report

CASE = {case.name: case for case in CASES}


def suites(report: Report) -> dict[str, dict[str, Any]]:
    """name -> the counts of a suite, and its cases with what went wrong in each."""
    told = {}
    for suite in ET.fromstring(junit(report)):
        cases = [(case.get("classname"), case.get("name"), [child.tag for child in case]) for case in suite]
        told[suite.get("name", "")] = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} | {
            "cases": cases
        }
    return told


def test_colour_only_when_asked() -> None:
    report = report_of(CASE["unproved"])
    assert "\x1b[" not in text(report)
    painted = text(report, color=True)
    assert "\x1b[33munproved\x1b[0m" in painted
    assert "".join(part.split("m", 1)[1] for part in ("m" + painted).split("\x1b[")) == text(report)


def test_verbose_tells_every_task_check_and_setting() -> None:
    short, long = (text(report_of(CASE["all_ok"]), verbose=verbose) for verbose in (False, True))
    for word in ("docker: Configure the daemon", "docker/test_a_container_runs", "docker_data_root"):
        assert word in long
        assert word not in short


def test_verbose_tells_what_was_not_chosen() -> None:
    short, long = (text(report_of(CASE["plan_gpus"]), verbose=verbose) for verbose in (False, True))
    assert "not 595: a production branch; 580 is long-term\n" in long
    assert "595" not in short


def test_long_words_of_a_host_are_cut_unless_all_is_asked_for() -> None:
    check = CheckFinished("r", "h", "base", "test_x", "failed", 0.1, "\n".join(f"line {n}" for n in range(20)))
    report = Report("verify", hosts=(HostOutcome("h", "unproved", checks=(check,)),))
    assert "line 7\n" in text(report)
    assert "line 8" not in text(report)
    assert "... 12 more lines: add --verbose" in text(report)
    assert "line 19" in text(report, verbose=True)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[2J\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07done", "done"),
        ("a\x9b1mb\x00c\rd", "a1mbcd"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("grüße 日本", "grüße 日本"),
    ],
)
def test_a_host_cannot_move_the_cursor(said: str, shown: str) -> None:
    assert plain(said) == shown


def test_tables_align_and_a_wide_cell_pushes_its_own_row_only() -> None:
    page = Page(color=False)
    page.table([("a", "b"), ("x" * 60, "c"), ("aaa", "d")], head=("one", "two"))
    lines = str(page).splitlines()
    assert lines[0] == "one" + " " * 51 + "two"
    assert lines[2] == "x" * 60 + "  c"
    assert lines[3].index("d") == lines[0].index("two")


def test_rows_of_a_verb_are_a_table() -> None:
    findings = [
        {"name": "python", "state": "good", "fact": "3.11", "remedy": ""},
        {"name": "ssh", "state": "bad", "fact": "no ssh", "remedy": "apt-get install openssh-client"},
    ]
    shown = text(Report("doctor", data={"findings": findings}, ok=False))
    assert shown.splitlines() == [
        "state  name    fact    remedy",
        "good   python  3.11",
        "bad    ssh     no ssh  apt-get install openssh-client",
        "",
        "exit 1: not everything is sound",
    ]


def test_an_empty_list_says_so() -> None:
    assert text(Report("history", data={"runs": []})) == "no runs\n"


def test_a_mapping_is_names_and_values() -> None:
    tier = {"name": "mine", "hardware": {"memory_gib": 64, "gpus": [{"name": "x", "count": 2}]}, "roles": ["a", "b"],
            "settings": {"reboot": False}, "workloads": []}  # fmt: skip
    assert text(Report("tiers show", data={"tier": tier})).splitlines() == [
        "tier",
        "  name       mine",
        "  hardware",
        "    memory gib  64",
        "    gpus",
        "      name: x, count: 2",
        "  roles      a, b",
        "  settings",
        "    reboot  no",
    ]


def test_a_refused_verb_says_what_and_how() -> None:
    report = Report("apply", refusals=(Refusal("tier budgget", "is not known", "did you mean budget?"),))
    assert text(report) == (
        "tier budgget is not known\n  did you mean budget?\n\nexit 2: the input is wrong; nothing was touched\n"
    )


def test_a_run_that_is_not_kept_warns() -> None:
    report = Report(
        "plan",
        run="r",
        data={"history": "not kept: the disk is full", "seconds": {"look": 1.26}},
        finished=75.0,
        started=1.0,
    )
    shown = text(report)
    assert "warning: this run is not kept: the disk is full" in shown
    assert "1 min 14 s (look 1.3 s)" in shown


def test_preview_shows_the_plan_before_the_question() -> None:
    report = preview(events_of(CASE["changed"])[:3])
    assert [outcome.state for outcome in report.hosts] == ["planned"]
    assert report.exit_code == 0
    assert report.next_steps == ()
    assert "there is no second disk" in text(report)
    assert text(report, verdict=False) == text(report).removesuffix("\nexit 0: planned; nothing was changed\n")


def test_a_stream_cut_anywhere_is_never_a_success() -> None:
    for name in ("all_ok", "changed", "two_hosts", "verified", "check_mode", "plan"):
        events = events_of(CASE[name])
        assert fold(events).exit_code == 0
        for cut in range(len(events)):
            assert fold(events[:cut]).exit_code == 130


def test_again_is_the_same_command_and_make_it_so_is_not_a_check() -> None:
    argv = (
        "apply",
        "--check",
        "--output",
        "json",
        "--report",
        "r.html",
        "--set=a b",
        "-i",
        "inv",
        "--reboot",
        "allow",
        "h",
    )
    events: list[Event] = [
        RunStarted("r", "apply", ("h",), 1.0, None, True, argv),
        TaskFinished("r", "h", "base", "t", "changed", 1.0),
    ]
    assert fold([*events, RunFinished("r", 2.0)]).next_steps == (
        "make it so: provision apply '--set=a b' -i inv --reboot allow h",
    )
    assert fold(events).next_steps == (
        "run again to go on where it stopped: "
        "provision apply --check --output json --report r.html '--set=a b' -i inv --reboot allow h",
    )


def test_what_is_carried_to_verify() -> None:
    argv = ("apply", "--yes", "--reboot", "allow", "--accept-hardware", "-i", "inv", "--limit", "h")
    events: list[Event] = [
        RunStarted("r", "apply", ("h",), 1.0, None, False, argv),
        TaskFinished("r", "h", "base", "t", "ok", 1.0),
        CheckFinished("r", "h", "base", "c", "failed", 1.0),
        RunFinished("r", 2.0),
    ]
    assert fold(events).next_steps == ("when it is mended, prove it: provision verify -i inv --limit h",)


def test_junit_counts_what_the_report_counts() -> None:
    told = suites(report_of(CASE["unproved"]))["a.example"]
    assert told == {
        "tests": "3", "failures": "1", "errors": "1", "skipped": "0",
        "cases": [
            ("base", "test_time_is_synchronised", []),
            ("docker", "test_a_container_runs", ["failure"]),
            ("docker", "test_logs_rotate", ["error"]),
        ],
    }  # fmt: skip


def test_junit_tells_a_skip_a_failed_task_and_hosts_that_did_not_get_there() -> None:
    assert suites(report_of(CASE["skipped_check"]))["a.example"]["skipped"] == "1"
    mixed = suites(report_of(CASE["failed_and_unreachable"]))
    assert mixed["a.example"]["cases"] == [("base", "task: Write the settings", ["failure"])]
    assert mixed["b.example"]["cases"] == [("provision", "unreachable", ["error"])]
    assert mixed["c.example"]["tests"] == "3"
    assert len(suites(report_of(CASE["refused_input"]))["a.example"]["cases"]) == 2
    assert suites(report_of(CASE["refused_run"]))["provision"]["errors"] == "1"
    assert suites(report_of(CASE["no_check_for_a_role"]))["a.example"]["errors"] == "1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_junit_is_red_exactly_when_the_exit_code_is(case: Any) -> None:
    """But for a stream without one event, which names no host."""
    report = report_of(case)
    red = any(suite[key] != "0" for suite in suites(report).values() for key in ("failures", "errors", "skipped"))
    assert red == (report.exit_code != 0) or not (report.hosts or report.refusals)


def test_junit_holds_what_xml_cannot() -> None:
    check = CheckFinished("r", "h", "base", "test_x", "failed", 0.1, "a\x00b\x1b[31m <&> \ud800 token=abc123")
    told = junit(Report("verify", hosts=(HostOutcome("h", "unproved", checks=(check,)),)))
    failure = ET.fromstring(told).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.text == "ab[31m <&>  token=[redacted]"
