"""The one thing that happens to a host without Ansible: it gets the Python that Ansible needs there."""

from __future__ import annotations

import time

from provision.engine import ssh
from provision.engine.preflight import Found
from provision.engine.workspace import Workspace
from provision.events import Event, HostUnreachable, TaskFinished, TaskState

TASK = "Bring Python, which every other task needs"  # as site.yml calls it for plain Ansible


def foretell_python(workspace: Workspace, found: Found) -> TaskFinished:
    """What `bring_python` would do; check mode may not do it, and so nothing after it can be foretold."""
    message = f"would install {' and '.join(found.missing)}; what follows can be foretold once they are there"
    return _told(workspace, found, "changed", 0.0, message)


def bring_python(workspace: Workspace, found: Found) -> Event:
    """Install what Ansible needs, by ssh alone: a changed task, a failed one, or a host that went away."""
    packages = " ".join(found.missing)
    # Lists are refreshed: on a bare box they are empty.
    command = (
        "export DEBIAN_FRONTEND=noninteractive; wait='-o DPkg::Lock::Timeout=300';"
        " dpkg --configure -a && apt-get $wait -q update &&"
        f" apt-get $wait -q -y --no-install-recommends install {packages}"
    )
    begun = time.monotonic()
    answer = ssh.run_as_root(workspace, found.host, command, (found.sudo, found.password))
    seconds = round(time.monotonic() - begun, 3)
    workspace.log(f"{found.host.name}: installing {packages}: code {answer.code}\n{answer.out}\n{answer.err}")
    if answer.code == 0:
        return _told(workspace, found, "changed", seconds, f"installed {' and '.join(found.missing)}")
    if answer.code == ssh.SSH_FAILED:
        return HostUnreachable(workspace.run, found.host.name, ssh.explain(workspace, found.host, answer).refusal)
    said = [line for line in answer.err.splitlines() if line.startswith("E:")] or answer.err.splitlines() or ["?"]
    by_hand = f"{ssh.command_line(found.host)} sudo apt-get install {packages}"
    message = f"{said[0].removeprefix('E:').strip()}; mend its package sources, or install by hand: {by_hand}"
    return _told(workspace, found, "failed", seconds, message)


def _told(workspace: Workspace, found: Found, state: TaskState, seconds: float, message: str) -> TaskFinished:
    told = workspace.redact(message)
    started = round(time.time() - seconds, 3)
    return TaskFinished(workspace.run, found.host.name, "", TASK, state, seconds, told, started=started)
