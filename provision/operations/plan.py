"""`provision plan`: look and decide, change nothing."""

from __future__ import annotations

from provision.operations.look import look_and_plan
from provision.operations.request import Request, read_request
from provision.operations.run import Run, Verb, Watcher, conduct
from provision.report import Report


def plan_hosts(request: Request, watcher: Watcher) -> Report:
    """What each host would become, and why."""
    given = read_request(request)

    def work(run: Run) -> None:
        look_and_plan(run, request, given)

    return conduct(Verb("plan", proves=False), request, given, watcher, work)
