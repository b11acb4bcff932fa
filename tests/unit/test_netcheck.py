"""What `provision netcheck` asks a host for: the card on the way to the other one, by name as by address."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision.operations import netcheck

PROGRAMS = {
    "iperf3": "",
    "getent": 'case $2 in gpu2.example) echo "198.51.100.2 STREAM gpu2.example" ;; 198.*) echo "$2 STREAM $2" ;; esac',
    "ip": 'case $4 in "" | *[!0-9.]*) exit 1 ;; *) echo "$4 dev no-such-card src 198.51.100.1" ;; esac',
}


@pytest.mark.parametrize(
    ("towards", "said"),
    [("198.51.100.2", "no-such-card -1"), ("gpu2.example", "no-such-card -1"), ("nowhere.example", "none -1")],
)
def test_the_card_on_the_way_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towards: str, said: str) -> None:
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script = netcheck._LOOK.format(address=towards)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said
