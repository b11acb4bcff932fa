"""What a run came to. Text, JSON, JUnit and HTML are renderings of a `Report`; its exit code is derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from provision.events import CheckFinished, TaskFinished
from provision.model import Hardware, HostPlan, Refusal

HostState = Literal["converged", "planned", "verified", "unproved", "failed", "refused", "unreachable", "interrupted"]

EXIT_OK = 0
EXIT_HOST_FAILED = 1
EXIT_INPUT = 2
EXIT_UNREACHABLE = 3
EXIT_UNPROVED = 4
EXIT_HALTED = 5
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class HostOutcome:
    """One host's end. `unproved`: Ansible was content, but a check failed, errored or was skipped where it counts."""

    host: str
    state: HostState
    tasks: tuple[TaskFinished, ...] = ()
    checks: tuple[CheckFinished, ...] = ()
    failure: Refusal | None = None
    refusals: tuple[Refusal, ...] = ()  # every reason where the state is `refused`; `failure` is the first of them
    hardware: Hardware | None = None
    plan: HostPlan | None = None

    @property
    def changed(self) -> int:
        return sum(task.state == "changed" for task in self.tasks)


@dataclass(frozen=True)
class Report:
    """One verb's whole answer. `data` holds what is particular to the verb (tiers, findings, lab hosts, history)."""

    verb: str
    run: str | None = None
    tier: str | None = None
    started: float = 0.0
    finished: float = 0.0
    check_mode: bool = False
    interrupted: bool = False
    hosts: tuple[HostOutcome, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    next_steps: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    ok: bool = True  # a verb without hosts (doctor) says here whether its subject is sound

    @property
    def exit_code(self) -> int:
        """By what the operator does next: rerun, mend the input, look at the network, look at the proof."""
        states = {outcome.state for outcome in self.hosts}
        verdicts = (  # the first that is the case has the word
            (self.interrupted, EXIT_INTERRUPTED),
            ("failed" in states, EXIT_HOST_FAILED),
            (bool(self.refusals) or "refused" in states, EXIT_INPUT),
            ("unproved" in states, EXIT_UNPROVED),
            ("unreachable" in states, EXIT_UNREACHABLE),
            ("interrupted" in states, EXIT_INTERRUPTED),
            (not self.ok, EXIT_HOST_FAILED),
        )
        return next((code for holds, code in verdicts if holds), EXIT_OK)

    @property
    def status(self) -> str:
        return {
            EXIT_OK: "ok",
            EXIT_HOST_FAILED: "failed",
            EXIT_INPUT: "refused",
            EXIT_UNREACHABLE: "unreachable",
            EXIT_UNPROVED: "unproved",
            EXIT_HALTED: "halted",
            EXIT_INTERRUPTED: "interrupted",
        }[self.exit_code]
