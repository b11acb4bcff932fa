"""`provision verify`: look, decide, and prove that the host is that already."""

from __future__ import annotations

from provision.engine.checks import check
from provision.operations.look import look_and_plan
from provision.operations.request import Request, read_request
from provision.operations.run import Run, Verb, Watcher, conduct
from provision.report import Report


def verify_hosts(request: Request, watcher: Watcher) -> Report:
    """Run every check of every role of each host's plan, several hosts at a time."""
    given = read_request(request)

    def work(run: Run) -> None:
        planned = look_and_plan(run, request, given)
        with run.phase("prove"):
            check(run.workspace, planned, request.jobs, run.emit)

    return conduct(Verb("verify"), request, given, watcher, work)
