"""What every test shares: settled surroundings, an own home, so that none uses the user's, and the lab if asked for."""

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
from tests import groups, headless, surroundings

surroundings.settle()  # first of all: what is imported and set up below already counts on it

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provision"

MOST_WORKERS = 8  # there are not many more groups of tests that need a target
NEEDS_TARGET, NEEDS_BROWSER = "needs a throwaway target: ", "needs a browser: "


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


def up_or_skip(name: str, image: str) -> lab.LabHost:
    """A target; where it is a virtual machine and this machine lacks what those need, the test is skipped."""
    if lab.is_virtual(image) and (faults := lab.lacking()):
        pytest.skip(reason_of(ProvisionError(faults)))
    return lab.up(name, image)


def reason_of(error: ProvisionError) -> str:
    """Why this machine cannot hold a target."""
    return f"{NEEDS_TARGET}{error} ({error.refusals[0].hint})"


def why_no_lab() -> str | None:
    """Why this machine cannot hold a target, or None where it can."""
    try:
        lab.require()
    except ProvisionError as error:
        return reason_of(error)
    return None


def why_no_browser() -> str | None:
    """Why this machine cannot open a page, or None where it can."""
    hint = "tools/setup test installs it where apt has one"
    return None if headless.browser() else f"{NEEDS_BROWSER}there is no Chromium ({hint})"


NEEDS = {"lab": why_no_lab, "browser": why_no_browser}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One for each core: an emulated machine takes a whole one, and what waits for it has limits of its own."""
    return min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(groups.Groups(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this machine cannot hold is skipped."""
    for marker, why_not in NEEDS.items():
        wanted = [item for item in items if item.get_closest_marker(marker)]
        if wanted and (reason := why_not()):
            for item in wanted:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    for reason, count in skipped.items():
        if reason.startswith((NEEDS_TARGET, NEEDS_BROWSER)):
            terminalreporter.write_line(f"SKIPPED {count} tests: each {reason}", red=True)
