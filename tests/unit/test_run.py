"""A run ends as told, whoever started it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from provision.catalog import load_catalog
from provision.events import Event
from provision.model import Host
from provision.operations.request import Input, Request
from provision.operations.run import Run, Verb, conduct
from provision.report import EXIT_INTERRUPTED
from provision.resolve import Choice


class Nobody:
    """A watcher that looks away."""

    expect: Callable[[str, str], float | None]

    def emit(self, event: Event) -> None: ...


@pytest.fixture(params=[signal.SIG_IGN, signal.default_int_handler], ids=["ignored", "heard"])
def ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """SIGINT as a shell's background job has it, and as a job in the foreground has it."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigterm_ends_a_run_whether_or_not_ctrl_c_is_heard(ctrl_c: None) -> None:
    def work(_run: Run) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # a signal that is lost shows itself by this
        raise AssertionError("the signal was lost")

    given = Input((Host("box"),), {}, {}, load_catalog(), Choice())
    report = conduct(Verb("verify"), Request(("box",)), given, Nobody(), work)
    assert report.exit_code == EXIT_INTERRUPTED
