"""What every test shares: a home of its own, so that none reads or writes the user's, and the lab where asked for."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provision"

MOST_WORKERS = 8  # there are not many more groups of tests that need a target


def lab_state() -> Path:
    """A state home of this worker of this checkout's tests: the next run removes what a killed one left behind."""
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    return CACHE / "tests" / f"{checkout}{os.environ.get('PYTEST_XDIST_WORKER', '')}"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and ledgers of a test go to a temporary state home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def test_lab() -> Iterator[None]:
    """The lab of this checkout's tests: empty before, empty after, one test run at a time."""
    state = lab_state()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setenv("XDG_STATE_HOME", str(state))
        lab.down(every=True)
        try:
            yield
        finally:
            patch.setenv("XDG_STATE_HOME", str(state))
            lab.down(every=True)


def why_no_lab() -> str | None:
    """Why this machine cannot hold a target, or None where it can."""
    try:
        lab.require()
    except ProvisionError as error:
        return f"{error} ({error.refusals[0].hint})"
    return None


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: who waits for a target to boot needs none."""
    return min((os.cpu_count() or 1) + 1, MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; tests that share a target, or a file, stay together; without a lab, those of targets skip."""
    items.sort(key=lambda item: (not item.get_closest_marker("slow"), not item.get_closest_marker("lab")))
    for item in items:
        shared = {"box", "gpu_box"}.intersection(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group(min(shared, default=item.path.name)))
    wanted = [item for item in items if item.get_closest_marker("lab")]
    if wanted and (reason := why_no_lab()):
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason=f"a throwaway target cannot be held: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    for reason, count in Counter(skipped).items():
        terminalreporter.write_line(f"SKIPPED {count} tests: {reason.removeprefix('Skipped: ')}", red=True)
