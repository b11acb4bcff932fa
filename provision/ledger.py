"""The run history: one SQLite ledger and one private directory per run, under the user's state home.

Nothing here may stop a run: where the state home cannot be used, less is kept and `Ledger.trouble` says so. Only who
asks for the history is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from provision import codec
from provision.errors import ProvisionError, refuse
from provision.events import Event
from provision.fold import fold
from provision.model import Refusal
from provision.redact import redact_argv, redact_data
from provision.report import EXIT_INTERRUPTED, Report

KEEP_RUNS = 50
KEEP_SECONDS = 90 * 86400
BUSY_SECONDS = 10.0

# One script per version of the schema; `PRAGMA user_version` counts how many of them a ledger has seen.
SCHEMA = (
    """
    CREATE TABLE runs (
        run TEXT PRIMARY KEY, verb TEXT NOT NULL, tier TEXT, hosts TEXT NOT NULL, argv TEXT NOT NULL,
        started REAL NOT NULL, finished REAL, status TEXT, exit_code INTEGER, changed INTEGER
    );
    CREATE TABLE durations (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        role TEXT NOT NULL, task TEXT NOT NULL, seconds REAL NOT NULL
    );
    CREATE INDEX durations_of_run ON durations (run);
    """,
)

# Words of the house itself: to hide a secret that happens to equal one would only make the event unreadable.
STRUCTURE = ("type", "run", "verb", "host", "hosts", "tier", "role", "state")


def state_home() -> Path:
    """Where runs are kept: `provision` under the XDG state home. A relative XDG_STATE_HOME counts as unset (XDG)."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given / "provision"
    try:
        return Path.home() / ".local" / "state" / "provision"
    except RuntimeError:  # a user id without a home, as containers have; what cannot be written there is told later
        return Path("/.local/state/provision")


@dataclass(frozen=True)
class RunRecord:
    """One kept run. Times are Unix times; `status` is `running`, or what the report said, or `interrupted`."""

    run: str
    verb: str
    tier: str | None
    hosts: tuple[str, ...]
    argv: tuple[str, ...]
    started: float
    finished: float | None
    status: str
    exit_code: int | None
    changed: int

    def as_row(self) -> dict[str, Any]:
        """Plain data for a report; times in ISO 8601, UTC."""
        started, finished = _iso(self.started), None if self.finished is None else _iso(self.finished)
        words = {"hosts": list(self.hosts), "argv": list(self.argv)}
        return {**asdict(self), **words, "started": started, "finished": finished}


class Ledger:
    """One process's view of the history. Several processes may have one at the same time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.trouble: Refusal | None = None
        self._db: sqlite3.Connection | None = None
        self._events: IO[bytes] | None = None
        self._secrets: set[str] = set()
        self._writing = threading.Lock()
        self._usual: dict[tuple[str, str], float] | None = None

    @classmethod
    def open(cls, home: Path | None = None) -> Ledger:
        """The history in `home` (default: `state_home()`). Never raises; see `trouble`."""
        ledger = cls(home or state_home())
        with ledger._tolerant():
            _private_directory(ledger.home / "runs")
            ledger._db = _connect(ledger.home)
        return ledger

    def hide(self, *secrets: str | None) -> None:
        """From now on these values are never written."""
        self._secrets.update(secret for secret in secrets if secret)

    # -- one run ---------------------------------------------------------------------------------------------------

    def begin(self, verb: str, hosts: Sequence[str], tier: str | None, argv: Sequence[str] = ()) -> str:
        """Open a run and return its id, which sorts by time: `20261122-181500-a1b2` (UTC)."""
        started = time.time()
        run = _new_id(started)
        with self._tolerant():
            self._events = _open_events(self.home / "runs" / run)
        with self._tolerant():
            if self._db:
                row = (run, verb, tier, json.dumps(list(hosts)), json.dumps(redact_argv(argv, self._secrets)), started)
                self._db.execute(
                    "INSERT INTO runs (run, verb, tier, hosts, argv, started) VALUES (?, ?, ?, ?, ?, ?)", row
                )
                self._prune(started)
        return run

    def artifacts(self, run: str) -> Path | None:
        """The run's private directory, or None where the state home could not take one."""
        path = self.home / "runs" / run
        return path if path.is_dir() else None

    def append(self, event: Event) -> None:
        """Keep one event. It is with the kernel when this returns, so that a killed controller loses none."""
        with self._writing, self._tolerant():
            if self._events is None:
                return
            data = codec.encode_event(event)
            kept = {k: v if k in STRUCTURE else redact_data({k: v}, self._secrets)[k] for k, v in data.items()}
            line = json.dumps(kept, default=str).encode() + b"\n"
            try:
                if self._events.write(line) != len(line):
                    raise OSError("the disk is full")
            except OSError:
                # After half a line nothing more may follow: the reader forgives a torn end only.
                self._events = None
                raise

    def finish(self, report: Report) -> None:
        """Close the run with what it came to."""
        run = report.run
        with self._tolerant():
            if self._db and run:
                changed = sum(outcome.changed for outcome in report.hosts)
                end = (report.finished, report.status, report.exit_code, changed, run)
                with _transaction(self._db) as db:
                    db.execute(
                        "UPDATE runs SET finished = ?, status = ?, exit_code = ?, changed = ? WHERE run = ?", end
                    )
                    rows = [(run, *times) for times in _durations(report)]
                    db.executemany("INSERT INTO durations (run, role, task, seconds) VALUES (?, ?, ?, ?)", rows)
        with self._writing:
            if self._events:
                self._events.close()
                self._events = None

    # -- the history -----------------------------------------------------------------------------------------------

    def history(self, limit: int = 20) -> list[RunRecord]:
        """The newest `limit` runs, newest first.

        Raises:
            ProvisionError: the history cannot be read.
        """
        rows = self._query("SELECT * FROM runs ORDER BY started DESC, run DESC LIMIT ?", limit)
        return [self._record(row) for row in rows]

    def show(self, which: str = "last") -> Report:
        """The report of one run, folded again from its events. `which` is an id, a unique beginning of one, or `last`.

        A run that still goes on folds to what is known so far, with `data["running"]`.

        Raises:
            ProvisionError: there is no such run, or it cannot be read.
        """
        run = self._find(which)
        path = self.home / "runs" / run
        report = fold(_read_events(path / "events.jsonl"))
        return replace(report, data={"running": True}) if _is_running(path) else report

    def resumable(self) -> list[RunRecord]:
        """Applies that were interrupted and whose hosts no later apply has taken to an end, newest first."""
        left: list[RunRecord] = []
        ended: set[str] = set()
        for record in self.history(KEEP_RUNS):
            if record.verb != "apply" or "--check" in record.argv:
                continue
            if record.status in ("ok", "failed", "unproved"):
                ended.update(record.hosts)
            elif record.status == "interrupted" and not ended.issuperset(record.hosts):
                left.append(record)
        return left

    def durations(self) -> dict[tuple[str, str], float]:
        """The median seconds of each (role, task) over the runs that were kept; empty where there are none."""
        seen: dict[tuple[str, str], list[float]] = {}
        with self._tolerant():
            if self._db:
                for role, task, seconds in self._db.execute("SELECT role, task, seconds FROM durations"):
                    seen.setdefault((role, task), []).append(seconds)
        return {key: _median(values) for key, values in seen.items()}

    def expected(self, role: str, task: str) -> float | None:
        """How many seconds a task usually takes; None where no earlier run knows. Asks the database once."""
        if self._usual is None:
            self._usual = self.durations()
        return self._usual.get((role, task))

    # -- within ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """What goes wrong in here is told in `trouble` and costs no more than its place in the history."""
        try:
            yield
        except (OSError, sqlite3.Error, ProvisionError, TypeError, ValueError) as error:
            self.trouble = self.trouble or _trouble(self.home, error)

    def _query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        if self._db is None:
            raise ProvisionError(self.trouble or _trouble(self.home, OSError("it is not open")))
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise ProvisionError(_trouble(self.home, error)) from error

    def _find(self, which: str) -> str:
        if which == "last":
            rows = self._query("SELECT run FROM runs ORDER BY started DESC, run DESC LIMIT 1")
            if not rows:
                raise refuse("the history", "is empty", "provision plan --tier budget HOST starts a run")
            return str(rows[0]["run"])
        rows = self._query("SELECT run FROM runs WHERE substr(run, 1, ?) = ? ORDER BY run", len(which), which)
        found = [str(row["run"]) for row in rows]
        if len(found) == 1 or which in found:
            return which if which in found else found[0]
        if not found:
            raise refuse(f"run {which!r}", "is not in the history", "provision history lists the runs")
        raise refuse(f"run {which!r}", f"could be any of {', '.join(found[:5])}", "give more of its id")

    def _record(self, row: sqlite3.Row) -> RunRecord:
        record = RunRecord(
            **{
                **dict(row),
                "hosts": tuple(json.loads(row["hosts"])),
                "argv": tuple(json.loads(row["argv"])),
                "changed": row["changed"] or 0,
            }
        )
        if record.status is not None:
            return record
        if _is_running(self.home / "runs" / record.run):
            return replace(record, status="running")
        return replace(record, status="interrupted", exit_code=EXIT_INTERRUPTED)

    def _prune(self, now: float) -> None:
        """Forget what is too old or too much, and never a run that still goes on."""
        rows = self._query("SELECT run, started FROM runs ORDER BY started DESC, run DESC")
        for place, row in enumerate(rows):
            path = self.home / "runs" / row["run"]
            old = place >= KEEP_RUNS or row["started"] < now - KEEP_SECONDS
            if old and not _is_running(path):
                shutil.rmtree(path, ignore_errors=True)
                self._query("DELETE FROM runs WHERE run = ?", row["run"])


def _connect(home: Path) -> sqlite3.Connection:
    """The database, brought to this version's schema."""
    path = home / "ledger.sqlite3"
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    # Threads share it: verify tests of several hosts end in their own threads.
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = NORMAL")
    with os.fdopen(os.open(home / "ledger.lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        # SQLite's own busy timeout does not cover the switch to WAL.
        fcntl.flock(lock, fcntl.LOCK_EX)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCHEMA):
            fact = f"was written by a newer provision (schema {version}; this one knows {len(SCHEMA)})"
            raise refuse(f"the run history in {path}", fact, "upgrade provision, or set XDG_STATE_HOME elsewhere")
        if version < len(SCHEMA):
            db.execute("PRAGMA journal_mode = WAL")
            for number, script in enumerate(SCHEMA[version:], start=version + 1):
                db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    return db


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _private_directory(path: Path) -> None:
    """`path` and its parent, for nobody but their owner."""
    path.mkdir(parents=True, exist_ok=True)
    for directory in (path.parent, path):
        directory.chmod(0o700)


def _open_events(directory: Path) -> IO[bytes]:
    """A new run's event file. Its lock lives as long as this process: that is how others see that the run goes on."""
    directory.mkdir(mode=0o700)
    handle = os.open(directory / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return os.fdopen(handle, "ab", buffering=0)


def _is_running(directory: Path) -> bool:
    try:
        with (directory / "events.jsonl").open("rb") as events:
            fcntl.flock(events, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read_events(path: Path) -> Iterator[Event]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise refuse(f"run {path.parent.name}", f"has lost its events: {error.strerror}", f"look at {path}") from error
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return  # the controller died in the middle of this line
            hint = "it was changed by hand or by a fault of the disk"
            raise refuse(f"{path}, line {number}", f"is not JSON: {error}", hint) from error
        yield codec.decode_event(data, f"{path}, line {number}")


def _durations(report: Report) -> list[tuple[str, str, float]]:
    """The median seconds of each task over the run's hosts. Check mode and skipped tasks say nothing about time."""
    seen: dict[tuple[str, str], list[float]] = {}
    for outcome in () if report.check_mode else report.hosts:
        for task in outcome.tasks:
            if task.state in ("ok", "changed"):
                seen.setdefault((task.role, task.task), []).append(task.seconds)
    return [(role, task, _median(values)) for (role, task), values in seen.items()]


def _median(values: list[float]) -> float:
    # `statistics` takes 10 ms to import, and every run would pay for it.
    return sorted(values)[len(values) // 2]


def _trouble(home: Path, error: Exception) -> Refusal:
    path = home / "ledger.sqlite3"
    if isinstance(error, ProvisionError):
        return error.refusals[0]
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return Refusal(f"the run history in {path}", f"is damaged: {error}", f"move it away: mv {path} {path}.damaged")
    fact = f"cannot be used: {getattr(error, 'strerror', None) or error}"
    hint = "make room or mend the permissions there, or set XDG_STATE_HOME to another directory"
    return Refusal(f"the run history in {home}", fact, hint)


def _new_id(now: float) -> str:
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
