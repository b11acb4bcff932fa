"""A report as text for a person, and as the one JSON document for a program (docs/report.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from provision import codec
from provision.cli import hosttext
from provision.cli.page import BOLD, DIM, GREEN, RED, YELLOW, Page, Segment
from provision.fold import DECLINED
from provision.redact import redact_data
from provision.report import HostOutcome, Report

SCHEMA = "provision/report/1"

MEANING = {
    0: "as declared",
    1: "a host failed",
    2: "the input is wrong",
    3: "hosts could not be reached",
    4: "the proof disagrees",
    5: "halted by policy",
    130: "interrupted",
}

# What of a list in `Report.data` a person wants to see, in this order; lists that are not named here are shown whole.
COLUMNS = {
    "tiers": ("name", "title", "summary"),
    "findings": ("state", "name", "fact", "remedy"),
    "runs": ("run", "verb", "tier", "hosts", "status", "changed", "started"),
    "images": ("name", "summary"),
    "targets": ("name", "kind", "address", "port", "user", "image", "running"),
}

# Entries of `Report.data` that stand elsewhere in the text: a run's seconds of its phases, that it is still going on,
# why the history does not keep it, and what was decided for each host.
TOLD_ELSEWHERE = ("seconds", "running", "history", "decisions")

STYLES = {
    "good": GREEN, "ok": GREEN, "limited": YELLOW, "running": YELLOW, "interrupted": YELLOW, "unproved": YELLOW,
    "unreachable": YELLOW, "bad": RED, "failed": RED, "refused": RED, "halted": RED,
}  # fmt: skip


def text(report: Report, *, color: bool = False, verbose: bool = False, verdict: bool = True) -> str:
    """The report as lines; `verbose` adds every task, check and setting. Colour is ANSI, and only when asked for.

    Without `verdict` the closing line is left out: what is about to be done has no exit code yet.
    """
    page = Page(color=color)
    if report.hosts or report.run:
        page.line((headline(report), BOLD))
        page.gap()
    hosttext.hosts(page, report, verbose=verbose)
    for key, value in report.data.items():
        if key not in TOLD_ELSEWHERE:
            page.gap()
            _data(page, key, value)
    if report.data.get("history"):
        page.gap()
        page.line(("warning: ", YELLOW), f"this run is {report.data['history']}")
    _refusals(page, report)
    if report.next_steps:
        page.gap()
        page.line(("next", BOLD))
        for step in report.next_steps:
            page.line(step, indent=2)
    if verdict and (report.exit_code or report.hosts):
        page.gap()
        page.line((f"exit {report.exit_code}: {meaning(report)}", GREEN if report.exit_code == 0 else RED))
    return str(page)


def json_document(report: Report) -> dict[str, Any]:
    """The document that `--output json` prints for every verb; schemas/report.schema.json describes it."""
    document = {
        "schema": SCHEMA,
        "verb": report.verb,
        "status": report.status,
        "exit_code": report.exit_code,
        "run": report.run,
        "tier": report.tier,
        "started": _iso(report.started),
        "finished": _iso(report.finished),
        "check_mode": report.check_mode,
        "interrupted": report.interrupted,
        "hosts": [_host(outcome) for outcome in report.hosts],
        "refusals": codec.to_data(report.refusals),
        "next_steps": list(report.next_steps),
        "data": codec.to_data(dict(report.data)),
    }
    redacted: dict[str, Any] = redact_data(document)
    return redacted


def _host(outcome: HostOutcome) -> dict[str, Any]:
    tasks = Counter(task.state for task in outcome.tasks)
    checks = Counter(check.state for check in outcome.checks)
    return {
        "host": outcome.host,
        "state": outcome.state,
        "refusals": codec.to_data(outcome.refusals),
        "failure": codec.to_data(outcome.failure) if outcome.failure else None,
        "task_counts": {state: tasks[state] for state in ("ok", "changed", "failed", "skipped", "unreachable")},
        "check_counts": {state: checks[state] for state in ("passed", "failed", "skipped", "error")},
        "tasks": [_without_place(task) for task in outcome.tasks],
        "checks": [_without_place(check) for check in outcome.checks],
        "hardware": codec.to_data(outcome.hardware) if outcome.hardware else None,
        "plan": codec.to_data(outcome.plan) if outcome.plan else None,
    }


def _without_place(event: Any) -> dict[str, Any]:
    """A task or check without run and host, which stand above it in the document."""
    told = {key: value for key, value in codec.to_data(event).items() if key not in ("run", "host")}
    return {**told, "started": _iso(event.started)}


def _iso(moment: float) -> str | None:
    """ISO 8601 in UTC; None for a report of no run."""
    if not moment:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def headline(report: Report) -> str:
    """`apply, tier budget, 2 hosts, 40 s (look 1.2 s, ...), run ...`."""
    count = len(report.hosts)
    parts = [report.verb + (" in check mode" if report.check_mode else "")]
    parts += [f"tier {report.tier}"] if report.tier else []
    parts += [f"{count} host{'' if count == 1 else 's'}"]
    if report.finished > report.started > 0:
        phases = ", ".join(f"{name} {hosttext.duration(took)}" for name, took in report.data.get("seconds", {}).items())
        parts.append(hosttext.duration(report.finished - report.started) + (f" ({phases})" if phases else ""))
    parts += [f"run {report.run}"] if report.run else []
    return ", ".join(parts) + (", still running" if report.data.get("running") else "")


def meaning(report: Report) -> str:
    """The exit code in words."""
    if report.exit_code == 0 and report.check_mode:
        return "foretold; nothing was changed"
    if report.exit_code == 0 and report.hosts and all(outcome.state == "planned" for outcome in report.hosts):
        return "planned; nothing was changed"
    if DECLINED in report.refusals:
        return "declined; nothing was touched"
    if report.exit_code == 2 and not any(outcome.tasks for outcome in report.hosts):
        return "the input is wrong; nothing was touched"
    if report.exit_code == 1 and not report.hosts:
        return "not everything is sound"
    return MEANING[report.exit_code]


def _refusals(page: Page, report: Report) -> None:
    if report.refusals:
        page.gap()
    for refusal in report.refusals:
        page.paragraph(str(refusal), indent=0, style=RED)
        page.line(refusal.hint, indent=2)


def _data(page: Page, key: str, value: Any) -> None:
    """What is particular to a verb: a list of rows as a table, everything else as names and values."""
    if isinstance(value, list | tuple) and value and all(isinstance(row, Mapping) for row in value):
        chosen = COLUMNS.get(key, tuple(value[0]))
        columns = [name for name in chosen if any(row.get(name) not in (None, "") for row in value)]
        page.table(([_cell(name, row.get(name)) for name in columns] for row in value), head=columns)
    elif isinstance(value, Mapping):
        page.line((_title(key), BOLD))
        _mapping(page, value, indent=2)
    elif isinstance(value, list | tuple) and not value:
        page.line((f"no {_title(key)}", DIM))
    else:
        page.line((f"{_title(key)}: ", BOLD), _words(value))


def _mapping(page: Page, value: Mapping[str, Any], *, indent: int) -> None:
    """Names and values; what lies deeper stands below its name."""
    width = max((len(_title(key)) for key in value), default=0)
    for key, item in value.items():
        if item in (None, "", [], {}, ()):
            continue
        if isinstance(item, Mapping):
            page.line((_title(key), DIM), indent=indent)
            _mapping(page, item, indent=indent + 2)
        elif isinstance(item, list | tuple) and any(isinstance(row, Mapping) for row in item):
            page.line((_title(key), DIM), indent=indent)
            for row in item:
                page.line(_words(row), indent=indent + 2)
        else:
            page.line((f"{_title(key):<{width}}  ", DIM), _words(item), indent=indent)


def _cell(column: str, value: Any) -> Segment:
    words = _words(value)
    return (words, STYLES.get(words, "")) if column in ("state", "status") else words


def _title(key: str) -> str:
    return str(key).replace("_", " ")


def _words(value: Any) -> str:
    """A value on one line, as a person would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return str(value)
