"""A machine's files in, its hardware out. One directory a case."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_fakes import FakeSsh

from provision import codec
from provision.content import playbooks_dir
from provision.engine.preflight import Found
from provision.engine.probe import Snapshot, collect, probe, script
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError
from provision.model import Hardware, Host, OperatingSystem

CASES = sorted((Path(__file__).parents[1] / "cases" / "probe").iterdir())
DUMP = Path(__file__).parents[2] / "provision" / "engine" / "probe.sh"


def load(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_probe_tells_what_is_there(case: Path) -> None:
    box = load(case / "box.yml")
    files = {path: text.encode("latin-1") for path, text in box["files"].items()}
    told = collect(Snapshot(files, box["links"], box["outputs"]), box["python"])
    assert told == load(case / "expected.yml")
    assert codec.to_data(codec.from_data(Hardware, told, case.name)) == told


def test_a_machine_without_python_tells_the_same_of_itself() -> None:
    """The shell's snapshot of this very machine against the module run on it."""
    direct = subprocess.run(
        [sys.executable, "-I", "-", "--json"], input=script().encode(), capture_output=True, check=True
    )
    dumped = subprocess.run(["sh", DUMP], capture_output=True, text=True, check=True)
    hardware = json.loads(direct.stdout)
    assert collect(Snapshot.parse(dumped.stdout), hardware["os"]["python"]) == hardware


@pytest.mark.parametrize(
    "file", ["library/provision_probe", "module_utils/provision_machine", "module_utils/provision_devices"]
)
def test_the_probe_is_written_for_the_oldest_python_of_a_target(file: str) -> None:
    ast.parse((playbooks_dir() / f"{file}.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_snapshot_that_was_cut_short_is_no_snapshot() -> None:
    with pytest.raises(ValueError, match="no end"):
        Snapshot.parse("file\tetc/os-release\tSUQ9ZGViaWFu\n")


def test_nonsense_from_the_host_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSsh(tmp_path, monkeypatch)
    fake.answer(1, err="sudo: /etc/sudoers is world writable\n")
    system = OperatingSystem("debian", "12", "bookworm", "x86_64")
    host = Host("box")
    with Workspace([host]) as workspace, pytest.raises(ProvisionError) as caught:
        probe(workspace, Found(host, "admin", "free", system, "/usr/bin/python3", (), 0.1))
    assert str(caught.value) == "box did not tell its hardware: sudo: /etc/sudoers is world writable"
    assert caught.value.refusals[0].hint == "try: ssh box sudo true"
