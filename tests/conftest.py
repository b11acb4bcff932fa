"""What every test shares: a home of its own, so that none reads or writes the user's, and the lab where asked for."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from tests import headless

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provision"

_skipped: list[str] = []


def lab_state() -> Path:
    """A state home of this checkout's tests: what a killed run left behind is found and removed by the next."""
    return CACHE / "tests" / hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


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


def why_no_browser() -> str | None:
    """Why this machine cannot open a page, or None where it can."""
    return None if headless.browser() else "there is no Chromium (tools/setup test installs it where apt has one)"


NEEDS = {"lab": ("a throwaway target", why_no_lab), "browser": ("a browser", why_no_browser)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (thing, why_not) in NEEDS.items():
        wanted = [item for item in items if item.get_closest_marker(marker)]
        reason = why_not() if wanted else None
        if reason:
            _skipped.append(f"SKIPPED {len(wanted)} tests that need {thing}: {reason}")
            for item in wanted:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for told in _skipped:
        terminalreporter.write_line(told, red=True)
