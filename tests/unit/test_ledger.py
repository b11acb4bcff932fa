"""The run history: what is kept, for how long, by how many at once, and how it gives way when it cannot be kept."""

from __future__ import annotations

import io
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from provision import ledger as ledger_module
from provision.errors import ProvisionError
from provision.events import Event, RunFinished, RunStarted, TaskFinished
from provision.fold import fold
from provision.ledger import KEEP_RUNS, KEEP_SECONDS, Ledger, state_home

HOSTS = ("a.example",)


def stream(run: str, seconds: float = 2.0, *, check_mode: bool = False) -> list[Event]:
    return [
        RunStarted(run, "apply", HOSTS, 1000.0, "budget", check_mode, ("apply", "a.example"), proves=False),
        TaskFinished(run, "a.example", "base", "Install the tools", "changed", seconds),
        RunFinished(run, 1060.0),
    ]


def keep(ledger: Ledger, seconds: float = 2.0, *, check_mode: bool = False) -> str:
    """One whole run; its id."""
    run = ledger.begin("apply", HOSTS, "budget", ["apply", "a.example"])
    events = stream(run, seconds, check_mode=check_mode)
    for event in events:
        ledger.append(event)
    ledger.finish(fold(events))
    return run


def child(home: Path, code: str, *argv: str) -> subprocess.Popen[bytes]:
    """Another process that has the same history open as `ledger`."""
    setup = """
import os, sys
from pathlib import Path
from provision.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
"""
    return subprocess.Popen([sys.executable, "-c", setup + code, str(home), *argv])


def refused(ledger: Ledger, which: str | None = None) -> str:
    with pytest.raises(ProvisionError) as caught:
        ledger.show(which) if which else ledger.history()
    return str(caught.value)


def test_a_run_is_kept_and_shown(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "home")
    run = keep(ledger)
    assert ledger.trouble is None
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run)
    (record,) = Ledger.open(tmp_path / "home").history()
    assert (record.run, record.status, record.exit_code, record.changed) == (run, "ok", 0, 1)
    assert (record.verb, record.tier, record.hosts, record.argv) == ("apply", "budget", HOSTS, ("apply", "a.example"))
    report = Ledger.open(tmp_path / "home").show("last")
    assert report == fold(stream(run))
    assert ledger.show(run[:10]) == ledger.show(run) == report


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    keep(Ledger.open(tmp_path / "home"))
    paths = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert len(paths) >= 6
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}


def test_the_newest_comes_first_and_limit_cuts(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    runs = [keep(ledger) for _ in range(3)]
    assert [record.run for record in ledger.history()] == runs[::-1]
    assert [record.run for record in ledger.history(2)] == runs[:0:-1]
    assert ledger.show("last").run == runs[-1]


def test_which_run_is_meant(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert refused(ledger, "last") == "the history is empty"
    keep(ledger)
    keep(ledger)
    assert refused(ledger, "1999") == "run '1999' is not in the history"
    assert "could be any of" in refused(ledger, "2")
    assert refused(ledger, "%") == "run '%' is not in the history"


def test_several_processes_at_once(tmp_path: Path) -> None:
    """They even make the database at the same time."""
    code = """
for _ in range(5):
    from provision.events import RunStarted, RunFinished
    from provision.fold import fold
    run = ledger.begin("apply", ["h"], None)
    events = [RunStarted(run, "apply", ("h",), 1.0), RunFinished(run, 2.0)]
    for event in events:
        ledger.append(event)
    ledger.finish(fold(events))
raise SystemExit(ledger.trouble is not None)
"""
    children = [child(tmp_path / "home", code) for _ in range(4)]
    assert [process.wait(timeout=60) for process in children] == [0] * 4
    records = Ledger.open(tmp_path / "home").history(100)
    assert len({record.run for record in records}) == 20
    assert {record.status for record in records} == {"failed"}


def test_several_processes_make_the_ledger_at_once(tmp_path: Path) -> None:
    """Each opens thirty histories that are not there yet, in step with the others."""
    code = """
import time
time.sleep(max(0, float(sys.argv[2]) - time.time()))
opened = [Ledger.open(Path(sys.argv[1]) / str(number)) for number in range(30)]
raise SystemExit(any(one.trouble for one in opened))
"""
    children = [child(tmp_path, code, str(time.time() + 1)) for _ in range(3)]
    assert [process.wait(timeout=60) for process in children] == [0] * 3


def test_a_run_that_goes_on_is_running(tmp_path: Path) -> None:
    ledger, other = Ledger.open(tmp_path), Ledger.open(tmp_path)
    run = ledger.begin("apply", HOSTS, None)
    for event in stream(run)[:2]:
        ledger.append(event)
    assert other.history()[0].status == "running"
    assert other.show().data == {"running": True}
    assert other.resumable() == []
    ledger.finish(fold(stream(run)))
    assert other.history()[0].status == "ok"


def test_a_killed_controller_leaves_a_resumable_run(tmp_path: Path) -> None:
    code = """
from provision.events import RunStarted, TaskFinished
run = ledger.begin("apply", ["a.example"], "budget", ["apply", "a.example"])
ledger.append(RunStarted(run, "apply", ("a.example",), 1.0))
ledger.append(TaskFinished(run, "a.example", "base", "x", "changed", 1.0))
os.kill(os.getpid(), 9)
"""
    assert child(tmp_path, code).wait(timeout=60) == -signal.SIGKILL
    ledger = Ledger.open(tmp_path)
    (record,) = ledger.history()
    assert (record.status, record.exit_code) == ("interrupted", 130)
    assert ledger.show().hosts[0].changed == 1
    assert ledger.resumable() == [record]
    keep(ledger, check_mode=True)
    keep(ledger)
    assert ledger.resumable() == []


def test_a_look_ahead_does_not_make_good(tmp_path: Path) -> None:
    """Neither is an interrupted check run worth resuming, nor does one end what was left undone."""
    for argv in (["apply", "h"], ["apply", "--check", "h"]):
        Ledger.open(tmp_path).begin("apply", ["h"], None, argv)
    assert [record.argv for record in Ledger.open(tmp_path).resumable()] == [("apply", "h")]


def test_usual_seconds(tmp_path: Path) -> None:
    for seconds in (2.0, 30.0, 4.0):
        keep(Ledger.open(tmp_path), seconds)
    keep(Ledger.open(tmp_path), 999.0, check_mode=True)
    ledger = Ledger.open(tmp_path)
    assert ledger.expected("base", "Install the tools") == 4.0
    assert ledger.expected("base", "never seen") is None


def test_old_runs_go(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    old, kept = keep(ledger), keep(ledger)
    going_on = Ledger.open(tmp_path)
    running = going_on.begin("apply", HOSTS, None)
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as db:
        aged = f"UPDATE runs SET started = started - {KEEP_SECONDS + 60} WHERE run IN ('{old}', '{running}')"
        db.execute(aged)
    newest = keep(ledger)
    assert {record.run for record in ledger.history()} == {kept, running, newest}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {kept, running, newest}
    assert len(ledger.durations()) == 1
    db = sqlite3.connect(tmp_path / "ledger.sqlite3")
    assert db.execute("SELECT count(*) FROM durations WHERE run = ?", (old,)).fetchone() == (0,)


def test_only_the_newest_runs_stay(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    runs = [keep(ledger) for _ in range(KEEP_RUNS + 3)]
    assert [record.run for record in ledger.history(1000)] == runs[: -KEEP_RUNS - 1 : -1]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(runs[-KEEP_RUNS:])


def test_no_secret_reaches_the_disk(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.hide("correct horse", None, "")
    run = ledger.begin("apply", HOSTS, None, ["apply", "--set", "x_token=tok-12345", "--password", "p4ss", "a.example"])
    ledger.append(
        TaskFinished(run, "a.example", "base", "t", "failed", 1.0, "it said: correct horse", "+password: p4ss")
    )
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"correct horse", b"tok-12345", b"p4ss"):
        assert secret not in written
    assert written.count(b"[redacted]") >= 4


def test_a_secret_that_is_a_word_of_the_house_leaves_events_readable(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.hide("changed", "a.example")
    run = keep(ledger)
    assert ledger.show(run).hosts[0].changed == 1


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_ledger_costs_the_history_and_not_the_run(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(damage)
    ledger = Ledger.open(tmp_path)
    run = keep(ledger)
    assert ledger.trouble
    assert "is damaged" in str(ledger.trouble)
    assert str(tmp_path / "ledger.sqlite3") in ledger.trouble.hint
    assert (tmp_path / "runs" / run / "events.jsonl").read_bytes().count(b"\n") == 3
    assert "is damaged" in refused(ledger)
    assert "is damaged" in refused(ledger, "last")
    assert ledger.expected("base", "x") is None
    assert (tmp_path / "ledger.sqlite3").read_bytes() == damage


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    Ledger.open(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    ledger = Ledger.open(tmp_path)
    keep(ledger)
    assert "written by a newer provision (schema 99; this one knows 1)" in refused(ledger)


def test_an_older_ledger_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = keep(Ledger.open(tmp_path))
    more = "ALTER TABLE durations ADD COLUMN host TEXT;"
    monkeypatch.setattr(ledger_module, "SCHEMA", (*ledger_module.SCHEMA, more))
    ledger = Ledger.open(tmp_path)
    assert ledger.trouble is None
    assert [record.run for record in ledger.history()] == [run]
    assert sqlite3.connect(tmp_path / "ledger.sqlite3").execute("PRAGMA user_version").fetchone() == (2,)


def test_a_state_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    ledger = Ledger.open(tmp_path / "file" / "provision")
    run = keep(ledger)
    assert ledger.artifacts(run) is None
    assert "cannot be used: Not a directory" in str(ledger.trouble)
    assert "cannot be used: Not a directory" in refused(ledger)


def test_a_full_disk_ends_the_writing_and_not_the_run(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    run = ledger.begin("apply", HOSTS, None)
    with Path("/dev/full").open("wb", buffering=0) as full:
        ledger._events = full
        for event in stream(run):
            ledger.append(event)
    ledger.finish(fold(stream(run)))
    assert "No space left on device" in str(ledger.trouble)
    assert ledger.history()[0].status == "ok"


def test_nothing_follows_half_a_line(tmp_path: Path) -> None:
    class Short(io.BytesIO):
        """A file on a disk that is full for a moment."""

        def write(self, line: Any, /) -> int:
            return super().write(bytes(line) if self.getvalue() else bytes(line)[:7])

    ledger = Ledger.open(tmp_path)
    run = ledger.begin("apply", HOSTS, None)
    ledger._events = short = Short()
    for event in stream(run):
        ledger.append(event)
    assert short.getvalue() == b'{"type"'
    assert "the disk is full" in str(ledger.trouble)


def test_a_database_that_cannot_grow(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger._db
    ledger._db.execute("PRAGMA max_page_count = 1")
    ledger.begin("apply", ["h" * 100_000], None)
    assert "database or disk is full" in str(ledger.trouble)


def test_a_torn_last_line_is_forgiven_and_no_other(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    run = keep(ledger)
    path = tmp_path / "runs" / run / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert ledger.show(run).interrupted
    path.write_bytes(whole.replace(b'{"type": "TaskFinished"', b'{"type": "Task'))
    assert "events.jsonl, line 2 is not JSON" in refused(ledger, run)
    path.write_bytes(whole.replace(b"TaskFinished", b"TaskForgotten"))
    assert "line 2 is not an event: its type is 'TaskForgotten'" in refused(ledger, run)
    path.unlink()
    assert "has lost its events" in refused(ledger, run)


def test_where_the_state_home_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_STATE_HOME", "relative/path")
    assert state_home() == Path("/home/ada/.local/state/provision")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/ada")
    assert state_home() == Path("/var/lib/ada/provision")
