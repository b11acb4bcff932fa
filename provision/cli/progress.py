"""What a person sees while hosts are worked on: one live line per host, or plain lines where there is no terminal.

Everything here goes to standard error; standard output belongs to the report.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from provision.events import (
    CheckFinished,
    Event,
    HostLooked,
    HostPlanned,
    HostUnreachable,
    InputRejected,
    RunFinished,
    TaskFinished,
    TaskStarted,
)
from provision.report import Report

if TYPE_CHECKING:
    from rich.live import Live

Expect = Callable[[str, str], float | None]


class Line:
    """Where one host is: what it does, since when, and for how long that took before."""

    def __init__(self) -> None:
        self.doing = "looking"
        self.since = time.monotonic()
        self.expected: float | None = None
        self.changed = 0
        self.passed = 0
        self.failed = 0

    def text(self, host: str, width: int) -> str:
        elapsed = f"{time.monotonic() - self.since:4.0f}s"
        usual = f" of ~{self.expected:.0f}s" if self.expected and self.expected >= 1 else ""
        counts = f"  {self.changed} changed"
        if self.passed or self.failed:
            counts += f", {self.passed} checks passed"
        if self.failed:
            counts += f", {self.failed} failed"
        return f"{host:<{width}}  {self.doing}  {elapsed}{usual}{counts}"


class Progress:
    """Takes events as they happen. `expect(role, task)` tells the usual seconds of a task, where runs before know."""

    def __init__(self) -> None:
        self.expect: Expect = lambda _role, _task: None
        self._lines: dict[str, Line] = {}
        self._roles: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._render, console=Console(stderr=True), refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def paused(self, confirm: Callable[[Report], bool]) -> Callable[[Report], bool]:
        """The same question with the live lines out of the way."""

        def ask(report: Report) -> bool:
            if self._live:
                self._live.stop()
            try:
                return confirm(report)
            finally:
                if self._live:
                    self._live.start()

        return ask

    def _render(self) -> Any:
        from rich.text import Text

        width = max((len(host) for host in self._lines), default=0)
        return Text("\n".join(line.text(host, width) for host, line in list(self._lines.items())))

    def emit(self, event: Event) -> None:
        """Show one event."""
        host = getattr(event, "host", None)
        if isinstance(event, RunFinished) or not host:
            return
        line = self._lines.setdefault(host, Line())
        match event:
            case HostLooked():
                self._now(line, "planning")
            case HostPlanned():
                self._now(line, "planned")
            case TaskStarted():
                self._task_started(line, event)
            case TaskFinished():
                self._task_finished(line, event)
            case CheckFinished():
                self._check_finished(line, event)
            case HostUnreachable():
                self._now(line, "unreachable")
                self._plain(host, f"unreachable: {event.refusal}")
            case InputRejected():
                self._now(line, "refused")
                for refusal in event.refusals:
                    self._plain(host, f"refused: {refusal}")

    def _now(self, line: Line, doing: str, expected: float | None = None) -> None:
        line.doing, line.since, line.expected = doing, time.monotonic(), expected

    def _task_started(self, line: Line, event: TaskStarted) -> None:
        doing = f"{event.role}: {event.task}" if event.role else event.task
        self._now(line, doing, self.expect(event.role, event.task))
        if self._roles.get(event.host) != event.role and event.role:
            self._roles[event.host] = event.role
            self._plain(event.host, f"role {event.role}")

    def _task_finished(self, line: Line, event: TaskFinished) -> None:
        line.changed += event.state == "changed"
        if event.state in ("changed", "failed", "unreachable"):
            self._plain(event.host, f"  {event.state}: {event.task} ({event.seconds:.1f}s)")

    def _check_finished(self, line: Line, event: CheckFinished) -> None:
        line.passed += event.state == "passed"
        line.failed += event.state in ("failed", "error")
        self._now(line, f"verifying {event.role}")
        if event.state != "passed":
            self._plain(event.host, f"  check {event.state}: {event.role}/{event.check}")

    def _plain(self, host: str, words: str) -> None:
        """A line that stays, where lines cannot be redrawn: a log file, CI."""
        if self._live is None:
            print(f"{host}: {words}", file=sys.stderr, flush=True)
