"""`nvidia-smi -q -x` of real machines, and what it says when something is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.errors import ProvisionError
from provision.nvidia_smi import Link, Power, SmiGpu, Temperature, bus_address, parse

CASES = Path(__file__).parents[1] / "cases" / "nvidia_smi"
BROKEN: dict[str, dict[str, Any]] = yaml.safe_load((CASES / "broken.yml").read_text(encoding="utf-8"))


def recorded(name: str) -> str:
    return (CASES / f"{name}.xml").read_text(encoding="utf-8")


def first(name: str) -> SmiGpu:
    return parse(recorded(name)).gpus[0]


def answer(case: dict[str, Any]) -> str:
    """What nvidia-smi says in this case."""
    if "in" not in case:
        return str(case["text"])
    text = recorded(case["in"])
    for old, new in case.get("replace", {}).items():
        assert old in text, f"{case['in']} holds no {old}"
        text = text.replace(old, new, 1)
    return text[: case.get("keep")] + case.get("append", "")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.xml")), ids=lambda path: path.stem)
def test_every_recorded_answer_is_read_whole(path: Path) -> None:
    smi = parse(path.read_text(encoding="utf-8"))
    assert smi.gpus
    assert smi.warnings == ()
    for gpu in smi.gpus:
        assert gpu.uuid.startswith("GPU-0000")
        assert gpu.trouble == ()
        assert None not in (gpu.link.generation, gpu.link.generation_max, gpu.link.width, gpu.link.width_max)
        assert None not in (gpu.temperature.gpu, gpu.temperature.slowdown_margin, gpu.persistence)
        power = gpu.power
        assert power.draw is not None
        assert power.limit is not None
        assert power.minimum is not None
        assert power.maximum is not None
        assert power.minimum <= power.limit <= power.maximum
        assert power.default == power.enforced or gpu.name.endswith("3090")
        assert gpu.memory.total_mib


def test_no_recorded_answer_holds_a_serial() -> None:
    texts = [path.read_text(encoding="utf-8") for path in CASES.glob("*.xml")]
    words = ("<serial>", "<pdi>", "<board_part_number>", "<vbios_version>")
    assert (bool(texts), [word for word in words for text in texts if word in text]) == (True, [])


def test_the_forms_before_r535() -> None:
    gpu = first("v100s-460")
    assert (gpu.name, gpu.address, gpu.persistence, gpu.fan) == ("Tesla V100S-PCIE-32GB", "0000:00:0d.0", False, None)
    assert gpu.power == Power(232.8, 250.0, 250.0, 250.0, 100.0, 250.0)
    assert gpu.temperature == Temperature(66, 87, 90, 21)
    assert gpu.link == Link(3, 3, 16, 16)
    assert (gpu.memory.ecc, gpu.memory.volatile_uncorrectable, gpu.memory.retired) == (True, 0, 0)
    assert (gpu.mig.enabled, gpu.mig.instances) == (None, ())


def test_a_cap_is_the_limit_that_was_asked_for() -> None:
    power = first("rtx-3090-525").power
    assert (power.limit, power.enforced, power.default) == (200.0, 200.0, 350.0)


def test_mig_instances() -> None:
    mig = first("a100-mig-535").mig
    assert (mig.enabled, mig.pending) == (True, True)
    assert [each.gpu_instance for each in mig.instances] == [3, 4, 5, 6]
    assert {each.memory_mib for each in mig.instances} == {19968}


def test_the_forms_of_r595_and_a_temperature_told_as_a_margin() -> None:
    smi = parse(recorded("rtx-4000-sff-ada-595"))
    assert (smi.driver_version, smi.cuda_version) == ("595.84", "13.2")
    gpu = smi.gpus[0]
    assert gpu.temperature == Temperature(38, None, None, 51)
    assert gpu.throttling == ("gpu_idle",)
    assert gpu.power == Power(8.44, 70.0, 70.0, 70.0, 30.0, 70.0)


def test_several_cards_each_with_its_own_figures() -> None:
    gpus = parse(recorded("rtx-2080-twice")).gpus
    assert [gpu.address for gpu in gpus] == ["0000:01:00.0", "0000:02:00.0"]
    assert [gpu.power.draw for gpu in gpus] == [1.0, 1.62]
    assert gpus[0].link == Link(1, 3, 8, 16)


def test_uncorrectable_errors_are_the_sum_of_their_kinds() -> None:
    text = recorded("a100-mig-535").replace("<dram_uncorrectable>0", "<dram_uncorrectable>2")
    text = text.replace("<sram_uncorrectable>0", "<sram_uncorrectable>1")
    memory = parse(text).gpus[0].memory
    assert (memory.volatile_uncorrectable, memory.aggregate_uncorrectable) == (3, 3)


@pytest.mark.parametrize("name", BROKEN["refused"])
def test_what_is_no_answer_is_refused_with_its_words(name: str) -> None:
    case = BROKEN["refused"][name]
    with pytest.raises(ProvisionError) as caught:
        parse(answer(case))
    refusal = caught.value.refusals[0]
    assert case["fact"] in str(refusal)
    assert case.get("hint", "nvidia-smi") in refusal.hint


@pytest.mark.parametrize("name", BROKEN["read"])
def test_what_is_odd_in_an_answer_is_kept(name: str) -> None:
    case = BROKEN["read"][name]
    smi = parse(answer(case))
    assert list(smi.gpus[0].trouble) == case["trouble"]
    assert list(smi.warnings) == case.get("warnings", [])


def test_addresses_are_written_as_linux_writes_them() -> None:
    assert bus_address("00000000:0C:00.0") == "0000:0c:00.0"
    assert bus_address("00010001:61:00.0") == "0001:61:00.0"
