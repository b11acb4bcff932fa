"""The proof: each role's verify tests on each host, in one pytest process a host, over the connections of the run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from provision import codec, content
from provision.engine import ssh
from provision.engine.converge import Target
from provision.engine.workspace import Workspace
from provision.events import CheckFinished, Event, HostUnreachable

_PLUGIN = "provision.engine.verify_plugin"
# Environment variables that name the pipes between this module and the plugin.
JOB = "PROVISION_JOB_FD"
RESULTS = "PROVISION_RESULTS_FD"
# pytest reports failed tests by 1 and a clean end by 0; anything else means that it broke down.
_SOUND = (0, 1)


def check(workspace: Workspace, targets: Mapping[str, Target], jobs: int, emit: Callable[[Event], None]) -> None:
    """Run the verify tests of every role of every target's plan, `jobs` hosts at a time. Results go through `emit`.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when pytest's processes have ended.
    """
    if targets:
        _Checks(workspace, emit).all(targets, jobs)


class _Checks:
    """One round of verification."""

    def __init__(self, workspace: Workspace, emit: Callable[[Event], None]) -> None:
        self._workspace = workspace
        self._emit = emit
        self._one_at_a_time = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def all(self, targets: Mapping[str, Target], jobs: int) -> None:
        with ThreadPoolExecutor(max(1, min(jobs, len(targets)))) as pool:
            waiting = [pool.submit(self._host, target) for target in targets.values()]
            try:
                for each in waiting:
                    each.result()
            except BaseException:
                self._stop()
                raise

    def _host(self, target: Target) -> None:
        name = target.plan.host
        files = self._files(target)
        if not files or self._stopping:
            return
        log = self._workspace.runtime / f"verify-{os.urandom(4).hex()}"
        told: dict[str, Any] = {}
        with log.open("wb") as output, self._pytest(target, files, output) as (process, results):
            for line in results:
                told = json.loads(line)
                self._tell(name, told)
            code = process.wait()
        if self._stopping or "lost" in told:
            return
        if code not in _SOUND or not told:
            said = log.read_text(encoding="utf-8", errors="replace")
            self._workspace.log(f"{name}: pytest ended with {code}\n{said}")
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
            self._send(CheckFinished(self._workspace.run, name, "", "pytest", "error", 0.0, f"code {code}: {last}"))

    def _files(self, target: Target) -> list[Path]:
        """The test files of the plan's roles. A role without any is a fault and is told as one."""
        found: list[Path] = []
        for role in target.plan.roles:
            files = sorted((content.roles_dir() / role / "verify").glob("test_*.py"))
            found += files
            if not files:
                message = "the role brings no verify tests, so nothing proves it"
                event = CheckFinished(self._workspace.run, target.plan.host, role, "verify", "error", 0.0, message)
                self._send(event)
        return found

    def _tell(self, name: str, told: dict[str, Any]) -> None:
        run = self._workspace.run
        if "lost" in told:
            host = next(host for host in self._workspace.hosts if host.name == name)
            trouble = ssh.explain(self._workspace, host, ssh.Answer(ssh.SSH_FAILED, "", told["lost"], 0))
            self._send(HostUnreachable(run, name, trouble.refusal))
            return
        told["message"] = self._workspace.redact(told["message"])
        self._send(CheckFinished(run, name, **told, started=round(time.time() - told["seconds"], 3)))

    def _send(self, event: Event) -> None:
        with self._one_at_a_time:
            self._emit(event)

    @contextlib.contextmanager
    def _pytest(
        self, target: Target, files: list[Path], output: IO[bytes]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[str]]]:
        """Start pytest on one host and hand over its results as they come."""
        job_read, job_write = os.pipe()
        results_read, results_write = os.pipe()
        with os.fdopen(results_read, encoding="utf-8") as results, os.fdopen(job_write, "w", encoding="utf-8") as job:
            process = subprocess.Popen(
                _command(files),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(job_read, results_write),
                env=_environment(job_read, results_write),
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
            os.close(job_read)
            os.close(results_write)
            self._running.add(process)
            try:
                with contextlib.suppress(BrokenPipeError):
                    json.dump(self._job(target), job)
                    job.close()
                yield process, results
            finally:
                self._end(process)
                self._running.discard(process)

    def _job(self, target: Target) -> dict[str, Any]:
        return {
            "host": target.found.host.name,
            "ssh_config": str(self._workspace.ssh_config),
            "sudo": target.found.sudo,
            "password": target.found.password,
            "plan": codec.to_data(target.plan),
        }

    def _stop(self) -> None:
        self._stopping = True
        for process in tuple(self._running):
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _command(files: list[Path]) -> list[str]:
    """pytest without anybody's configuration, caches, conftest or plugins, and without writing beside the roles."""
    alone = ["-c", os.devnull, "--rootdir", str(content.roles_dir()), "--noconftest", "-p", "no:cacheprovider"]
    told = ["--import-mode=importlib", "--tb=short", "-q", "--no-header", "--continue-on-collection-errors"]
    told += ["-o", "enable_assertion_pass_hook=true"]  # what passed brings its evidence
    # -P: the directory provision was called in is no place to import from.
    return [sys.executable, "-P", "-m", "pytest", *alone, *told, "-p", _PLUGIN, *map(str, files)]


def _environment(job: int, results: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    return {
        **kept,
        JOB: str(job),
        RESULTS: str(results),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
