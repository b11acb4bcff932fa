"""Events in, one report out. A host is judged by its events, never by a return code."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from provision.events import (
    CheckFinished,
    Event,
    HostLooked,
    HostPlanned,
    HostUnreachable,
    InputRejected,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskStarted,
)
from provision.model import Hardware, HostPlan, Refusal
from provision.redact import MARK, redact_argv
from provision.report import HostOutcome, HostState, Report

REBOOT_LEFT = "Leave the required reboot to the operator"
DECLINED = Refusal("apply", "was declined, nothing was touched", "to apply it, run it again and answer y")
_PLANS = ("plan", "explain")
_ONLY_ONCE = frozenset({"--check", "--output", "-o", "--junit", "--report", "--hardware", "--os"})
_ONLY_APPLY = frozenset({"--diff", "--yes", "-y", "--accept-hardware", "--no-verify", "--reboot", "--transport"})
_WITH_VALUE = frozenset({"--output", "-o", "--junit", "--report", "--reboot", "--transport", "--hardware", "--os"})


@dataclass
class _Host:
    """What the events have said about one host so far."""

    name: str
    hardware: Hardware | None = None
    plan: HostPlan | None = None
    refused: tuple[Refusal, ...] = ()
    unreachable: Refusal | None = None
    running: TaskStarted | None = None
    tasks: list[TaskFinished] = field(default_factory=list)
    checks: list[CheckFinished] = field(default_factory=list)


@dataclass
class _Run:
    """What the events have said about the run so far."""

    started: RunStarted | None = None
    finished: RunFinished | None = None
    last_seen: float = 0.0
    refused: tuple[Refusal, ...] = ()
    hosts: dict[str, _Host] = field(default_factory=dict)

    def host(self, name: str) -> _Host:
        return self.hosts.setdefault(name, _Host(name))

    @property
    def id(self) -> str:
        return self.started.run if self.started else "last"

    @property
    def verb(self) -> str:
        return self.started.verb if self.started else "unknown"

    @property
    def interrupted(self) -> bool:
        """Also where nobody was left to say so: the controller died."""
        return self.finished is None or self.finished.interrupted


def fold(events: Iterable[Event]) -> Report:
    """What a run came to, from its events in the order in which they happened.

    A stream without `RunFinished` is one whose controller died: it folds to an interrupted report.
    """
    run = _Run()
    for event in events:
        _take(run, event)
    outcomes = tuple(_outcome(run, host) for host in run.hosts.values())
    start, end = run.started, run.finished
    steps = (*(end.next_steps if end else ()), *_next_steps(run, outcomes))
    return Report(
        verb=run.verb,
        run=start.run if start else None,
        tier=start.tier if start else None,
        started=start.at if start else 0.0,
        finished=end.at if end else run.last_seen,
        check_mode=bool(start and start.check_mode),
        interrupted=run.interrupted,
        hosts=outcomes,
        refusals=tuple(dict.fromkeys(run.refused)),
        next_steps=tuple(dict.fromkeys(steps)),
        data={"seconds": dict(end.seconds)} if end and end.seconds else {},
    )


def preview(events: Iterable[Event]) -> Report:
    """What a run that has only looked and planned so far is about to do, for the question before it is done."""
    told = [replace(event, verb="plan") if isinstance(event, RunStarted) else event for event in events]
    start = next((event for event in told if isinstance(event, RunStarted)), None)
    end = [RunFinished(start.run, start.at)] if start else []
    return replace(fold([*told, *end]), next_steps=())


def _take(run: _Run, event: Event) -> None:
    match event:
        case RunStarted():
            run.started = event
            run.last_seen = event.at
            for name in event.hosts:
                run.host(name)
        case HostLooked():
            run.host(event.host).hardware = event.hardware
        case HostPlanned():
            run.host(event.host).plan = event.plan
        case InputRejected(host=None):
            run.refused += event.refusals
        case InputRejected(host=str(name)):
            run.host(name).refused += event.refusals
        case HostUnreachable():
            run.host(event.host).unreachable = event.refusal
        case TaskStarted():
            run.last_seen = max(run.last_seen, event.at)
            run.host(event.host).running = event
        case TaskFinished():
            host = run.host(event.host)
            host.tasks.append(event)
            host.running = None
        case CheckFinished():
            run.host(event.host).checks.append(event)
        case RunFinished():
            run.finished = event


def _outcome(run: _Run, host: _Host) -> HostOutcome:
    state, failure = _judge(run, host)
    return HostOutcome(
        host=host.name,
        state=state,
        tasks=tuple(host.tasks),
        checks=tuple(host.checks),
        failure=failure,
        refusals=tuple(dict.fromkeys(host.refused)),
        hardware=host.hardware,
        plan=host.plan,
    )


def _judge(run: _Run, host: _Host) -> tuple[HostState, Refusal | None]:
    """The host's end and, unless it is a good one, why. The first of these that is the case has the word."""
    if host.refused:
        return "refused", host.refused[0]
    if failure := _failed_task(run, host):
        return "failed", failure
    if failure := _unreachable(run, host):
        return "unreachable", failure
    if run.verb in _PLANS and host.plan:
        return "planned", None
    return _judge_interrupted(run, host) if run.interrupted else _judge_end(run, host)


def _judge_interrupted(run: _Run, host: _Host) -> tuple[HostState, Refusal]:
    return "interrupted", Refusal(host.name, f"was interrupted {_where(host)}", _again(run, host.name))


def _judge_end(run: _Run, host: _Host) -> tuple[HostState, Refusal | None]:
    """A host about which nothing bad was said, in a run that came to its end."""
    if run.refused:
        return "refused", run.refused[0]
    if failure := _unproved(run, host):
        return "unproved", failure
    if run.verb == "verify":
        return "verified", None
    if host.tasks or (host.plan and not host.plan.roles):
        return ("planned" if run.started and run.started.check_mode else "converged"), None
    if host.plan and any(other.refused for other in run.hosts.values()):
        # Input faults of one host stop all of them before anything is touched.
        return "planned", None
    return "failed", Refusal(host.name, "was left without a result when the run ended", _show(run))


def _unproved(run: _Run, host: _Host) -> Refusal | None:
    """A skipped check counts like a failed one, and where none ran nothing is proved."""
    if unchecked := _unchecked(run, host):
        return Refusal(host.name, f"is not proved: no check ran{unchecked}", _show(run))
    open_checks = sum(check.state != "passed" for check in host.checks)
    if not open_checks:
        return None
    fact = f"is not proved: {open_checks} of {_count(len(host.checks), 'check')} did not pass"
    return Refusal(host.name, fact, _command(run, "verify", host.name))


def _unchecked(run: _Run, host: _Host) -> str | None:
    """What no check ran for although one should have, as the end of a sentence; None where there is no such gap."""
    start = run.started
    if not start or start.check_mode or not start.proves or not (host.tasks or run.verb == "verify"):
        return None
    if not host.checks:
        return " at all"
    checked = {check.role for check in host.checks}
    without = [role for role in host.plan.roles if role not in checked] if host.plan else []
    return f" for {', '.join(without)}" if without else None


def _failed_task(run: _Run, host: _Host) -> Refusal | None:
    task = next((task for task in host.tasks if task.state == "failed"), None)
    if task is None:
        return None
    fact = f"failed in {_place(task)}: {task.message or 'no message'}"
    return Refusal(host.name, fact, _show(run))


def _unreachable(run: _Run, host: _Host) -> Refusal | None:
    if host.unreachable:
        return host.unreachable
    task = next((task for task in host.tasks if task.state == "unreachable"), None)
    if task is None:
        return None
    fact = f"stopped answering in {_place(task)}: {task.message or 'no message'}"
    return Refusal(host.name, fact, _again(run, host.name))


def _where(host: _Host) -> str:
    if host.running:
        return f"in {_place(host.running)}"
    if host.checks:
        return f"while it was proved, after {_count(len(host.checks), 'check')}"
    return f"after {_count(len(host.tasks), 'task')}" if host.tasks else "before its first task"


def _place(task: TaskStarted | TaskFinished) -> str:
    return f"role {task.role}, task {task.task}" if task.role else f"task {task.task}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _next_steps(run: _Run, outcomes: tuple[HostOutcome, ...]) -> list[str]:
    """What the operator does next, most urgent first; each is a sentence that ends with a command."""
    names: dict[HostState, list[str]] = {}
    for outcome in outcomes:
        names.setdefault(outcome.state, []).append(outcome.host)
    steps = [f"see every task and its message: {_show(run)}"] if "failed" in names else []
    if DECLINED in run.refused:
        return [*steps, f"look closer: {_command(run, 'plan', *run.hosts)} -v"]
    short = [outcome.host for outcome in outcomes if outcome.plan and outcome.plan.shortfalls]
    small = [name for name in short if name in names.get("refused", ())]  # planned, and refused for nothing else
    accept = " --accept-hardware" if short and "--accept-hardware" not in _argv(run) else ""
    if when := _when_to_run_again(run, names, small):
        steps.append(f"run again {', and '.join(when)}: {_again(run)}{accept if small else ''}")
    if "unproved" in names and run.verb == "verify":
        steps.append(f"make it so: {_command(run, 'apply', *names['unproved'])}{accept}")
    if "unproved" in names:
        steps.append(f"when it is mended, prove it: {_command(run, 'verify', *names['unproved'])}")
    if due := [outcome.host for outcome in outcomes if _reboot_due(outcome)]:
        steps.append(f"{' and '.join(due)} must reboot; when it suits: {_command(run, 'apply', *due)} --reboot allow")
    foretold_nothing = all(outcome.tasks and not outcome.changed for outcome in outcomes if outcome.state == "planned")
    if "planned" in names and run.verb != "explain" and not when and not foretold_nothing:
        steps.append(f"make it so: {_command(run, 'apply', *names['planned'])}{accept}")
    if run.verb == "apply" and set(names) == {"converged"}:
        steps.append(f"prove it at any time: {_command(run, 'verify', *names['converged'])}")
    return steps


def _reboot_due(outcome: HostOutcome) -> bool:
    """site.yml leaves a due reboot to the operator in a task of this name."""
    return any(task.task == REBOOT_LEFT and task.state == "ok" for task in outcome.tasks)


def _when_to_run_again(run: _Run, names: dict[HostState, list[str]], small: list[str]) -> list[str]:
    when = []
    if run.refused or set(names.get("refused", ())) - set(small):
        when.append("when the input is mended")
    if small:
        when.append(f"if less hardware is meant for {' and '.join(small)}")
    if "failed" in names:
        when.append("when it is mended")
    if "unreachable" in names:
        when.append(f"when {' and '.join(names['unreachable'])} can be reached")
    return when or (["to go on where it stopped"] if "interrupted" in names else [])


def _argv(run: _Run) -> tuple[str, ...]:
    """The run's words without any option that held a secret: its mark, pasted, would become the value."""
    kept: list[str] = []
    for word in redact_argv(run.started.argv) if run.started else ():
        if MARK not in word:
            kept.append(word)
        elif kept and kept[-1].startswith("--") and not word.startswith("-"):
            kept.pop()
    return tuple(kept)


def _show(run: _Run) -> str:
    return f"provision show {run.id} -v"


def _again(run: _Run, *hosts: str) -> str:
    """The run's own command line once more, where it is known."""
    argv = _argv(run)
    return shlex.join(["provision", *argv]) if run.verb in argv else _command(run, run.verb, *hosts)


def _command(run: _Run, verb: str, *hosts: str) -> str:
    """The run's own command line turned to `verb`, where it is known; else one for the hosts."""
    argv = _argv(run)
    if run.verb in argv:
        words = _carried(argv[argv.index(run.verb) + 1 :], verb)
        nameless = run.started is not None and run.started.nameless
        return shlex.join(["provision", verb, *words, *(["HOST"] if nameless else [])])
    tier = ["--tier", run.started.tier] if run.started and run.started.tier else []
    return shlex.join(["provision", verb, *tier, *(hosts or tuple(run.hosts))])


def _carried(words: tuple[str, ...], verb: str) -> list[str]:
    """The words that still mean something when the same hosts are named to another verb."""
    kept: list[str] = []
    dropped = _ONLY_ONCE if verb == "apply" else _ONLY_ONCE | _ONLY_APPLY
    skip_value = False
    for word in words:
        option, equals, _ = word.partition("=")
        if skip_value:
            skip_value = False
        elif option in dropped:
            skip_value = option in _WITH_VALUE and not equals
        else:
            kept.append(word)
    return kept
