"""Several hosts at once: stand-ins for Ubuntu (Debian roots whose os-release says Ubuntu), and a box without Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from provision.content import roles_dir
from tests.integration.conftest import Answer, Target, changed_tasks, provision
from tests.integration.whole_box import ROLES

pytestmark = pytest.mark.lab

# The first builds torch and computes with it; the others build a lock of their own, which is soon done.
IMAGES = {"focal": "ubuntu-20.04-standin", "jammy": "ubuntu-22.04-standin", "noble": "ubuntu-24.04-standin"}
LOCKS = roles_dir() / "python_ml" / "files" / "locks"


@dataclass(frozen=True)
class Fleet:
    """Targets by name, and the inventory that has them with their own settings."""

    targets: dict[str, Target]
    inventory: Path

    def apply(self, *words: str) -> Answer:
        hosts = ["-i", str(self.inventory), "--limit", ":".join(self.targets)]
        given = ["--tier", "budget", "--accept-hardware", "--yes", "--output", "json"]
        return provision("apply", *hosts, *given, *words, home=self.inventory.parent)


def own_lock(folder: Path) -> Path:
    """A lock of one distribution, out of ours."""
    found = re.search(r"^mpmath==.*?(?=^\S|\Z)", (LOCKS / "torch-cpu.txt").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    path = folder / "own.txt"
    path.write_text(found.group(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fleet(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    targets = {name: new_target(name, image) for name, image in IMAGES.items()}
    folder = tmp_path_factory.mktemp("fleet")
    listed = yaml.safe_load(Path(targets["focal"].host.inventory).read_text("utf-8"))
    for name in ("jammy", "noble"):
        environment = {"name": "own", "requirements": str(own_lock(folder))}
        listed["all"]["children"]["lab"]["hosts"][name]["python_ml_environments"] = [environment]
    (folder / "hosts.yml").write_text(yaml.safe_dump(listed), encoding="utf-8")
    return Fleet(targets, folder / "hosts.yml")


@pytest.fixture(scope="module")
def applied(fleet: Fleet) -> Answer:
    return fleet.apply()


@pytest.mark.parametrize("name", IMAGES)
def test_each_stand_in_is_proved(applied: Answer, name: str) -> None:
    host = applied.host(name)
    assert host["state"] == "converged", host["failure"]
    assert host["plan"]["os"]["version"] == IMAGES[name].split("-")[1]
    assert {check["role"] for check in host["checks"]} == set(ROLES)
    assert {check["state"] for check in host["checks"]} == {"passed"}


def test_torch_or_a_lock_of_ones_own_is_what_the_environment_holds(fleet: Fleet, applied: Answer) -> None:
    held = {name: target.sh("ls /opt/provision/envs").split() for name, target in fleet.targets.items()}
    assert held == {"focal": ["torch"], "jammy": ["own"], "noble": ["own"]}


def test_a_second_apply_changes_none_of_them(fleet: Fleet, applied: Answer) -> None:
    again = fleet.apply("--no-verify")
    assert again.code == 0, again.out[-4000:]
    assert {name: changed_tasks(again, name) for name in IMAGES} == {name: set() for name in IMAGES}


def test_one_host_that_does_not_answer_stops_only_itself(fleet: Fleet, applied: Answer) -> None:
    gone = fleet.targets["noble"]
    gone.sh("systemctl stop ssh.socket ssh.service", check=False)
    answer = fleet.apply("--only", "base", "--no-verify")
    states = {name: answer.host(name)["state"] for name in IMAGES}
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
