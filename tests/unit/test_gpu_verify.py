"""The verify tests that ask a GPU, run by pytest on recorded hosts: a sound one passes, each broken one fails.

There is no card to break, so these stand where the other verify tests have their negative controls. One file a role in
tests/cases/gpu_verify: the plan, what a sound host answers to which command (a regular expression), and for each test
the hosts on which it must fail.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
import yaml
from testinfra.backend import base

from provision import codec
from provision.content import roles_dir
from provision.model import HostPlan

CASES = Path(__file__).parents[1] / "cases"
PLAN: dict[str, Any] = {
    "host": "box",
    "tier": "workstation",
    "os": {"id": "ubuntu", "version": "22.04", "codename": "jammy", "architecture": "x86_64"},
    "roles": ["nvidia_driver", "cuda", "nvidia_container_toolkit", "docker", "gpu_power", "python_ml"],
    "frameworks": {"torch_backend": "cu130", "python": "3.12"},
}


class Recorded(base.BaseBackend):  # type: ignore[misc]  # testinfra is untyped
    """A host that answers from a list: the first entry whose pattern is found in the command."""

    NAME = "recorded"

    def __init__(self, answers: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("box")
        self.answers = answers

    def run(self, command: str, *args: str, **_: Any) -> base.CommandResult:
        line = self.get_command(command, *args)
        for each in self.answers:
            if re.search(each["command"], line):
                out = (CASES / each["file"]).read_text(encoding="utf-8") if "file" in each else each.get("out", "")
                for old, new in each.get("replace", {}).items():
                    assert old in out, f"{each['file']} holds no {old}"
                    out = out.replace(old, new, 1)
                return self.result(each.get("code", 0), self.encode(line), out.encode(), b"")
        return self.result(127, self.encode(line), b"", f"nothing is recorded for: {line}".encode())


@dataclass
class Bench:
    """A pytest plugin that gives verify tests a recorded host, and keeps how they ended."""

    answers: Sequence[Mapping[str, Any]]
    planned: HostPlan

    def __post_init__(self) -> None:
        self.failures: list[str] = []
        self.passed = 0

    @pytest.fixture(scope="session")
    def host(self) -> testinfra.host.Host:
        return testinfra.host.Host(Recorded(self.answers))

    @pytest.fixture(scope="session")
    def plan(self) -> HostPlan:
        return self.planned

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed += 1
        elif not report.passed:
            self.failures.append(str(report.longrepr))

    def run(self, role: str, test: str) -> None:
        alone = ["-c", os.devnull, "--rootdir", str(roles_dir()), "--noconftest", "--import-mode=importlib"]
        without = [f"no:{name}" for name in ("cacheprovider", "terminal", "unraisableexception")]
        quiet = ["-W", "ignore::pytest.PytestUnknownMarkWarning", *(word for name in without for word in ("-p", name))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # testinfra's own plugin brings a host too
            patch.delenv("PYTEST_ADDOPTS", raising=False)  # they are for the run around this one
            pytest.main(
                [*alone, *quiet, f"{roles_dir() / role / 'verify' / f'test_{role}.py'}::{test}"], plugins=[self]
            )


@functools.cache
def load(role: str) -> dict[str, Any]:
    document = yaml.safe_load((CASES / "gpu_verify" / f"{role}.yml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@functools.cache
def defaults() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(roles_dir().glob("*/defaults/main.yml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return found


def bench(role: str, case: Mapping[str, Any]) -> Bench:
    """The role's sound host, with what the case says over it."""
    document = load(role)
    given = {**PLAN, **document["plan"], **case.get("plan", {})}
    given["settings"] = {**defaults(), **document["plan"].get("settings", {}), **case.get("settings", {})}
    plan = codec.from_data(HostPlan, given, "the plan of the case")
    return Bench([*case.get("host", []), *document["host"]], plan)


ROLES = sorted(path.stem for path in (CASES / "gpu_verify").glob("*.yml"))
SOUND = [(role, test) for role in ROLES for test in load(role)["tests"]]
BROKEN = [
    pytest.param(role, test, name, id=f"{role}: {test}: {name}")
    for role, test in SOUND
    for name in load(role)["tests"][test]["broken"]
]


@pytest.mark.parametrize(("role", "test"), SOUND)
def test_it_passes_on_a_sound_host(role: str, test: str) -> None:
    ground = bench(role, load(role)["tests"][test].get("sound", {}))
    ground.run(role, test)
    assert ground.failures == []
    assert ground.passed >= 1


@pytest.mark.parametrize(("role", "test", "name"), BROKEN)
def test_it_fails_on_a_broken_one_and_says_why(role: str, test: str, name: str) -> None:
    case = load(role)["tests"][test]["broken"][name]
    ground = bench(role, case)
    ground.run(role, test)
    assert ground.passed == 0
    assert len(ground.failures) == 1
    assert case["says"] in ground.failures[0]
    assert "nothing is recorded" not in ground.failures[0]
