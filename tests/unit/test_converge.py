"""Ansible for real, through ansible-runner, on this machine itself: what is emitted, what is kept, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from engine_fakes import FakeSsh

from provision.engine.bootstrap import bring_python
from provision.engine.converge import ConvergeOptions, converge
from provision.engine.preflight import Found
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError
from provision.events import Event, InputRejected, TaskFinished, TaskStarted
from provision.model import Frameworks, Host, HostPlan, OperatingSystem

SYSTEM = OperatingSystem("debian", "12", "bookworm", "x86_64", python="3.11.2")
FOUND = Found(Host("box"), "admin", "free", SYSTEM, sys.executable, (), 0.1)
PLAN = HostPlan("box", "budget", SYSTEM, (), Frameworks("cpu", "3.12"), {"greeting": "hello"})
HEAD = "- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n"


@dataclass(frozen=True)
class Target:
    found: Found = FOUND
    plan: HostPlan = PLAN


@dataclass
class Play:
    """A run of a playbook's tasks, and what came of it."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    runtime: Path | None = None

    @property
    def kept(self) -> Path:
        return self.folder / "run"

    def run(self, tasks: str, emit: Callable[[Event], None] | None = None, **options: object) -> list[TaskFinished]:
        playbook = self.folder / "play.yml"
        playbook.write_text(HEAD + "".join(f"    {line}\n" for line in tasks.splitlines()), encoding="utf-8")
        with Workspace([FOUND.host], self.kept, "r1") as workspace:
            self.runtime = workspace.runtime
            wanted = ConvergeOptions(**{"playbook": playbook, **options})  # type: ignore[arg-type]
            converge(workspace, {"box": Target()}, wanted, emit or self.events.append)
        return [event for event in self.events if isinstance(event, TaskFinished)]

    def kept_text(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in self.kept.rglob("*") if path.is_file())


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_the_plan_reaches_ansible_and_the_tasks_are_told(play: Play) -> None:
    tasks = play.run(
        "- name: Greet\n  ansible.builtin.command: echo {{ provision_plan.settings.greeting }}\n"
        "- name: Fail\n  ansible.builtin.fail:\n    msg: '{{ provision_plan.tier }}, reboot {{ provision_reboot }}'"
    )
    assert [(task.run, task.host, task.task, task.state) for task in tasks] == [
        ("r1", "box", "Greet", "changed"),
        ("r1", "box", "Fail", "failed"),
    ]
    assert tasks[1].message == "budget, reboot False"
    assert play.runtime is not None
    assert not play.runtime.exists()


def test_the_plans_are_gone_before_the_first_task(play: Play) -> None:
    left: list[Path] = []

    def look(event: Event) -> None:
        if isinstance(event, TaskStarted) and play.runtime:
            left.extend(path for path in play.runtime.rglob("*") if path.is_file() and "hello" in path.read_text())
        play.events.append(event)

    tasks = play.run("- name: Greet\n  ansible.builtin.command: echo {{ provision_plan.settings.greeting }}", emit=look)
    assert [(task.task, task.state) for task in tasks] == [("Greet", "changed")]
    assert left == []


def test_check_mode_and_diff_are_passed_on(play: Play) -> None:
    written = play.folder / "written"
    copy = f"- name: Write\n  ansible.builtin.copy:\n    content: new\n    dest: {written}\n    mode: '0600'"
    (task,) = play.run(copy, check=True, diff=True)
    assert task.state == "changed"
    assert "+new" in task.diff
    assert not written.exists()


def test_a_broken_playbook_is_refused_with_its_place(play: Play) -> None:
    play.run("- name: [")
    (event,) = play.events
    assert isinstance(event, InputRejected)
    assert "play.yml:6" in event.refusals[0].fact


def test_a_vault_password_is_used_and_found_nowhere(play: Play) -> None:
    inventory = play.folder / "inventory"
    (inventory / "host_vars").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {hosts: {box: }}\n", encoding="utf-8")
    secrets = inventory / "host_vars" / "box.yml"
    secrets.write_text("motto: swordfish\n", encoding="utf-8")
    lock = [Path(sys.executable).with_name("ansible-vault"), "encrypt", "--vault-password-file", "/dev/stdin", secrets]
    subprocess.run(lock, input=b"correct horse", check=True, capture_output=True)
    tasks = play.run("- name: Tell\n  ansible.builtin.fail:\n    msg: 'motto {{ motto }}, key correct horse'",
                     inventories=(inventory,), vault_password="correct horse")  # fmt: skip
    assert tasks[0].message == "motto swordfish, key [redacted]"
    assert "correct horse" not in play.kept_text()


def test_an_observer_that_fails_does_not_end_the_play(play: Play) -> None:
    marker = play.folder / "done"

    def fail(event: Event) -> None:
        raise RuntimeError("the observer fell over")

    first, second = "- name: First\n  ansible.builtin.command: 'true'\n", "- name: Second\n  ansible.builtin.command: "
    play.run(f"{first}{second}touch {marker}", emit=fail)
    assert marker.exists()
    assert "the observer fell over" in play.kept_text()


def test_ctrl_c_ends_ansible_and_all_below_it(play: Play) -> None:
    nap = f"7261.{os.getpid()}"  # of this run alone: another checkout's tests may run on the machine
    slept: list[Event] = []

    def interrupt(event: Event) -> None:
        play.events.append(event)
        if isinstance(event, TaskStarted) and event.task == "Sleep":
            try:
                wait_until(lambda: bool(processes_naming(nap)))
                slept.append(event)
            finally:
                os.kill(os.getpid(), signal.SIGINT)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        play.run(f"- name: Sleep\n  ansible.builtin.command: sleep {nap}", emit=interrupt)
    assert time.monotonic() - begun < 20
    assert slept, "it was interrupted before its process was there"
    assert not [event for event in play.events if isinstance(event, TaskFinished)]
    assert not processes_naming(str(play.folder / "play.yml"))
    assert not processes_naming(nap)


def processes_naming(text: str) -> list[bytes]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes())
    return [command for command in commands if text.encode() in command]


def test_a_controller_that_is_killed_takes_ansible_along(play: Play) -> None:
    started = play.folder / "started"
    script = play.folder / "controller.py"
    script.write_text(
        "import sys; from pathlib import Path; from test_converge import Play\n"
        "play = Play(Path(sys.argv[1]))\n"
        f"play.run('- name: Sleep\\n  ansible.builtin.shell: touch {started}; sleep 7263.5')\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    controller = subprocess.Popen([sys.executable, script, play.folder], env=environment)
    wait_until(started.exists)
    controller.kill()
    controller.wait()
    wait_until(lambda: not processes_naming(str(play.folder / "play.yml")))


def wait_until(done: Callable[[], bool]) -> None:
    patience = time.monotonic() + 30
    while not done():
        assert time.monotonic() < patience
        time.sleep(0.1)


def test_check_mode_without_python_foretells_no_more_than_it_can(play: Play) -> None:
    bare = Target(found=replace(FOUND, python=None, missing=("python3", "python3-apt")))
    with Workspace([FOUND.host], play.kept, "r1") as workspace:
        converge(workspace, {"box": bare}, ConvergeOptions(check=True), play.events.append)
    (event,) = play.events
    assert isinstance(event, TaskFinished)
    assert (event.state, event.message) == (
        "changed",
        "would install python3 and python3-apt; what follows can be foretold once they are there",
    )


@pytest.mark.parametrize(
    ("code", "err", "state", "message"),
    [
        (0, "", "changed", "installed python3 and python3-apt"),
        (
            100,
            "E: Unable to locate package python3",
            "failed",
            "Unable to locate package python3; mend its package sources, or install by hand: "
            "ssh box sudo apt-get install python3 python3-apt",
        ),
    ],
)
def test_bringing_python_is_told_as_a_task(
    code: int, err: str, state: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeSsh(tmp_path, monkeypatch).answer(code, err=err)
    found = replace(FOUND, host=Host("box"), python=None, missing=("python3", "python3-apt"))
    with Workspace([found.host], None, "r1") as workspace:
        event = bring_python(workspace, found)
    assert isinstance(event, TaskFinished)
    assert (event.task, event.state, event.message) == ("Bring Python, which every other task needs", state, message)


@pytest.mark.parametrize(
    ("transport", "fact", "hint"),
    [
        ("mitogen", "is not installed", "uv pip install 'mitogen>=0.3.54,<0.4', or use ssh"),
        ("telnet", "is not known", "choose ssh or mitogen"),
    ],
)
def test_a_transport_that_is_not_there_is_refused(
    transport: str, fact: str, hint: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ProvisionError) as caught:
        play.run("- name: Never\n  ansible.builtin.command: 'true'", transport=transport)
    assert (str(caught.value), caught.value.refusals[0].hint) == (f"--transport {transport} {fact}", hint)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = "ansible_runner", "paramiko", "pytest", "testinfra", "ansible"
    code = (
        "import sys, provision.engine.preflight, provision.engine.probe, provision.engine.converge,"
        f" provision.engine.checks; print([name for name in {heavy} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
