"""The Molecule scenarios: one per role and per tier, all of one form, and that form works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from provision.catalog import tiers
from provision.content import roles_dir
from provision.lab import paths
from tests.integration.conftest import LAB_STATE

ROOT = Path(__file__).parents[2]


def molecule(*words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "XDG_STATE_HOME": str(LAB_STATE), "PATH": path, "NO_COLOR": "1"}
    return subprocess.run(
        ["molecule", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=590, check=False
    )


def test_every_role_and_every_tier_has_a_scenario() -> None:
    scenarios = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")}
    assert scenarios == {path.name for path in roles_dir().iterdir()} | {tier.name for tier in tiers()}


def test_every_target_of_a_scenario_has_a_name_that_the_lab_takes() -> None:
    for path in sorted((ROOT / "molecule").glob("*/molecule.yml")):
        for platform in yaml.safe_load(path.read_text(encoding="utf-8"))["platforms"]:
            assert paths.check_name(platform["name"])


def test_molecule_reads_every_scenario() -> None:
    told = molecule("list", "--format", "plain")
    assert told.returncode == 0, told.stderr[-3000:]
    listed = {line.split()[3] for line in told.stdout.splitlines() if line.split()}
    assert {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")} <= listed


@pytest.mark.lab
def test_the_shared_form_applies_repeats_and_proves(test_lab: None) -> None:
    told = molecule("test", "-s", "uv")
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
