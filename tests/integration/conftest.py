"""Real targets, and the command line as its users call it."""

from __future__ import annotations

import atexit
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from provision import lab
from provision.content import playbooks_dir, roles_dir
from provision.engine.converge import strategy
from provision.lab import record
from tests.conftest import lab_state, up_or_skip

if TYPE_CHECKING:
    from tests.integration.whole_box import WholeBox
    from tests.integration.whole_machine import WholeMachine

PROVISION = Path(sys.executable).parent / "provision"
LIMIT_SECONDS = 3600  # a test has its own, shorter limit; an emulated machine has a longer one
BOOT_SECONDS = 600  # 40 on an idle machine
RESTS = ("running", "degraded")
LAB_STATE = lab_state()
SOCKETS = Path(tempfile.mkdtemp(prefix="provision-"))
atexit.register(shutil.rmtree, SOCKETS, ignore_errors=True)
# Runs before anybody can log in and ask for what it sets up.
AT_BOOT = """\
[Unit]
Before=ssh.service {before}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/{name}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Answer:
    """What one call of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document it printed."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    def host(self, name: str) -> dict[str, Any]:
        return next(host for host in self.document["hosts"] if host["host"] == name)

    @property
    def why(self) -> str:
        """What went wrong, for who reads a failed assertion: failures of hosts and tasks, not the whole document."""
        hosts = self.document["hosts"] if self.out.startswith("{") else []
        told = [
            f"{host['host']}: {host['failure']}\n"
            + "\n".join(f"{check['state']} {check['check']}: {check['message']}" for check in host["checks"])
            for host in hosts
        ]
        return "\n".join(told or [self.out[-3000:]]) + self.err[-3000:]

    def failed(self, name: str) -> set[str]:
        """The checks of a host that did not pass, of a proof that took place."""
        checks = self.host(name)["checks"]
        assert checks, self.out[-4000:] + self.err[-2000:]
        return {check["check"] for check in checks if check["state"] != "passed"}


def changed_tasks(answer: Answer, name: str) -> set[tuple[str, str]]:
    """The (role, task) pairs that changed, or would."""
    return {(task["role"], task["task"]) for task in answer.host(name)["tasks"] if task["state"] == "changed"}


def environment(home: Path | None) -> dict[str, str]:
    """What the command line is run with; `home` becomes its state home."""
    return {**os.environ, **({"XDG_STATE_HOME": str(home)} if home else {})}


def provision(*words: str | Path, home: Path | None = None, stdin: str | None = None) -> Answer:
    """Run the command line."""
    done = subprocess.run(
        [str(PROVISION), *map(str, words)], env=environment(home), input=stdin if stdin is not None else "",
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Outcome:
    """One run of roles by plain ansible-playbook: exit status, tasks that changed, and everything it printed."""

    code: int
    changed: list[str]
    output: str

    @property
    def came_to(self) -> tuple[int, list[str]]:
        """(0, []) is a run that changed nothing; one that failed before it changed anything is none."""
        return self.code, self.changed


@dataclass(frozen=True)
class Target:
    """A lab target, with root's hands on it and the options that name it."""

    host: lab.LabHost
    home: Path
    transport: str = "ssh"

    @property
    def name(self) -> str:
        return self.host.name

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script as root on the target; its standard output."""
        done = subprocess.run(
            [*self.ssh(), "sudo -n sh -s"], input=script, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ssh(self) -> list[str]:
        identity = ["-i", self.host.identity_file, "-o", "IdentitiesOnly=yes"]
        known = ["-o", f"UserKnownHostsFile={self.host.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        # An emulated machine takes a second for each new connection.
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self.socket}", "-o", "ControlPersist=120"]
        alive = ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=6"]
        where = ["-p", str(self.host.port), f"{self.host.user}@{self.host.address}"]
        return ["ssh", "-F", "none", *identity, *known, *shared, *alive, *where]

    @property
    def socket(self) -> Path:
        """The socket of the shared connection: its path is short, as the system wants it."""
        return SOCKETS / f"{self.name}-{os.getpid()}"

    def hang_up(self) -> None:
        """End the shared connection, whose other end goes away."""
        subprocess.run([*self.ssh(), "-O", "exit"], capture_output=True, timeout=30, check=False)

    def boot(self, *, check: bool = True) -> str:
        """What tells one boot from the next; empty where it does not answer and need not."""
        return self.sh("cat /proc/sys/kernel/random/boot_id", check=check)

    def reboot(self) -> str:
        """Restart it for real; returns when it answers and rests, with what systemd says of it: running, degraded."""
        before = self.boot()
        self.sh("systemctl --no-block reboot", check=False)
        self.hang_up()
        deadline = time.monotonic() + BOOT_SECONDS
        # The port is QEMU's: it accepts a connection while nobody behind it answers.
        while not record.greets(self.host.address, self.host.port) or self.boot(check=False) in ("", before):
            assert time.monotonic() < deadline, "it does not come back from its reboot"
            time.sleep(1)
        # Without a D-Bus yet, systemd's answer is none of these.
        while (state := self.sh("systemctl is-system-running --wait", check=False).strip()) not in RESTS:
            assert time.monotonic() < deadline, f"it does not come to rest: {state}"
            time.sleep(1)
        return state

    def put(self, path: str, text: str, mode: str = "0644") -> None:
        data = base64.b64encode(text.encode()).decode()
        self.sh(f"base64 -d > {path} <<'END'\n{data}\nEND\nchmod {mode} {path}")

    def at_boot(self, name: str, script: str, *, before: str = "") -> None:
        """Have a script run at every boot to come, under the name of its unit."""
        self.put(f"/usr/local/sbin/{name}", script, "0755")
        self.put(f"/etc/systemd/system/{name}.service", AT_BOOT.format(name=name, before=before))
        self.sh(f"systemctl enable --quiet {name}")

    def options(self) -> list[str]:
        return ["-i", self.host.inventory, "--limit", self.name]

    def apply(self, *words: str, tier: str | Path = "budget") -> Answer:
        given = ["--tier", str(tier), *self.options(), "--output", "json"]
        by = ["--transport", self.transport]
        return provision("apply", "--accept-hardware", "--yes", *given, *by, *words, home=self.home)

    def verify(self, *words: str, tier: str | Path = "budget") -> Answer:
        return provision("verify", "--tier", str(tier), *self.options(), "--output", "json", *words, home=self.home)

    def playing(
        self, roles: Sequence[str], settings: Mapping[str, Any], *words: str
    ) -> tuple[list[str], dict[str, str]]:
        """The command of plain ansible-playbook that runs these roles with these settings, and its environment."""
        return self._playbook([{"include_role": {"name": role}} for role in roles], settings, *words)

    def _playbook(
        self, tasks: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], *words: str
    ) -> tuple[list[str], dict[str, str]]:
        play = {
            "hosts": "all", "become": True, "gather_facts": True, "gather_subset": ["min"], "force_handlers": True,
            "tasks": list(tasks),
        }  # fmt: skip
        path = self.home / f"{self.name}.yml"
        path.write_text(json.dumps([play]))
        content = playbooks_dir()
        environment = {
            **os.environ, "ANSIBLE_LIBRARY": str(content / "library"), "ANSIBLE_ROLES_PATH": str(roles_dir()),
            "ANSIBLE_MODULE_UTILS": str(content / "module_utils"), "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1",
            # What roles ask of a target's facts stays the same: it is gathered once.
            "ANSIBLE_GATHERING": "smart", "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.home / "facts"),
            **strategy(self.transport),
        }  # fmt: skip
        program = str(PROVISION.with_name("ansible-playbook"))
        return [program, str(path), *self.options(), "-e", json.dumps(settings), *words], environment

    def refused(self, role: str, cases: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Run a role with each of these settings, all of which it has to refuse, in one run of ansible-playbook."""
        mark = "nothing was refused in case"
        tasks = []
        for number, settings in enumerate(cases):
            tried = [{"include_role": {"name": role}, "vars": dict(settings)}, {"debug": {"msg": f"{mark} {number}"}}]
            tasks.append({"block": tried, "rescue": [{"debug": {"msg": f"case {number}"}}]})
        done = self._played(*self._playbook(tasks, {}))
        assert done.code == 0, done.output[-6000:]
        parts = re.split(r'"msg": "case \d+"', done.output)
        assert mark not in done.output, done.output[-6000:]
        assert len(parts) == len(cases) + 1, done.output[-6000:]
        return [Outcome(1, _changed(part), part) for part in parts[:-1]]

    def play(self, roles: Sequence[str], settings: Mapping[str, Any], *words: str) -> Outcome:
        """Run these roles with these settings, with no plan and no proof."""
        return self._played(*self.playing(roles, settings, *words))

    def _played(self, argv: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return Outcome(done.returncode, _changed(done.stdout), done.stdout + done.stderr)


def _changed(output: str) -> list[str]:
    """The tasks that changed something, from what ansible-playbook printed."""
    tasks = re.split(r"^(?:TASK|RUNNING HANDLER) \[(?:\w+ : )?(.*?)\] \**$", output, flags=re.MULTILINE)
    return [name for name, told in zip(tasks[1::2], tasks[2::2], strict=True) if "\nchanged: " in told]


@contextmanager
def own_lab() -> Iterator[None]:
    """The lab that holds the targets, for who talks to it past `new_target`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(LAB_STATE))
        yield


@contextmanager
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Target]]:
    """Makes targets, or skips, and takes them away again."""
    home = tmp_path_factory.mktemp("provision-state")
    made: list[Target] = []

    def make(name: str, image: str = "debian-12", transport: str = "") -> Target:
        with own_lab():
            host = up_or_skip(name, image)
        made.append(Target(host, home, transport or ("mitogen" if lab.is_virtual(image) else "ssh")))
        return made[-1]

    try:
        yield make
    finally:
        with own_lab():
            for target in made:
                target.hang_up()
                lab.down(target.name)


@pytest.fixture(scope="module")
def new_target(test_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Target]]:
    """Makes targets that go with their file: a virtual machine that nobody uses slows the others down."""
    with targets(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def box(test_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeBox]:
    """The box that several files share; it stays until the end, where a container that rests costs nothing."""
    from tests.integration.whole_box import whole_box

    with targets(tmp_path_factory) as make, whole_box(make("box"), tmp_path_factory.mktemp("tier")) as box:
        yield box


@pytest.fixture(scope="session")
def machine(test_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMachine]:
    """The virtual machine that several files share."""
    from tests.integration.whole_machine import WholeMachine

    with targets(tmp_path_factory) as make:
        yield WholeMachine(make("machine", "vm-debian-12"), tmp_path_factory.mktemp("tier") / "declared.yml")
