"""A target whose nvidia-smi is a stand-in: it answers for recorded cards, and remembers what is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.nvidia_smi import SmiGpu, parse
from tests.integration.conftest import Outcome, Target
from tests.unit.test_gpu_power import STANDIN
from tests.unit.test_nvidia_smi import recorded

UNIT = "provision-gpu-power.service"
DOCUMENT = "/var/lib/nvidia-smi-standin.xml"


@dataclass(frozen=True)
class PowerHost:
    """The target and the cards that its nvidia-smi speaks of."""

    target: Target

    def holds(self, answer: str) -> None:
        self.target.put("/usr/bin/nvidia-smi", STANDIN.read_text(encoding="utf-8"), "0755")
        self.target.put(DOCUMENT, recorded(answer))
        self.target.sh("touch /dev/nvidiactl")

    def gpus(self) -> tuple[SmiGpu, ...]:
        return parse(self.target.sh("nvidia-smi -q -x")).gpus

    def limits(self) -> list[float | None]:
        return [gpu.power.limit for gpu in self.gpus()]

    def play(self, *words: str, **settings: Any) -> Outcome:
        return self.target.play(["gpu_power"], settings, *words)
