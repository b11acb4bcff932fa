"""The drill on the fan service's chip can fail: a service that is too slow is seen."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from provision.content import load

START = 1000.0


@pytest.fixture
def drill() -> ModuleType:
    return load(Path(__file__).with_name("fan_chip.py"))


class Service:
    """Looks once a second, takes a third of it, and uses what it read so many looks ago."""

    def __init__(self, drill: ModuleType, patch: pytest.MonkeyPatch, behind: int) -> None:
        self.now, self.behind, self.heated = START, behind, [(0.0, 40)]
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)
        for name, stand_in in (
            ("time", clock), ("heat", self.heat), ("sensor", self.sensor), ("status", self.status),
            ("register", lambda _: 255),
        ):  # fmt: skip
            patch.setattr(drill, name, stand_in)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def heat(self, celsius: int) -> None:
        self.heated.append((self.now, celsius))

    def sensor(self, at: float | None = None) -> int:
        return next(celsius for since, celsius in reversed(self.heated) if since <= (self.now if at is None else at))

    def status(self) -> dict[str, Any]:
        began = next(second for second in itertools.count(int(self.now), -1) if second + 0.3 <= self.now)
        return {"at": began + 0.3, "curves": {"cpu": {"celsius": self.sensor(began - self.behind)}}}


@pytest.mark.parametrize("moment", [0.02, 0.17, 0.31, 0.98])
@pytest.mark.parametrize(("behind", "seen"), [(0, False), (2, True)])
def test_a_service_that_lags_is_seen_and_one_that_does_not_is_not(
    drill: ModuleType, monkeypatch: pytest.MonkeyPatch, behind: int, seen: bool, moment: float
) -> None:
    service = Service(drill, monkeypatch, behind)
    service.sleep(moment)
    looks: set[float] = set()
    celsius, register, late = drill.step(70, looks)
    assert (celsius, register, late > 1) == (70, 255, seen)
    assert looks
