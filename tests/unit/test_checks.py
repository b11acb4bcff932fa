"""The roles' verify tests, run for real by pytest over an ssh that answers what it is told to."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from provision import content
from provision.engine.checks import check
from provision.engine.preflight import Found
from provision.engine.workspace import Workspace
from provision.events import CheckFinished, Event, HostUnreachable
from provision.model import Card, Driver, Frameworks, Host, HostPlan, OperatingSystem

SYSTEM = OperatingSystem("debian", "12", "bookworm", "x86_64", python="3.11.2")
FOUND = Found(Host("box"), "admin", "free", SYSTEM, sys.executable, (), 0.1)
PLAN = HostPlan("box", "budget", SYSTEM, ("base",), Frameworks("cpu", "3.12"), {"base_word": "hello"})

# The host is this machine; sudo is whatever the file `sudo` beside it does.
_SSH = r"""#!/bin/sh
here=${0%/*}
printf '%s\n' "$*" >>"$here/calls"
case " $* " in *" -O "*) exit 255 ;; esac
while [ "$1" != -- ]; do shift; done
[ -e "$here/gone" ] && { echo "ssh: connect to host box port 22: Connection refused" >&2; exit 255; }
PATH="$here:$PATH" exec sh -c "$3"
"""
_SUDO = r"""#!/bin/sh
here=${0%/*}
ask=no
while [ "$1" != -- ]; do [ "$1" = -S ] && ask=yes; shift; done
shift
[ $ask = no ] || IFS= read -r given
[ $ask = no ] || [ "$given" = "correct horse" ] || { echo "Sorry, try again." >&2; exit 1; }
BECAME=root exec "$@"
"""


@dataclass(frozen=True)
class Target:
    found: Found = FOUND
    plan: HostPlan = PLAN


class Bench:
    """Roles with verify tests, and a host to run them on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.roles = folder / "roles"
        self.kept = folder / "run"
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("ssh", _SSH), ("sudo", _SUDO)):
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        monkeypatch.setattr(content, "roles_dir", lambda: self.roles)

    def role(self, name: str, tests: str) -> None:
        file = self.roles / name / "verify" / f"test_{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text(tests, encoding="utf-8")

    def run(self, target: Target | None = None, emit: Callable[[Event], None] | None = None) -> list[Event]:
        target = target or Target()
        events: list[Event] = []
        with Workspace([target.found.host], self.kept, "r1") as workspace:
            workspace.hide("correct horse")
            check(workspace, {target.plan.host: target}, 2, emit or events.append)
        return events

    def states(self, target: Target | None = None) -> dict[str, str]:
        return {event.check: event.state for event in self.run(target) if isinstance(event, CheckFinished)}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_each_test_is_one_check_with_its_role_and_its_own_state(bench: Bench) -> None:
    bench.role(
        "base",
        "import pytest\n"
        "def test_passes(host, plan):\n"
        "    assert host.check_output('echo hello') == plan.settings['base_word']\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_each(host, n): assert host.run('exit %s', str(n)).rc == 1\n"
        "def test_skips(): pytest.skip('there is no card')\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('no such thing')\n"
        "def test_errs(broken): pass\n",
    )
    begun = time.time()
    events = bench.run()
    told = {event.check: event for event in events if isinstance(event, CheckFinished)}
    assert {name: event.state for name, event in told.items()} == {
        "test_passes": "passed",
        "test_each[1]": "passed",
        "test_each[2]": "failed",
        "test_skips": "skipped",
        "test_errs": "error",
    }
    assert {(event.run, event.host, event.role) for event in told.values()} == {("r1", "box", "base")}
    assert told["test_passes"].message.splitlines() == [
        "assert host.check_output('echo hello') == plan.settings['base_word']",
        "'hello' == 'hello'",
    ]
    assert told["test_each[1]"].message.splitlines()[1:] == ["1 == 1", " +  where 1 = `exit 1` (no output).rc"]
    assert told["test_each[2]"].message == "assert 2 == 1\n +  where 2 = `exit 2` (no output).rc"
    assert told["test_skips"].message == "there is no card"
    assert told["test_errs"].message == "OSError: no such thing"
    assert len(events) == len(told)
    assert all(begun < event.started <= time.time() - event.seconds + 0.01 for event in told.values())


def test_a_failing_command_is_told_as_a_sentence(bench: Bench) -> None:
    bench.role("base", "def test_it(host): host.check_output('echo no daemon >&2; exit 3')\n")
    (event,) = bench.run()
    assert isinstance(event, CheckFinished)
    assert event.message == "Unexpected exit code 3 for `echo no daemon >&2; exit 3` (no daemon)"


SUDO = (
    "def test_root(host):\n"
    "    with host.sudo():\n"
    "        assert host.check_output('echo $BECAME; cat') == 'root'\n"
    "    assert host.check_output('echo $BECAME') == ''\n"
)


@pytest.mark.parametrize(("mode", "password"), [("free", None), ("password", "correct horse")])
def test_sudo_works_the_way_preflight_found(mode: str, password: str | None, bench: Bench) -> None:
    bench.role("base", SUDO)
    found = replace(FOUND, sudo=mode, password=password)
    assert bench.states(Target(found)) == {"test_root": "passed"}
    assert "correct horse" not in (bench.folder / "bin" / "calls").read_text(encoding="utf-8")


def test_a_wrong_sudo_password_fails_the_check(bench: Bench) -> None:
    bench.role("base", SUDO)
    assert bench.states(Target(replace(FOUND, sudo="password", password="wrong"))) == {"test_root": "failed"}


def test_a_message_never_holds_a_secret(bench: Bench) -> None:
    bench.role(
        "base",
        "import pytest\n"
        "@pytest.mark.parametrize('word', ['battery', 'correct horse'])\n"
        "def test_it(word): assert word == 'correct horse'\n",
    )
    events = bench.run()
    assert {event.state for event in events if isinstance(event, CheckFinished)} == {"passed", "failed"}
    for event in events:
        assert isinstance(event, CheckFinished)
        assert "correct horse" not in event.message
        assert "[redacted]" in event.message


def test_a_test_file_that_does_not_load_is_an_error_and_the_others_still_run(bench: Bench) -> None:
    bench.role("base", "import nothing_of_that_name\n")
    bench.role("docker", "def test_it(): pass\n")
    told = bench.states(Target(plan=replace(PLAN, roles=("base", "docker"))))
    assert told == {"test_base.py": "error", "test_it": "passed"}


def test_a_role_without_tests_is_an_error(bench: Bench) -> None:
    (bench.roles / "base").mkdir(parents=True)
    (event,) = bench.run()
    assert isinstance(event, CheckFinished)
    assert (event.role, event.state) == ("base", "error")
    assert event.message == "the role brings no verify tests, so nothing proves it"


def test_a_file_without_any_test_is_an_error(bench: Bench) -> None:
    bench.role("base", "x = 1\n")
    assert bench.states() == {"pytest": "error"}


def test_pytest_dying_in_the_middle_is_an_error(bench: Bench) -> None:
    bench.role("base", "import os\ndef test_a(): pass\ndef test_b(): os._exit(9)\n")
    assert bench.states() == {"test_a": "passed", "pytest": "error"}


def test_a_host_that_goes_away_is_unreachable_and_not_failed(bench: Bench) -> None:
    gone = bench.folder / "bin" / "gone"
    bench.role(
        "base", f"def test_a(): open({str(gone)!r}, 'w')\ndef test_b(host): host.run('true')\ndef test_c(): pass\n"
    )
    first, second = bench.run()
    assert isinstance(first, CheckFinished)
    assert isinstance(second, HostUnreachable)
    assert str(second.refusal) == "box refuses connections on port 22"


def test_nothing_of_the_callers_surroundings_reaches_the_tests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.role("base", "def test_it():\n    import pytest\n    try:\n        import stray\n    except ImportError:\n"
                       "        return\n    raise AssertionError('imported from outside')\n")  # fmt: skip
    (bench.folder / "stray.py").write_text("", encoding="utf-8")
    (bench.roles / "base" / "verify" / "conftest.py").write_text("raise RuntimeError('loaded')\n", encoding="utf-8")
    (bench.folder / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n", encoding="utf-8")
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")
    monkeypatch.setenv("PYTHONPATH", str(bench.folder))
    assert bench.states() == {"test_it": "passed"}
    left = {path.name for path in bench.roles.rglob("*") if path.is_file()}
    assert left == {"test_base.py", "conftest.py"}


def test_ctrl_c_ends_pytest_and_is_passed_on(bench: Bench) -> None:
    bench.role("base", "import time\ndef test_a(): pass\ndef test_b(): time.sleep(7262)\n")
    begun = time.monotonic()
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        bench.run(emit=interrupt)
    assert time.monotonic() - begun < 20
    assert [event.check for event in events if isinstance(event, CheckFinished)] == ["test_a"]
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if str(bench.roles).encode() in command]


CARD = Card("0000:01:00.0", "10de:2206", "GeForce RTX 3080", "Ampere", "8.6")
GPU_TESTS = (
    "import pytest\n"
    "def test_plain(host): assert host.run('true').rc == 0\n"
    "@pytest.mark.gpu\n"
    "def test_asks(plan): assert plan.cards[0].product == 'GeForce RTX 3080'\n"
    "@pytest.mark.gpu\n"
    "def test_skips(): pytest.skip('there is no\\ncard')\n"
    "@pytest.fixture\n"
    "def card(): pytest.skip('no nvidia-smi')\n"
    "@pytest.mark.gpu\n"
    "def test_fixture_skips(card): pass\n"
    "def test_plain_skip(): pytest.skip('by itself')\n"
)


def with_cards(*cards: Card) -> Target:
    return Target(plan=replace(PLAN, cards=cards, driver=Driver("580", "open", "debian")))


def test_where_a_card_is_real_a_skip_is_a_failure_with_its_reason(bench: Bench) -> None:
    bench.role("base", GPU_TESTS)
    events = bench.run(with_cards(replace(CARD, address="0000:02:00.0", assumed=True), CARD))
    told = {event.check: event for event in events if isinstance(event, CheckFinished)}
    assert {name: event.state for name, event in told.items()} == {
        "test_plain": "passed",
        "test_asks": "passed",
        "test_skips": "failed",
        "test_fixture_skips": "error",
        "test_plain_skip": "skipped",
    }
    assert told["test_skips"].message == "skipped, although this host's cards are real: there is no card"
    assert told["test_fixture_skips"].message.endswith("cards are real: no nvidia-smi")


def test_where_every_card_is_assumed_what_asks_one_is_skipped_with_that_reason(bench: Bench) -> None:
    bench.role("base", GPU_TESTS)
    events = bench.run(with_cards(replace(CARD, assumed=True)))
    told = {event.check: event for event in events if isinstance(event, CheckFinished)}
    assert {name for name, event in told.items() if event.state == "passed"} == {"test_plain"}
    said = {told[name].message for name in ("test_asks", "test_skips", "test_fixture_skips")}
    assert said == {"every card of this host is assumed (--assume-gpu): not proved"}
    assert told["test_asks"].state == "skipped"


def test_where_no_card_is_planned_what_asks_one_is_left_out(bench: Bench) -> None:
    bench.role("base", GPU_TESTS)
    assert bench.states() == {"test_plain": "passed", "test_plain_skip": "skipped"}
