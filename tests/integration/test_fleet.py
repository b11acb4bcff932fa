"""Several hosts at once: stand-ins for Ubuntu (Debian roots whose os-release says Ubuntu), and a box without Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import Answer, Target, changed_tasks, provision
from tests.integration.whole_box import ROLES

pytestmark = pytest.mark.lab

IMAGES = {"focal": "ubuntu-20.04-standin", "jammy": "ubuntu-22.04-standin", "noble": "ubuntu-24.04-standin"}


@pytest.fixture(scope="module")
def fleet(new_target: Callable[..., Target]) -> dict[str, Target]:
    return {name: new_target(name, image) for name, image in IMAGES.items()}


def apply(fleet: dict[str, Target], *words: str) -> Answer:
    first = next(iter(fleet.values()))
    hosts = ["-i", first.host.inventory, "--limit", ":".join(fleet)]
    given = ["--tier", "budget", "--accept-hardware", "--yes", "--output", "json"]
    return provision("apply", *hosts, *given, *words, home=first.home)


@pytest.fixture(scope="module")
def applied(fleet: dict[str, Target]) -> Answer:
    return apply(fleet)


@pytest.mark.parametrize("name", IMAGES)
def test_each_stand_in_is_proved(applied: Answer, name: str) -> None:
    host = applied.host(name)
    assert host["state"] == "converged", host["failure"]
    assert host["plan"]["os"]["version"] == IMAGES[name].split("-")[1]
    assert {check["role"] for check in host["checks"]} == set(ROLES)
    assert {check["state"] for check in host["checks"]} == {"passed"}


def test_a_second_apply_changes_none_of_them(fleet: dict[str, Target], applied: Answer) -> None:
    again = apply(fleet, "--no-verify")
    assert again.code == 0, again.out[-4000:]
    assert {name: changed_tasks(again, name) for name in fleet} == {name: set() for name in fleet}


def test_one_host_that_does_not_answer_stops_only_itself(fleet: dict[str, Target], applied: Answer) -> None:
    gone = fleet["noble"]
    gone.sh("systemctl stop ssh.socket ssh.service", check=False)
    answer = apply(fleet, "--only", "base", "--no-verify")
    states = {name: answer.host(name)["state"] for name in fleet}
    assert states == {"focal": "converged", "jammy": "converged", "noble": "unreachable"}
    assert answer.code == 3


def test_a_box_without_python_gets_it_first(new_target: Callable[..., Target]) -> None:
    bare = new_target("bare", "debian-12-bare")
    foretold = bare.apply("--check", "--only", "base")
    assert foretold.code == 0, foretold.out[-3000:]
    assert changed_tasks(foretold, "bare") == {("", "Bring Python, which every other task needs")}
    assert "python3" not in bare.sh("ls /usr/bin")
    answer = bare.apply("--only", "base")
    assert answer.code == 0, answer.out[-3000:] + answer.err[-2000:]
    assert changed_tasks(answer, "bare") > changed_tasks(foretold, "bare")
