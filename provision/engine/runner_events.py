"""Ansible's events, one dictionary at a time, told as the project's own. Pure: what it has seen is all it knows."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from provision.events import Event, HostUnreachable, InputRejected, TaskFinished, TaskStarted, TaskState
from provision.model import Refusal

LONGEST_MESSAGE = 2000  # characters
LONGEST_DIFF = 16000
_MANAGERS = ("include_role", "include_tasks", "import_role", "import_tasks", "meta", "include_vars")
_STATES: dict[str, TaskState] = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_skipped": "skipped",
    "runner_on_unreachable": "unreachable",
}


class Narrator:
    """Tells a run of ansible-playbook over `hosts`.

    `explain` puts a lost connection (host, what ssh said) into words; `redact` goes over every text that is told.
    """

    def __init__(
        self,
        run: str,
        hosts: Collection[str],
        explain: Callable[[str, str], Refusal],
        redact: Callable[[str], str] = str,
        diffs: bool = True,
    ) -> None:
        self._run = run
        self._hosts = tuple(hosts)
        self._explain = explain
        self._redact = redact
        self._diffs = diffs  # some modules bring theirs unasked
        self._heard: set[str] = set()  # hosts of which the end of some task is known
        self._begun: dict[str, float] = {}  # when each host's present task began, in Unix time
        self._unreachable: set[str] = set()
        self._open_failures: dict[str, list[TaskFinished]] = {}
        self._going_on: set[str] = set()  # hosts that were given another task after their last failure
        self._errors: list[str] = []  # said outside any task
        self._stats: Mapping[str, Any] | None = None

    def take(self, event: Mapping[str, Any]) -> list[Event]:
        """What one event of ansible-runner means."""
        kind, data = event.get("event", ""), event.get("event_data") or {}
        host = data.get("host")
        if kind == "playbook_on_stats":
            self._stats = data
            return []
        if kind in ("verbose", "error") and not host:
            self._hear(event.get("stdout") or "")
            return []
        if host is None or (kind != "runner_on_failed" and _is_manager(data)):
            return []
        if kind == "runner_on_start":
            self._going_on.add(host)
            self._begun[host] = float(event.get("at", 0))
            return [TaskStarted(self._run, host, data.get("role") or "", _name(data), self._begun[host])]
        if kind not in _STATES:
            return []
        return self._finished(kind, host, data, str(event.get("stdout") or ""))

    def end(self, interrupted: bool = False) -> list[Event]:
        """What is left to tell when Ansible has ended: failures that nothing rescued, and errors outside any task."""
        told: list[Event] = []
        failed = set(self._open_failures) - self._going_on if self._stats is None else set(self._stats["failures"])
        for host, failures in self._open_failures.items():
            *rescued, last = failures
            told += [_rescued(failure) for failure in rescued]
            told.append(last if host in failed else _rescued(last))
        if interrupted:
            return told
        return told + self._silent(failed)

    def _finished(self, kind: str, host: str, data: Mapping[str, Any], printed: str) -> list[Event]:
        self._heard.add(host)
        found = data.get("res")
        result: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        state = _STATES[kind]
        # Of a no_log task the runner keeps back even whether it changed something, but for the line it prints.
        if state == "ok" and (result.get("changed") or printed.startswith("changed: ")):
            state = "changed"
        message = self._redact(_message(result, state))
        if state == "failed" and data.get("ignore_errors"):
            state, message = "ok", f"failed, and the task says to go on: {message}"
        finished = TaskFinished(
            run=self._run,
            host=host,
            role=data.get("role") or "",
            task=_name(data),
            state=state,
            seconds=round(float(data.get("duration") or 0), 3),
            message=message,
            diff=self._redact(_diff(result.get("diff"))) if self._diffs else "",
            warnings=tuple(self._redact(warning) for warning in _warnings(result)) if data.get("role") else (),
            started=self._begun.get(host, 0.0),
        )
        if state == "failed":
            # A rescue may follow; only the statistics at the end tell a rescued failure from a final one.
            self._open_failures.setdefault(host, []).append(finished)
            self._going_on.discard(host)
            return []
        if state == "unreachable":
            self._unreachable.add(host)
            return [finished, HostUnreachable(self._run, host, self._explain(host, message))]
        return [finished]

    def _silent(self, failed: set[str]) -> list[Event]:
        """Hosts that Ansible left without a word, or whose end it did not tell because it broke down."""
        reasons = "\n".join(self._errors)
        error = self._redact(reasons)[-LONGEST_MESSAGE:] or "Ansible ended without saying why; see run.log"
        if not self._heard and self._errors:
            hint = "the run's log holds all that Ansible said"
            return [InputRejected(self._run, (Refusal("Ansible", f"did not start: {error}", hint),))]
        ended = set((self._stats or {}).get("processed", {})) | self._unreachable | failed
        return [
            TaskFinished(self._run, host, "", "ansible-playbook", "failed", 0.0, error)
            for host in self._hosts
            if host not in ended
        ]

    def _hear(self, stdout: str) -> None:
        """Keep errors that Ansible prints outside of tasks, with the lines that belong to them."""
        text = stdout.replace("\r", "").strip()
        if "ERROR" in text or (self._errors and text and not text.startswith(("[WARNING]", "[DEPRECATION"))):
            self._errors.append(text)


def _is_manager(data: Mapping[str, Any]) -> bool:
    return str(data.get("task_action", "")).rpartition(".")[2] in _MANAGERS


def _name(data: Mapping[str, Any]) -> str:
    """The task's name without the role that Ansible puts before it."""
    name, role = str(data.get("task") or ""), data.get("role") or ""
    return name.removeprefix(f"{role} : ") if role else name


def _rescued(failure: TaskFinished) -> TaskFinished:
    message = f"failed, and was mended by the role: {failure.message}"
    return replace(failure, state="ok", message=message)


def _message(result: Mapping[str, Any], state: TaskState) -> str:
    """Why a task failed or was skipped; of the others what they say and warn of."""
    if "censored" in result:
        return "hidden, because the task says no_log" if state in ("failed", "unreachable") else ""
    if state == "skipped":
        return str(result.get("skip_reason") or "")
    if state not in ("failed", "unreachable"):
        loop = "results" in result  # which only says that all items completed
        return _cut(str(result["msg"]), LONGEST_MESSAGE) if result.get("msg") and not loop else ""
    if faults := result.get("argument_errors"):
        return _cut("; ".join(map(str, faults)), LONGEST_MESSAGE)
    items = [item for item in result.get("results") or () if isinstance(item, Mapping) and item.get("failed")]
    if items:
        return _cut("; ".join(dict.fromkeys(_failure(item) for item in items)), LONGEST_MESSAGE)
    return _cut(_failure(result), LONGEST_MESSAGE)


def _warnings(result: Mapping[str, Any]) -> Iterator[str]:
    if "censored" not in result:
        yield from (_cut(str(warning), LONGEST_MESSAGE) for warning in result.get("warnings") or ())


def _failure(result: Mapping[str, Any]) -> str:
    said = str(result.get("msg") or "").strip()
    for stream in ("module_stderr", "stderr", "module_stdout"):
        detail = str(result.get(stream) or "").strip()
        if detail and detail not in said:
            return f"{said}: {detail}" if said else detail
    return said or "no message"


def _diff(diff: Any) -> str:
    """A task's diff as unified text."""
    parts = diff if isinstance(diff, list) else [diff]
    return _cut(
        "\n".join(text for part in parts if isinstance(part, Mapping) and (text := _one_diff(part))), LONGEST_DIFF
    )


def _one_diff(part: Mapping[str, Any]) -> str:
    if part.get("prepared"):
        return str(part["prepared"]).rstrip()
    before, after = _lines(part.get("before")), _lines(part.get("after"))
    old, new = (str(part.get(f"{side}_header") or side) for side in ("before", "after"))
    return "\n".join(difflib.unified_diff(before, after, old, new, lineterm="", n=2))


def _lines(value: Any) -> list[str]:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, indent=1, sort_keys=True)
    return text.splitlines()


def _cut(text: str, longest: int) -> str:
    """The beginning and the end: the cause stands at either."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n... {len(text) - longest} characters left out ...\n{text[-half:]}"
