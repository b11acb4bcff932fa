"""A unit is started anew, and where it fails the module says what its program said this time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from provision.content import load, playbooks_dir

unit = load(playbooks_dir() / "module_utils" / "provision_unit.py")


class Ended(Exception):
    """How the module ended."""

    def __init__(self, failed: bool, **result: Any) -> None:
        super().__init__(failed, result)
        self.failed, self.result = failed, result


class Ansible:
    """Stands in for AnsibleModule on a host whose unit ends with `code` and whose journal has lines by their age."""

    def __init__(self, code: int = 0, journal: tuple[tuple[int, str], ...] = (), *, check: bool = False) -> None:
        self.code, self.journal, self.check_mode = code, journal, check
        self.said: list[str] = []

    def run_command(self, argv: list[str]) -> tuple[int, str, str]:
        self.said.append(argv[0])
        if argv[0] == "systemctl":
            return self.code, "", "Job for tuning.service failed.\n"
        since = int(argv[argv.index("--since") + 1].lstrip("@")) if "--since" in argv else 0
        return 0, "".join(f"{line}\n" for age, line in self.journal if time.time() - age >= since), ""

    def exit_json(self, **result: Any) -> None:
        raise Ended(failed=False, **result)

    def fail_json(self, **result: Any) -> None:
        raise Ended(failed=True, **result)


def restarted(module: Ansible) -> Ended:
    with pytest.raises(Ended) as ended:
        unit.restart(module, "tuning.service", "tuning: ")
    return ended.value


def test_a_unit_that_starts_is_a_change() -> None:
    assert restarted(Ansible()).result == {"changed": True}


def test_check_mode_starts_nothing() -> None:
    module = Ansible(check=True)
    assert restarted(module).result == {"changed": True}
    assert module.said == []


def test_only_what_was_said_this_time_is_told() -> None:
    journal = (
        (600, "tuning: no card eth9"),
        (0, "Starting."),
        (0, "tuning: eth0 refuses"),
        (0, "tuning: eth0 refuses"),
    )
    ended = restarted(Ansible(1, journal))
    assert (ended.failed, ended.result) == (True, {"msg": "eth0 refuses"})


def test_a_program_that_says_nothing_leaves_the_word_to_systemd() -> None:
    assert restarted(Ansible(1)).result == {"msg": "Job for tuning.service failed."}
