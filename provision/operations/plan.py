"""`provision plan`: look and decide, change nothing. With `--hardware FILE` there is nobody to look at."""

from __future__ import annotations

from dataclasses import replace

from provision.events import Event, HostLooked, RunFinished, RunStarted
from provision.fold import fold
from provision.operations.decide import decide
from provision.operations.look import look_and_plan
from provision.operations.request import Request, read_request
from provision.operations.run import Run, Verb, Watcher, conduct
from provision.report import Report


def plan_hosts(request: Request, watcher: Watcher, verb: str = "plan") -> Report:
    """What each host would become, and why. `verb` is what the history calls it."""
    given = read_request(request)

    def work(run: Run) -> None:
        look_and_plan(run, request, given)

    return conduct(Verb(verb, proves=False), request, given, watcher, work)


def plan_file(request: Request, verb: str = "plan") -> Report:
    """The same of the boxes that a file tells of. No host is touched, so it is no run and the history keeps nothing."""
    given = read_request(request)
    names = tuple(host.name for host in given.hosts)
    started = RunStarted(
        "", verb, names, 0.0, request.tier, argv=request.argv, proves=False, nameless=not request.targets
    )
    events: list[Event] = [started]
    for host in given.hosts:
        events.append(HostLooked("", host.name, given.boxes[host.name]))
        events.append(decide("", given, host, given.boxes[host.name]))
    return replace(fold([*events, RunFinished("", 0.0)]), run=None)
