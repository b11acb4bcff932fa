"""What the tests of the fan service start from, as a plugin of theirs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.cooling_parts import FILES, Chip


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with a /run, a /sys and a first folder of PATH of its own."""
    for name in ("run", "sys", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PROVISION_COOLING_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PROVISION_COOLING_SYS", str(tmp_path / "sys"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.syspath_prepend(str(FILES))
    for name in ("cooling", "cooling_devices"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__("cooling")


@pytest.fixture
def folder(program: ModuleType, tmp_path: Path) -> Path:
    """Where /run, /sys and the first folder of PATH lie."""
    return tmp_path


@pytest.fixture
def devices(program: ModuleType) -> ModuleType:
    return sys.modules["cooling_devices"]


@pytest.fixture
def cpu(folder: Path) -> Chip:
    """A processor of 40 C."""
    return Chip(folder, "coretemp", "platform/coretemp.0", 0, temp1_input="40000", temp2_input="38000")
