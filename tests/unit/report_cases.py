"""The cases of tests/cases/report, and how an expectation is compared with its file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import provision
from provision import codec
from provision.events import Event
from provision.fold import fold
from provision.report import Report

HOME = Path(__file__).parents[1] / "cases" / "report"
CASES = sorted(path for path in HOME.iterdir() if path.is_dir())
SCHEMA: dict[str, Any] = json.loads(
    (Path(provision.__file__).parent / "schemas" / "report.schema.json").read_text(encoding="utf-8")
)


def events_of(case: Path) -> list[Event]:
    lines = (case / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [codec.decode_event(json.loads(line), case.name) for line in lines]


def report_of(case: Path) -> Report:
    return fold(events_of(case))


def compare(path: Path, told: str) -> None:
    """Against the file; written anew only when that was asked for."""
    if os.environ.get("PROVISION_UPDATE_CASES"):
        path.write_text(told, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == told
