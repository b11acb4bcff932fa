"""Real targets, and the command line as its users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision import lab
from tests.conftest import lab_state

PROVISION = Path(sys.executable).parent / "provision"
LIMIT_SECONDS = 900
LAB_STATE = lab_state()


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


def provision(*words: str | Path, home: Path | None = None, stdin: str | None = None) -> Answer:
    """Run the command line; `home` becomes its state home."""
    environment = dict(os.environ)
    if home:
        environment["XDG_STATE_HOME"] = str(home)
    done = subprocess.run(
        [str(PROVISION), *map(str, words)], env=environment, input=stdin if stdin is not None else "",
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Target:
    """A lab target, with root's hands on it and the options that name it."""

    host: lab.LabHost
    home: Path

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
        where = ["-p", str(self.host.port), f"{self.host.user}@{self.host.address}"]
        return ["ssh", "-F", "none", *identity, *known, *where]

    def options(self) -> list[str]:
        return ["-i", self.host.inventory, "--limit", self.name]

    def apply(self, *words: str, tier: str | Path = "budget") -> Answer:
        given = ["--tier", str(tier), *self.options(), "--output", "json"]
        return provision("apply", "--accept-hardware", "--yes", *given, *words, home=self.home)

    def verify(self, *words: str, tier: str | Path = "budget") -> Answer:
        return provision("verify", "--tier", str(tier), *self.options(), "--output", "json", *words, home=self.home)


@pytest.fixture(scope="session")
def new_target(test_lab: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Target]:
    """Makes targets; the lab's own fixture takes down what is left."""
    home = tmp_path_factory.mktemp("provision-state")

    def make(name: str, image: str = "debian-12") -> Target:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(LAB_STATE))
            return Target(lab.up(name, image), home)

    return make


@pytest.fixture(scope="session")
def box(new_target: Callable[..., Target]) -> Target:
    """The bare Debian 12 box that the main tests take from bare to proved, in the order of their file."""
    return new_target("box")
