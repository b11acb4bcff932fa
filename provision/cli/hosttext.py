"""What a report says about hosts, as text: one verdict line each, and below it what an operator should know."""

from __future__ import annotations

from collections import Counter

from provision.cli import plantext, storagetext
from provision.cli.page import BOLD, DIM, GREEN, RED, YELLOW, Page
from provision.events import CheckFinished
from provision.model import HostPlan
from provision.report import HostOutcome, HostState, Report

STATE_STYLES: dict[HostState, str] = {
    "converged": GREEN, "planned": GREEN, "verified": GREEN, "unproved": YELLOW, "unreachable": YELLOW,
    "interrupted": YELLOW, "failed": RED, "refused": RED,
}  # fmt: skip

# As many lines of a host's own words as one can take in at a glance.
GLANCE = 8


def hosts(page: Page, report: Report, *, verbose: bool) -> None:
    """Every host of the report. Hosts with nothing but a verdict stand together as a table would."""
    name_width = max((len(outcome.host) for outcome in report.hosts), default=0)
    state_width = max((len(outcome.state) for outcome in report.hosts), default=0)
    for outcome in report.hosts:
        state = (outcome.state, STATE_STYLES[outcome.state])
        told = counts(outcome, report)
        pads = (" " * (name_width - len(outcome.host) + 2), " " * (state_width - len(outcome.state) + 2))
        page.line((outcome.host, BOLD), pads[0], state, pads[1], told)
        _body(page, outcome, report, verbose=verbose)


def duration(seconds: float) -> str:
    """`12 s`, `3 min 12 s`, `1 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counts(outcome: HostOutcome, report: Report) -> str:
    """`2 changed, 40 ok, checks: 12 passed`."""
    tasks = Counter(task.state for task in outcome.tasks)
    checks = Counter(check.state for check in outcome.checks)
    parts = []
    if outcome.tasks:
        parts.append(f"{tasks['changed']} {'would change' if report.check_mode else 'changed'}")
        parts += [f"{tasks[state]} {state}" for state in ("ok", "failed", "skipped", "unreachable") if tasks[state]]
    told = [f"{checks[state]} {state}" for state in ("passed", "failed", "skipped", "error") if checks[state]]
    if told:
        parts.append(f"checks: {', '.join(told)}")
    elif outcome.state == "converged":
        parts.append("not verified")
    return ", ".join(parts)


def _body(page: Page, outcome: HostOutcome, report: Report, *, verbose: bool) -> None:
    most = None if verbose else GLANCE
    for refusal in outcome.refusals or ((outcome.failure,) if outcome.failure else ()):
        if refusal not in report.refusals:  # those are about the whole run and stand below the hosts
            told = refusal.fact if refusal.subject == outcome.host else str(refusal)
            page.paragraph(told, indent=2, style=STATE_STYLES[outcome.state], most=most)
            if not any(step.endswith(refusal.hint) for step in report.next_steps):
                page.line(refusal.hint, indent=4)
    for check in outcome.checks:
        if check.state != "passed":
            _check(page, check, most)
    if "decisions" in report.data:
        plantext.decisions(page, [one for one in report.data["decisions"] if one["host"] == outcome.host])
    elif verbose or (outcome.state == "planned" and not outcome.tasks):
        plantext.summary(page, outcome.hardware, outcome.plan)
        if outcome.plan and "storage" in outcome.plan.roles:
            storagetext.draw(page, outcome.plan.settings.get("storage_layout", ()), indent=2)
        if outcome.plan:
            plantext.reasons(page, outcome.plan, verbose=verbose)
    if outcome.plan and outcome.state != "refused" and "decisions" not in report.data:
        _remarks(page, outcome.plan)
    _tasks(page, outcome, report, verbose=verbose)


def _check(page: Page, check: CheckFinished, most: int | None) -> None:
    style = YELLOW if check.state == "skipped" else RED
    page.line((f"check {check.role}/{check.check} {check.state}", style), indent=2)
    if check.message:
        page.paragraph(check.message, indent=4, most=most)


def _tasks(page: Page, outcome: HostOutcome, report: Report, *, verbose: bool) -> None:
    """Every task when verbose; in check mode those that would change, for that is what was asked; any diff always."""
    shown = [task for task in outcome.tasks if verbose or task.diff or (report.check_mode and task.state == "changed")]
    for task in shown:
        style = {"changed": YELLOW, "failed": RED, "unreachable": RED}.get(task.state, "")
        word = "would change" if report.check_mode and task.state == "changed" else task.state
        name = f"{task.role}: {task.task}" if task.role else task.task
        page.line((f"{word:<12}  ", style), f"{name}  ", (duration(task.seconds), DIM), indent=2)
        # A task of no role is our own preparation: what it says in check mode is meant for the reader.
        if task.message and (verbose or not task.role):
            page.paragraph(task.message, indent=4)
        if task.diff:
            page.paragraph(task.diff, indent=4)
    if verbose:
        for check in outcome.checks:
            if check.state == "passed":
                page.line(("passed        ", GREEN), f"{check.role}/{check.check}", indent=2)


def _remarks(page: Page, plan: HostPlan) -> None:
    for warning in plan.warnings:
        page.line(("warning: ", YELLOW), warning, indent=2)
    for lack in plan.shortfalls:
        told = f"{lack.subject}: the tier documents {lack.documented}, found {lack.found}"
        page.line(("less than documented: ", YELLOW), told, indent=2)
    for missing in plan.not_managed_yet.values():
        page.line(missing, indent=2)
