"""Which tests go to one worker together, in which order the groups start, and how long they took.

A group is a file, unless the mark `xdist_group("name")` says otherwise: then several files share one worker and its
session fixtures (or, on a single test, that test goes alone). Groups start in the order of the seconds that they took
in a kept run (tests/durations.json), the longest first; in a group the order is that of the files' names and, within
a file, of its tests. PROVISION_UPDATE_DURATIONS=1 writes the kept seconds anew.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

KEPT = Path(__file__).with_name("durations.json")
UPDATE = "PROVISION_UPDATE_DURATIONS"
SHOWN, LEAST = 10, 1.0  # so many lines, and none below so many seconds


def group_of(item: pytest.Item) -> str:
    """The group of a test: what its marks say, or its file."""
    marks = {str(mark.args[0] if mark.args else mark.kwargs["name"]) for mark in item.iter_markers("xdist_group")}
    return "_".join(sorted(marks)) or file_of(item.nodeid)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def longest_first(items: list[pytest.Item], kept: Mapping[str, float]) -> None:
    """Sort the tests. A group that no kept run has seen counts as the mean of those seen."""
    unknown = sum(kept.values()) / len(kept) if kept else 0.0

    def place(item: pytest.Item) -> tuple[float, str, str]:
        group = group_of(item)
        return -kept.get(group, unknown), group, file_of(item.nodeid)

    items.sort(key=place)


def read(path: Path) -> dict[str, Any]:
    """What a file keeps: the seconds of each group, or the group of each test."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


class Groups:
    """The plugin: orders, measures and tells."""

    def __init__(self, config: pytest.Config, path: Path = KEPT) -> None:
        self._config = config
        self._path = path
        self._groups: dict[str, float] = defaultdict(float)
        self._tests: dict[str, dict[str, float]] = defaultdict(dict)
        self._incomplete: set[str] = set()  # groups whose time says nothing of the next run's
        self._told = tempfile.TemporaryDirectory(prefix="groups-")  # where workers tell the groups of their tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        longest_first(items, read(self._path))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["groups"] = self._told.name

    @pytest.hookimpl(tryfirst=True)  # before xdist sends the names of the tests to the process that deals them out
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if told := getattr(self._config, "workerinput", {}):
            groups = {item.nodeid: group_of(item) for item in session.items}
            Path(told["groups"], told["workerid"]).write_text(json.dumps(groups), encoding="utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Deals out by group. xdist's own way appends the group to a test's name, which pytest 9.2 keeps from it."""
        if config.getvalue("dist") != "loadgroup":
            return None
        from xdist.scheduler import LoadScopeScheduling

        told = Path(self._told.name)

        class ByGroup(LoadScopeScheduling):
            groups: Mapping[str, str] = {}

            def _split_scope(self, nodeid: str) -> str:
                if nodeid not in self.groups:  # xdist takes care that all workers have found the same tests
                    self.groups = {name: group for file in told.iterdir() for name, group in read(file).items()}
                return self.groups[nodeid]

        return ByGroup(config, log)

    def pytest_unconfigure(self) -> None:
        self._told.cleanup()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        report.group = group_of(item)  # a worker's reports carry it to the process that tells
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        group = getattr(report, "group", file_of(report.nodeid))  # a worker that crashed has no report of its own
        self._groups[group] += report.duration
        self._tests[report.nodeid][report.when or ""] = report.duration
        if not report.passed:
            self._incomplete.add(group)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        groups = sorted(self._groups.items(), key=lambda item: -item[1])
        tests = sorted(self._tests.items(), key=lambda item: -sum(item[1].values()))
        lines = [f"{seconds:7.1f} s  {group}" for group, seconds in groups[:SHOWN] if seconds >= LEAST]
        if lines:
            terminalreporter.section("slowest groups: set-up, tests and tear-down")
            terminalreporter.write_line("\n".join(lines))
        lines = [
            f"{phases.get('setup', 0):7.1f} s set-up {phases.get('call', 0):7.1f} s call  {nodeid}"
            for nodeid, phases in tests[:SHOWN]
            if sum(phases.values()) >= LEAST
        ]
        if lines:
            terminalreporter.section("slowest tests")
            terminalreporter.write_line("\n".join(lines))

    def pytest_sessionfinish(self) -> None:
        if os.environ.get(UPDATE) and not hasattr(self._config, "workerinput"):
            self._path.write_text(json.dumps(self._renewed(), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _renewed(self) -> dict[str, float]:
        """The kept seconds after this run, whole ones. Only who ran everything forgets the groups that are gone."""
        option = self._config.option
        if option.keyword or option.markexpr or any("::" in arg for arg in self._config.args):
            return read(self._path)  # a part of a group says little of the whole
        everything = self._config.args_source is pytest.Config.ArgsSource.TESTPATHS
        seen = {group: round(seconds) for group, seconds in self._groups.items() if group not in self._incomplete}
        kept = read(self._path)
        if everything:
            kept = {group: seconds for group, seconds in kept.items() if group in self._groups}
        return {**kept, **seen}
