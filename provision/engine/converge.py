"""Ansible applied through ansible-runner: a fresh private directory, a clean environment, the project's own events."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from provision import codec, content
from provision.engine import ssh
from provision.engine.bootstrap import bring_python, foretell_python
from provision.engine.preflight import Found
from provision.engine.runner_events import Narrator
from provision.engine.workspace import Workspace
from provision.errors import refuse
from provision.events import Event, TaskFinished
from provision.model import HostPlan, Refusal

_PLANS = "plans.json"


class Target(Protocol):
    """A host that preflight found fit, and what it should become."""

    @property
    def found(self) -> Found: ...
    @property
    def plan(self) -> HostPlan: ...


@dataclass(frozen=True)
class ConvergeOptions:
    """How to apply. `inventories` are the user's own, which give their variables to templates in settings."""

    inventories: tuple[Path, ...] = ()
    check: bool = False
    diff: bool = False
    reboot: bool = False
    forks: int = 5
    transport: str = "ssh"  # ssh | mitogen
    vault_password: str | None = None
    vault_files: tuple[Path, ...] = ()
    playbook: Path | None = None  # site.yml, unless a test brings its own


def converge(
    workspace: Workspace, targets: Mapping[str, Target], options: ConvergeOptions, emit: Callable[[Event], None]
) -> None:
    """Apply every target's plan. How each host fared is told through `emit` alone.

    Raises:
        ProvisionError: where the chosen transport is not installed; nothing was touched.
        KeyboardInterrupt: on Ctrl-C, when Ansible and its children have ended.
    """
    environment = {**os.environ, **_environment(workspace)}
    environment |= strategy(options.transport, environment["ANSIBLE_SSH_ARGS"])
    workspace.hide(options.vault_password)
    able = _with_python(workspace, targets, options, emit)
    if not able:
        return
    listener = _Listener(workspace, able, options.diff, emit)
    with contextlib.ExitStack() as stack:
        command = _command(workspace, able, options, stack)
        stopping = stack.enter_context(_interruptible())
        _run(workspace, command, environment, listener, stopping)
        listener.tell(lambda: listener.narrator.end(interrupted=stopping.is_set()))
    if stopping.is_set():
        raise KeyboardInterrupt


class _Listener:
    """Takes the runner's events. It never raises: an exception here would kill the play in the middle of a task."""

    def __init__(
        self, workspace: Workspace, targets: Mapping[str, Target], diffs: bool, emit: Callable[[Event], None]
    ) -> None:
        def explain(name: str, said: str) -> Refusal:
            return ssh.explain(workspace, targets[name].found.host, ssh.Answer(ssh.SSH_FAILED, "", said, 0)).refusal

        self.narrator = Narrator(workspace.run, targets, explain, workspace.redact, diffs)
        self._workspace = workspace
        self._emit = emit

    def hear(self, event: dict[str, Any]) -> bool:
        """The runner's callback. False: the runner need not keep the event in a file."""
        if event.get("event") == "playbook_on_start":
            # Ansible has read it. Vaulted settings are in clear there, and a controller that is killed removes nothing.
            (self._workspace.runtime / _PLANS).unlink(missing_ok=True)
        if event.get("event") in ("verbose", "error", "warning", "deprecated"):
            self._workspace.log(str(event.get("stdout") or ""))
        self.tell(lambda: self.narrator.take({**event, "at": time.time()}))
        return False

    def tell(self, events: Callable[[], list[Event]]) -> None:
        try:
            for event in events():
                self._emit(event)
        except Exception:  # noqa: BLE001  see the class
            self._workspace.log(traceback.format_exc())


def _run(
    workspace: Workspace,
    command: list[str],
    environment: dict[str, str],
    listener: _Listener,
    stopping: threading.Event,
) -> None:
    # Imported here because it costs 0.2 s, which no other verb should pay.
    import ansible_runner.interface

    private = workspace.runtime / "ansible"
    (private / "env").mkdir(parents=True, mode=0o700)
    # How often the runner looks whether it was cancelled, in seconds. It drops settings that are passed otherwise.
    (private / "env" / "settings").write_text(json.dumps({"pexpect_timeout": 1}), encoding="utf-8")
    before = _descendants()

    def cancelled() -> bool:
        if stopping.is_set():
            # Ansible's workers are sessions of their own, which the runner's kill does not reach.
            for child in _descendants() - before:
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGTERM)
        return stopping.is_set()

    runner = ansible_runner.interface.init_runner(
        private_data_dir=str(private),
        playbook=command[-1],
        quiet=True,
        suppress_env_files=True,
        event_handler=listener.hear,
        cancel_callback=cancelled,
    )
    runner.config.command = command
    runner.config.cwd = str(Path.cwd())
    runner.config.env |= environment
    runner.run()
    workspace.log(f"ansible-playbook: {runner.status}, code {runner.rc}")


def _with_python(
    workspace: Workspace, targets: Mapping[str, Target], options: ConvergeOptions, emit: Callable[[Event], None]
) -> dict[str, Target]:
    """The targets that Ansible can work on. What the others need first is brought, or in check mode foretold."""
    bare = [target.found for target in targets.values() if target.found.missing]
    if options.check:
        events: Iterable[Event] = [foretell_python(workspace, found) for found in bare]
    else:
        with ThreadPoolExecutor(max(1, options.forks)) as pool:
            events = list(pool.map(lambda found: bring_python(workspace, found), bare))
    lost = set()
    for found, event in zip(bare, events, strict=True):
        emit(event)
        if options.check or not (isinstance(event, TaskFinished) and event.state == "changed"):
            lost.add(found.host.name)
    return {name: target for name, target in targets.items() if name not in lost}


def _command(
    workspace: Workspace, targets: Mapping[str, Target], options: ConvergeOptions, stack: contextlib.ExitStack
) -> list[str]:
    """The command line. What is secret comes through pipes that it names."""
    limit = workspace.runtime / "limit"
    limit.write_text("\n".join(targets) + "\n", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--limit", f"@{limit}"]
    command += ["--forks", str(max(1, options.forks))]
    command += [flag for flag, wanted in (("--check", options.check), ("--diff", options.diff)) if wanted]
    for inventory in options.inventories:
        command += ["--inventory", str(inventory.absolute() if inventory.exists() else inventory)]
    command += ["--inventory", str(_inventory(workspace, targets, options))]
    for file in options.vault_files:
        command += ["--vault-password-file", str(file.absolute())]
    if options.vault_password:
        command += ["--vault-password-file", str(stack.enter_context(workspace.secret_pipe(options.vault_password)))]
    asked = (target.found for target in targets.values() if target.found.password)
    password = next((found.password for found in asked if not _told_by_inventory(found)), None)
    if password:
        command += ["--become-password-file", str(stack.enter_context(workspace.secret_pipe(password)))]
    command = [*command, str(options.playbook or content.playbooks_dir() / "site.yml")]
    # A controller that is killed takes Ansible along: nobody would hear it, and the next run would meet it.
    return ["setpriv", "--pdeathsig", "TERM", "--", *command] if shutil.which("setpriv") else command


def _told_by_inventory(found: Found) -> bool:
    names = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
    return any(str(found.host.variables.get(name)) == found.password for name in names)


def _inventory(workspace: Workspace, targets: Mapping[str, Target], options: ConvergeOptions) -> Path:
    """An inventory of the plans. It stands after the user's own and says nothing of connections: ssh_config does."""
    hosts: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        plan = {"provision_plan": codec.to_data(target.plan), "provision_reboot": options.reboot}
        # Naming the interpreter saves Ansible a round trip to search for one.
        hosts[name] = {**plan, "ansible_python_interpreter": target.found.python or "/usr/bin/python3"}
    path = workspace.runtime / _PLANS
    path.touch(mode=0o600)
    path.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    return path


def _environment(workspace: Workspace) -> dict[str, str]:
    """What stands above the user's ansible.cfg: their inventory settings hold, the way of working is ours."""
    return {
        "ANSIBLE_HOST_KEY_CHECKING": "True",  # the runner turns it off otherwise
        "ANSIBLE_SSH_ARGS": f"-F {workspace.ssh_config}",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_INJECT_FACT_VARS": "False",
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        # The default, ~root/.ansible/tmp, would be made even in check mode.
        "ANSIBLE_REMOTE_TMP": "/tmp",  # noqa: S108  Ansible makes a private directory in it
        "ANSIBLE_LOCAL_TEMP": str(workspace.runtime / "tmp"),
        "ANSIBLE_ROLES_PATH": str(content.roles_dir()),
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        "ANSIBLE_STRATEGY": "linear",
        "LC_ALL": "C.UTF-8",
    }


def strategy(transport: str, ssh_args: str = "") -> dict[str, str]:
    """What makes Ansible use a transport, above the environment that it has for ssh with these arguments."""
    if transport == "ssh":
        return {}
    if transport != "mitogen":
        raise refuse(f"--transport {transport}", "is not known", "choose ssh or mitogen")
    spec = importlib.util.find_spec("ansible_mitogen")
    if spec is None or not spec.submodule_search_locations:
        hint = "uv pip install 'mitogen>=0.3.54,<0.4', or use ssh"
        raise refuse("--transport mitogen", "is not installed", hint)
    plugins = Path(next(iter(spec.submodule_search_locations))) / "plugins" / "strategy"
    # Mitogen keeps its one connection by itself. Over the shared one its reset would open no new connection, and a
    # change of the network, which only a new connection can prove, would be taken back.
    alone = f"{ssh_args} -o ControlMaster=no -o ControlPath=none".strip()
    return {
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(plugins),
        "ANSIBLE_SSH_ARGS": alone,
        "ANSIBLE_TIMEOUT": "120",  # seconds: not only to connect, but until Python is up there and has its code
    }


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that Ansible's processes can be ended first; a second Ctrl-C does not wait."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # signals are the main thread's
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)


def _descendants() -> set[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name stands in brackets and may hold anything.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found
