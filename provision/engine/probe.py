"""What is this host made of? One ssh call runs the probe module's own file there, without Ansible."""

from __future__ import annotations

import base64
import json
import os.path
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision import codec
from provision.content import load, playbooks_dir
from provision.engine import ssh
from provision.engine.preflight import Found
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError, refuse
from provision.model import Hardware

_DUMP = Path(__file__).with_name("probe.sh")
_MODULE = playbooks_dir() / "library" / "provision_probe.py"
_SHARED = ("provision_machine", "provision_devices")  # a module after those that it imports
_TOGETHER = """\
import sys, types
for name, text in {parts!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
"""


def probe(workspace: Workspace, found: Found) -> Hardware:
    """The hardware of a host that preflight found fit. Changes nothing there, and needs no Python there.

    Raises:
        ProvisionError: where the host cannot be asked, or answers nonsense.
    """
    if found.python:
        command, text = f"{shlex.quote(found.python)} -I - --json", script()
    else:
        command, text = "sh -s", _text(_DUMP)
    answer = ssh.run_as_root(workspace, found.host, command, (found.sudo, found.password), text)
    if answer.code == ssh.SSH_FAILED:
        raise ProvisionError(ssh.explain(workspace, found.host, answer).refusal, 3)
    try:
        data = json.loads(answer.out) if found.python else collect(Snapshot.parse(answer.out))
    except ValueError:
        workspace.log(f"{found.host.name}: probe ended with {answer.code}\n{answer.out}\n{answer.err}")
        last = (answer.err.strip().splitlines() or [f"code {answer.code}"])[-1]
        hint = f"try: {ssh.command_line(found.host)} sudo true"
        raise refuse(found.host.name, f"did not tell its hardware: {last}", hint) from None
    return codec.from_data(Hardware, data, f"hardware of {found.host.name}")


def script() -> str:
    """The probe's module, and what it shares with others, as one text for `python3 - --json`."""
    shared = playbooks_dir() / "module_utils"
    parts = [(name, "") for name in ("ansible", "ansible.module_utils")]
    parts += [(f"ansible.module_utils.{name}", _text(shared / f"{name}.py")) for name in _SHARED]
    return _TOGETHER.format(parts=[*parts, ("__main__", _text(_MODULE))])


def collect(snapshot: Snapshot, python: str | None = None) -> dict[str, Any]:
    """Run the module's own `collect` here, over what a host without Python handed over."""
    hardware: dict[str, Any] = load(_MODULE).collect(snapshot, python)
    return hardware


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Snapshot:
    """Some files of a machine in place of the machine itself: the probe's `Box` as a table. Paths lack the slash."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)  # path -> where it leads in the end
    outputs: Mapping[str, str] = field(default_factory=dict)  # command line -> what it printed

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read what probe.sh printed; ValueError where it was cut short."""
        rows = list(_rows(text))
        if ("end", "", "") not in rows:
            raise ValueError("the snapshot has no end")
        return cls(
            files={name: base64.b64decode(value) for kind, name, value in rows if kind == "file"},
            links={name: value for kind, name, value in rows if kind == "link"},
            outputs={name: _decoded(value) for kind, name, value in rows if kind == "output"},
        )

    def read_bytes(self, path: str) -> bytes:
        return self.files.get(path, b"")

    def names(self, path: str) -> list[str]:
        inside = path.rstrip("/") + "/"
        every = (*self.files, *self.links)
        return sorted({name[len(inside) :].split("/")[0] for name in every if name.startswith(inside)})

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.links or bool(self.names(path))

    def readable(self, path: str) -> bool:
        return path in self.files

    def target(self, path: str) -> str:
        return self.links.get(path, os.path.join("/", path))  # noqa: PTH118  a path on another machine

    def run(self, *argv: str) -> str | None:
        return self.outputs.get(" ".join(argv), "").strip() or None


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        kind, _, rest = line.partition("\t")
        name, _, value = rest.partition("\t")
        yield kind, name, value


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode("utf-8", errors="replace")
