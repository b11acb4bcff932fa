"""Bad input: exactly these words, exit 2, and no connection tried."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_server import call

HOME = Path(__file__).parents[1] / "cases" / "refusals"
CASES = [
    case
    for name in ("input", "hardware")
    for case in yaml.safe_load((HOME / f"{name}.yml").read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_answer_is_exact_and_nothing_is_touched(case: dict[str, Any], tmp_path: Path) -> None:
    for name, text in case.get("files", {}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    touched = tmp_path / "touched"
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {touched}\nexit 255\n")
    ssh.chmod(0o755)
    done = call(*case["argv"], cwd=tmp_path, env={**os.environ, "PATH": f"{ssh.parent}:{os.environ['PATH']}"})
    assert done.stdout == case["answer"] + "\nexit 2: the input is wrong; nothing was touched\n"
    assert done.stderr == ""
    assert done.returncode == 2
    assert not touched.exists()
