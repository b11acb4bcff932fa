"""What ansible-runner reported in real runs, in; the project's events, out. One directory a case.

The streams were recorded with ansible-core 2.19.14 and ansible-runner 2.4.3 on lab targets; only what nobody reads was
cut out, and names and addresses were changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.engine.runner_events import LONGEST_MESSAGE, Narrator
from provision.events import Event, HostUnreachable, InputRejected, TaskFinished, TaskStarted
from provision.model import Refusal

CASES = sorted((Path(__file__).parents[1] / "cases" / "runner_events").iterdir())


def narrator(*hosts: str) -> Narrator:
    return Narrator("r1", hosts or ("web1",), lambda host, said: Refusal(host, f"stopped: {said}", "look"))


def events_of(case: Path) -> list[Any]:
    return [json.loads(line) for line in (case / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def told(events: list[Event]) -> list[str]:
    """One line an event, so that a case reads as a story."""
    lines = []
    for event in events:
        match event:
            case TaskFinished():
                place = f"{event.host} {event.role or '-'} / {event.task}"
                lines.append(": ".join(filter(None, [f"{place} {event.state}", event.message, event.diff])))
            case HostUnreachable():
                lines.append(f"{event.host} unreachable: {event.refusal.fact}")
            case InputRejected():
                lines.append(f"{event.host or 'run'} rejected: {event.refusals[0]}")
            case TaskStarted():
                pass
            case _:
                lines.append(repr(event))
    return lines


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_is_told_as_it_was(case: Path) -> None:
    expected = yaml.safe_load((case / "expected.yml").read_text(encoding="utf-8"))
    teller = narrator(*expected["hosts"])
    found = [event for heard in events_of(case) for event in teller.take(heard)]
    found += teller.end(interrupted=expected["interrupted"])
    assert told(found) == expected["told"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_finished_task_was_started(case: Path) -> None:
    expected = yaml.safe_load((case / "expected.yml").read_text(encoding="utf-8"))
    teller = narrator(*expected["hosts"])
    found = [event for n, heard in enumerate(events_of(case), 1) for event in teller.take({**heard, "at": n})]
    begun = {(event.host, event.role, event.task, event.at) for event in found if isinstance(event, TaskStarted)}
    ended = {(event.host, event.role, event.task, event.started) for event in found if isinstance(event, TaskFinished)}
    assert ended <= begun


def finished(kind: str, res: dict[str, Any], **data: Any) -> TaskFinished:
    teller = narrator()
    event = {"event": kind, "event_data": {"host": "web1", "role": "base", "task": "base : Do", "res": res, **data}}
    (one, *_) = teller.take(event) + teller.end()
    assert isinstance(one, TaskFinished)
    return one


def test_a_failure_that_the_task_ignores_is_no_failure() -> None:
    task = finished("runner_on_failed", {"msg": "no"}, ignore_errors=True)
    assert (task.state, task.message) == ("ok", "failed, and the task says to go on: no")


def test_what_a_module_warns_of_is_told_though_it_succeeded() -> None:
    task = finished("runner_on_ok", {"changed": True, "warnings": ["capped at 240 W, not 500 W"]})
    assert (task.state, task.warnings) == ("changed", ("capped at 240 W, not 500 W",))
    assert finished("runner_on_ok", {"censored": "hidden", "warnings": ["the password is pw"]}).warnings == ()


def test_a_no_log_failure_stays_hidden() -> None:
    task = finished("runner_on_failed", {"censored": "the output has been hidden"})
    assert (task.state, task.message) == ("failed", "hidden, because the task says no_log")


def test_failed_items_of_a_loop_are_told_once_each() -> None:
    items = [{"failed": True, "msg": "a"}, {"failed": True, "msg": "a"}, {"failed": False, "msg": "b"},
             {"failed": True, "msg": "c", "stderr": "d"}]  # fmt: skip
    assert finished("runner_on_failed", {"results": items, "msg": "One or more items failed"}).message == "a; c: d"


def test_a_long_message_keeps_both_ends() -> None:
    message = finished("runner_on_failed", {"msg": "begin" + "x" * 9000 + "end"}).message
    assert message.startswith("begin")
    assert message.endswith("end")
    assert len(message) < LONGEST_MESSAGE + 60


def test_a_module_diff_of_data_is_text() -> None:
    task = finished(
        "runner_on_ok", {"changed": True, "diff": [{"before": {"mode": "0600"}, "after": {"mode": "0644"}}]}
    )
    assert task.state == "changed"
    assert '- "mode": "0600"\n+ "mode": "0644"' in task.diff


def test_a_host_that_ansible_passed_over_in_silence_has_failed() -> None:
    teller = narrator("web1", "web2")
    teller.take({"event": "runner_on_ok", "event_data": {"host": "web1", "task": "Do", "res": {}}})
    teller.take({"event": "playbook_on_stats", "event_data": {"processed": {"web1": 1}, "failures": {}}})
    (event,) = teller.end()
    assert isinstance(event, TaskFinished)
    assert (event.host, event.state, event.message) == (
        "web2",
        "failed",
        "Ansible ended without saying why; see run.log",
    )


def test_everything_told_is_redacted() -> None:
    teller = Narrator("r1", ("web1",), lambda host, said: Refusal(host, said, ""), lambda text: text.replace("pw", "-"))
    data = {"host": "web1", "task": "Do", "res": {"msg": "pw", "diff": {"before": "", "after": "pw\n"}}}
    (unreachable, lost) = teller.take({"event": "runner_on_unreachable", "event_data": data})
    assert isinstance(unreachable, TaskFinished)
    assert isinstance(lost, HostUnreachable)
    assert "pw" not in unreachable.message + unreachable.diff + lost.refusal.fact
