"""A machine of folders and scripts for the tests of the fan service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provision.content import roles_dir

FILES = roles_dir() / "cooling" / "files"
PLACE = "platform/nct6775.656"
CPU, CHASSIS = "hwmon:coretemp@platform/coretemp.0", f"hwmon:nct6798@{PLACE}#pwm1"


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)


class Chip:
    """A folder that looks like a hwmon chip's."""

    def __init__(self, folder: Path, name: str, place: str, number: int, **files: str) -> None:
        self.path = folder / "sys/devices" / place / f"hwmon/hwmon{number}"
        self.path.mkdir(parents=True)
        for file, text in {"name": name, **files}.items():
            self.put(file, text)

    def put(self, file: str, text: str) -> None:
        (self.path / file).write_text(text + "\n", encoding="utf-8")

    def get(self, file: str) -> str:
        return (self.path / file).read_text(encoding="utf-8").strip()


def curve(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cpu",
        "sources": [CPU],
        "outputs": [CHASSIS],
        "points": [[40, 30], [60, 50], [80, 100]],
        "hysteresis_c": 4,
        "floor_percent": 30,
        "failsafe_percent": 100,
        **changes,
    }


def config(*curves: dict[str, Any]) -> dict[str, Any]:
    modules = {"nct6798": "nct6775"}
    return {"interval_s": 1, "stale_s": 3, "hold_s": 10, "modules": modules, "curves": list(curves) or [curve()]}
