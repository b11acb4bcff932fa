"""The stand-in archive's key leaves no process behind, however a test run ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIGNER = """
import pathlib
from tests.standins.apt_repository import SigningKey
key = SigningKey()
(key.home / "text").write_text("signed over and over")
print(key.home, flush=True)
while True:
    key.sign(key.home / "text", key.home / "signed")
"""
GONE_SECONDS = 20  # four on an idle machine


def agents(home: Path) -> list[str]:
    """The agents that serve a home."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_text(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return [line for line in lines if line.startswith("gpg-agent") and str(home) in line]


def test_a_killed_run_leaves_no_agent() -> None:
    signer = subprocess.Popen([sys.executable, "-c", SIGNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert signer.stdout
    home = Path(signer.stdout.readline().strip())
    try:
        while not agents(home):
            assert signer.poll() is None
    finally:
        signer.kill()
        signer.communicate()
    deadline = time.monotonic() + GONE_SECONDS
    try:
        while agents(home):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        shutil.rmtree(home)
