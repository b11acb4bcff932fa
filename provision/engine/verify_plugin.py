"""The pytest plugin of one host's verification: the fixtures `host` and `plan`, and a line of JSON for each result.

`checks` starts pytest with it in a process of its own. The job comes through a pipe, as it may hold a password.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import testinfra.host
from testinfra.backend import base

from provision import codec
from provision.engine.checks import JOB, RESULTS
from provision.engine.shell import Shell
from provision.model import HostPlan

LONGEST_MESSAGE = 600  # characters
COMMAND_PATIENCE = 600  # seconds; loading a large model takes minutes
ASSUMED = "every card of this host is assumed (--assume-gpu): not proved"
_job = pytest.StashKey[dict[str, Any]]()
_reporter = pytest.StashKey["Reporter"]()
_real_cards = pytest.StashKey[bool]()


class Result(base.CommandResult):  # type: ignore[misc]  # testinfra is untyped
    """A command's end that reads like a sentence in an assertion."""

    def __repr__(self) -> str:
        said = (self.stderr or self.stdout).strip()
        return f"`{self.command.decode(errors='replace')}` ({said[-300:] or 'no output'})"


class SharedSsh(base.BaseBackend):  # type: ignore[misc]  # testinfra is untyped
    """testinfra over the connection that the whole run shares, with sudo the way preflight found possible.

    Two shells stay open, the login user's and root's: a sudo and a login for each command would be most of a proof.
    """

    NAME = "ssh"

    def __init__(self, job: dict[str, Any], lost: Callable[[str], None]) -> None:
        super().__init__(job["host"])
        self._name = job["host"]
        self._mode = job["sudo"]
        self._password = job["password"]
        self._ssh = ["ssh", "-F", job["ssh_config"], "-T"]
        self._lost = lost
        self._shells: dict[str, Shell] = {}
        self._become = ""  # what the command that is being put together is to be run by

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        self._become = {"root": "", "free": "sudo -n -- ", "password": "sudo -k -S -p '' -- "}[self._mode]
        # Root needs no password to become somebody else.
        return f"runuser -u {shlex.quote(sudo_user)} -- /bin/sh -c {shlex.quote(command)}" if sudo_user else command

    def run(self, command: str, *args: str, **_: Any) -> base.CommandResult:
        self._become = ""
        line = self.get_command(command, *args)
        shell = self._shells.get(self._become) or self._open(self._become)
        try:
            said = shell.run(line, COMMAND_PATIENCE)
        except subprocess.TimeoutExpired:
            self._close(self._become)
            raise
        if said.ended:
            self._close(self._become)
            if said.code == 255 and not self._connected():
                self._lost(said.err.decode(errors="replace"))
        shown = self.encode(self.quote(command, *args))
        return Result(self, said.code, shown, said.out, said.err)

    def close(self) -> None:
        for become in tuple(self._shells):
            self._close(become)

    def _open(self, become: str) -> Shell:
        password = self._password if "-S" in become else None
        self._shells[become] = Shell([*self._ssh, "--", self._name, f"{become}/bin/sh"], password)
        return self._shells[become]

    def _close(self, become: str) -> None:
        self._shells.pop(become).close()

    def _connected(self) -> bool:
        """255 is ssh's own code, but a command may end with it as well."""
        check = [*self._ssh, "-O", "check", "--", self._name]
        return subprocess.run(check, capture_output=True, timeout=10, check=False).returncode == 0


class Reporter:
    """Sends each result up the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self._seconds = 0.0
        self._seen: dict[str, None] = {}  # what the present test's assertions found, in their order

    def send(self, **result: Any) -> None:
        self._pipe.write(json.dumps(result) + "\n")

    def lost(self, said: str) -> None:
        self.send(lost=said)
        pytest.exit("the host does not answer any more", returncode=0)

    def pytest_runtest_logstart(self) -> None:
        self._seen.clear()

    def pytest_assertion_pass(self, orig: str, expl: str) -> None:
        """What a check asserted and found is its evidence also where it passed."""
        asserted = " ".join(orig.split())
        lines = [line for line in _short(expl).splitlines() if line != asserted]
        found = lines[:1] + [line for line in lines[1:] if line.startswith(" +")]  # the rest compares what is the same
        self._seen["\n".join([f"assert {asserted}", *found])] = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds = report.duration + (0 if report.when == "setup" else self._seconds)
        if report.when != "call" and report.passed:
            return
        state = report.outcome if report.when == "call" or report.skipped else "error"
        role, _, check = _place(report.nodeid)
        if report.when == "teardown":
            check = f"{check} (teardown)"
        seconds = round(self._seconds, 3)
        message = "\n".join(self._seen) if report.passed else _message(report)
        self.send(role=role, check=check, state=state, seconds=seconds, message=_cut(message))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.passed:
            return
        role, file, _ = _place(report.nodeid)
        state = "skipped" if report.skipped else "error"
        self.send(role=role, check=file or "collection", state=state, seconds=0.0, message=_cut(_message(report)))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    with os.fdopen(int(os.environ.pop(JOB)), encoding="utf-8") as stream:
        config.stash[_job] = json.load(stream)
    config.stash[_reporter] = Reporter(int(os.environ.pop(RESULTS)))
    config.pluginmanager.register(config.stash[_reporter])
    config.addinivalue_line("markers", "gpu: asks a real NVIDIA GPU of the host")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What asks a GPU is left out where the plan has none, and skipped where every one of them is assumed."""
    cards = config.stash[_job]["plan"].get("cards", [])
    config.stash[_real_cards] = not all(card.get("assumed", False) for card in cards)
    asking = [item for item in items if item.get_closest_marker("gpu")]
    if not cards:
        config.hook.pytest_deselected(items=asking)
        items[:] = [item for item in items if item not in asking]
    elif not config.stash[_real_cards]:
        for item in asking:
            item.add_marker(pytest.mark.skip(reason=ASSUMED))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the cards are real, a test that asks one and skips has found that it cannot be asked: a failure."""
    report = yield
    if report.skipped and item.get_closest_marker("gpu") and item.config.stash[_real_cards]:
        report.longrepr = f"skipped, although this host's cards are real: {' '.join(_message(report).split())}"
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def plan(request: pytest.FixtureRequest) -> HostPlan:
    """What the host should be."""
    return codec.from_data(HostPlan, request.config.stash[_job]["plan"], "the plan")


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[testinfra.host.Host]:
    """The host, as testinfra asks it. `with host.sudo():` works whatever sudo wants."""
    stash = request.config.stash
    with contextlib.closing(SharedSsh(stash[_job], stash[_reporter].lost)) as backend:
        yield testinfra.host.Host(backend)


def _place(nodeid: str) -> tuple[str, str, str]:
    """Role, file and test of `base/verify/test_base.py::test_time[ntp]`."""
    path, _, test = nodeid.partition("::")
    return path.partition("/")[0], path.rpartition("/")[2], test


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What was expected and what was found: the first lines of the assertion, without the traceback."""
    told = report.longrepr
    if isinstance(told, tuple):
        return str(told[2]).removeprefix("Skipped: ")
    if crash := getattr(told, "reprcrash", None):
        return _short(str(crash.message).removeprefix("AssertionError: "))
    return (str(told).strip().splitlines() or ["no message"])[-1].removeprefix("E ").strip()


def _short(explanation: str) -> str:
    """An assertion without what is not worth a line: where a value came from is, where that came from is not."""
    lines = explanation.splitlines()
    return "\n".join(line for line in lines if not line.startswith(" +    ") and "<testinfra." not in line)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ..."
