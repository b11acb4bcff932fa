"""What happens in a run, one frozen event at a time. Events carry host and run; nothing assumes one host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provision.model import Hardware, HostPlan, Refusal

TaskState = Literal["ok", "changed", "failed", "skipped", "unreachable"]
CheckState = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True)
class RunStarted:
    run: str
    verb: str
    hosts: tuple[str, ...]
    at: float  # Unix time
    tier: str | None = None
    check_mode: bool = False
    argv: tuple[str, ...] = ()  # the command line after `provision`, so that the report can offer it again
    proves: bool = True  # False: checks are left out on purpose (`--no-verify`)
    nameless: bool = False  # True: the hosts were not named on the command line, but by a hardware file


@dataclass(frozen=True)
class HostLooked:
    """Preflight and probe succeeded: this is what was found."""

    run: str
    host: str
    hardware: Hardware


@dataclass(frozen=True)
class HostPlanned:
    run: str
    host: str
    plan: HostPlan


@dataclass(frozen=True)
class InputRejected:
    """A host, or the whole run (`host` None), is refused; nothing was touched there."""

    run: str
    refusals: tuple[Refusal, ...]
    host: str | None = None


@dataclass(frozen=True)
class HostUnreachable:
    """The host does not answer, before or in the middle of the work."""

    run: str
    host: str
    refusal: Refusal


@dataclass(frozen=True)
class TaskStarted:
    run: str
    host: str
    role: str
    task: str
    at: float


@dataclass(frozen=True)
class TaskFinished:
    run: str
    host: str
    role: str
    task: str
    state: TaskState
    seconds: float
    message: str = ""
    diff: str = ""
    warnings: tuple[str, ...] = ()  # what a role's module wants the operator to know although the task succeeded
    started: float = 0.0  # Unix time; 0: not known


@dataclass(frozen=True)
class CheckFinished:
    """One verify test on one host. `message` says what was expected and what was found, also where it passed."""

    run: str
    host: str
    role: str
    check: str
    state: CheckState
    seconds: float
    message: str = ""
    started: float = 0.0  # Unix time; 0: not known


@dataclass(frozen=True)
class RunFinished:
    run: str
    at: float
    interrupted: bool = False
    next_steps: tuple[str, ...] = field(default=())
    seconds: Mapping[str, float] = field(default_factory=dict)  # wall seconds of each phase: look, plan, act, prove


Event = (
    RunStarted
    | HostLooked
    | HostPlanned
    | InputRejected
    | HostUnreachable
    | TaskStarted
    | TaskFinished
    | CheckFinished
    | RunFinished
)
