"""One run of a verb on hosts: its ledger entry, its workspace, its stream of events, its end."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from provision.engine.workspace import Workspace
from provision.events import Event, RunFinished, RunStarted
from provision.fold import fold
from provision.ledger import Ledger
from provision.operations.request import Input, Request
from provision.report import Report


class Watcher(Protocol):
    """Who looks on: takes each event as it happens, and is told how many seconds a task usually takes."""

    expect: Callable[[str, str], float | None]

    def emit(self, event: Event) -> None: ...


@dataclass(frozen=True)
class Verb:
    """What is run, as the events tell it. `proves`: the run ends with verification."""

    name: str
    check_mode: bool = False
    proves: bool = True


@dataclass
class Run:
    """A run that is going on."""

    id: str
    workspace: Workspace
    ledger: Ledger
    watcher: Watcher
    events: list[Event] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def emit(self, event: Event) -> None:
        """Keep an event, and show it. An observer's fault must not end a run on a host."""
        self.events.append(event)
        self.ledger.append(event)
        with contextlib.suppress(Exception):
            self.watcher.emit(event)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase (look, plan, act, prove) in wall seconds."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)


def conduct(verb: Verb, request: Request, given: Input, watcher: Watcher, work: Callable[[Run], None]) -> Report:
    """Do `work` as one kept run and fold what happened. Ctrl-C and SIGTERM end it with 130, its entry resumable."""
    hidden = (request.secrets.become_password, request.secrets.vault_password, *given.secrets())
    ledger = Ledger.open()
    ledger.hide(*hidden)
    names = tuple(host.name for host in given.hosts)
    tier = request.tier or ", ".join(sorted({tier.name for tier in given.tiers.values()}))
    run_id = ledger.begin(verb.name, names, tier, request.argv)
    watcher.expect = ledger.expected
    interrupted = False
    with Workspace(given.hosts, ledger.artifacts(run_id), run_id) as workspace:
        workspace.hide(*hidden)
        run = Run(run_id, workspace, ledger, watcher)
        run.emit(RunStarted(run_id, verb.name, names, time.time(), tier, verb.check_mode, request.argv, verb.proves))
        with _terminated_as_interrupted():
            try:
                work(run)
            except KeyboardInterrupt:
                interrupted = True
        run.emit(RunFinished(run_id, time.time(), interrupted, seconds=run.seconds))
    report = fold(run.events)
    report = replace(report, data={**report.data, **_trouble(ledger)})
    ledger.finish(report)
    return report


def _trouble(ledger: Ledger) -> dict[str, str]:
    return {"history": f"not kept: {ledger.trouble}"} if ledger.trouble else {}


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A service manager's SIGTERM ends a run as cleanly as a person's Ctrl-C."""

    def interrupt(_number: int, frame: FrameType | None) -> None:
        # Called, not sent: a shell lets its background jobs ignore SIGINT, and SIGTERM would be lost with it.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        handler = on_ctrl_c if callable(on_ctrl_c) else signal.default_int_handler
        handler(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
