"""gpu-power, run as the boot unit runs it, against a stand-in of nvidia-smi that remembers what is set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir
from provision.contradictions import of_settings
from provision.nvidia_smi import SmiGpu, parse
from provision.settings import load_registry
from tests.unit.test_nvidia_smi import recorded

PROGRAM = roles_dir() / "gpu_power" / "module_utils" / "gpu_power.py"
STANDIN = Path(__file__).parents[1] / "standins" / "nvidia_smi.py"
NOTHING: dict[str, Any] = {
    "persistence": False, "limit_watts": 0, "limits": {}, "psu_watts": 0, "rest_watts": 250, "mig": {}
}  # fmt: skip
RTX_3080 = "GPU-00000005-0000-4000-8000-000000000001"
A100 = "GPU-00000002-0000-4000-8000-000000000001"
FIRST, SECOND = "GPU-00000007-0000-4000-8000-000000000001", "GPU-00000007-0000-4000-8000-000000000002"


class Box:
    """A machine with recorded cards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = folder / "answer.xml"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "nvidia-smi").symlink_to(STANDIN)
        self.environment = {"PATH": f"{programs}:{os.environ['PATH']}", "NVIDIA_SMI_STANDIN": str(self.document)}

    def holds(self, answer: str, **replace: str) -> None:
        text = recorded(answer)
        for old, new in replace.items():
            assert f"<{old}>" in text
            text = text.replace(f"<{old}>", f"<{old}>{new}<!--", 1).replace(f"</{old}>", f"--></{old}>", 1)
        self.document.write_text(text, encoding="utf-8")

    def smi(self, *words: str) -> str:
        done = subprocess.run(["nvidia-smi", *words], env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def gpu(self, uuid: str) -> SmiGpu:
        return next(gpu for gpu in parse(self.smi("-q", "-x")).gpus if gpu.uuid == uuid)

    def profiles(self, uuid: str) -> list[str]:
        return [line.split()[3] for line in self.smi("mig", "-i", uuid, "-lgi").splitlines()]

    def calls(self) -> list[str]:
        """What was set since the last time this was asked."""
        log = Path(f"{self.document}.calls")
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        log.unlink(missing_ok=True)
        return text.splitlines()

    def run(self, *words: str, **declared: Any) -> tuple[int, str, str]:
        config = self.folder / "gpu-power.json"
        config.write_text(json.dumps({**NOTHING, **declared}), encoding="utf-8")
        program = self.folder / "gpu-power"
        program.write_text(
            PROGRAM.read_text(encoding="utf-8").replace("/run/provision", str(self.folder / "run")), encoding="utf-8"
        )
        done = subprocess.run(
            [sys.executable, str(program), *words, str(config)],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load(PROGRAM)


def test_a_cap_is_set_once_and_again_after_a_boot(box: Box) -> None:
    box.holds("rtx-3080-595")
    assert box.run(limits={RTX_3080: 250}) == (
        0,
        f"{RTX_3080} (NVIDIA GeForce RTX 3080): a cap of 250 W instead of 320 W\n",
        "",
    )
    assert box.gpu(RTX_3080).power.limit == 250.0
    box.calls()
    assert box.run(limits={RTX_3080: 250}) == (0, "", "")
    assert box.calls() == []
    box.smi("--boot")
    assert box.gpu(RTX_3080).power.limit == 320.0
    assert box.run(limits={RTX_3080: 250})[0] == 0
    assert box.gpu(RTX_3080).power.limit == 250.0


def test_the_forms_before_r535_are_capped_too(box: Box) -> None:
    box.holds("rtx-3090-525")
    assert box.run(limit_watts=300)[0] == 0
    assert parse(box.smi("-q", "-x")).gpus[0].power.limit == 300.0


@pytest.mark.parametrize(("asked", "given", "word"), [(500, 336.0, "most"), (40, 100.0, "least")])
def test_a_cap_is_clamped_to_what_the_card_allows_and_that_is_said(
    box: Box, asked: int, given: float, word: str
) -> None:
    box.holds("rtx-3080-595")
    code, said, _ = box.run(limit_watts=asked)
    assert code == 0
    assert f"is capped at {given:g} W, not {asked} W: that is the {word} it allows" in said
    assert box.gpu(RTX_3080).power.limit == given
    assert box.run("--check", limit_watts=asked)[0] == 0


def test_a_cap_by_uuid_wins_over_that_of_every_card(box: Box) -> None:
    box.holds("rtx-2080-twice")
    assert box.run(limit_watts=200, limits={SECOND: 150})[0] == 0
    assert [box.gpu(uuid).power.limit for uuid in (FIRST, SECOND)] == [200.0, 150.0]


def test_a_cap_that_is_no_longer_declared_is_taken_back_and_another_ones_is_left(box: Box) -> None:
    box.holds("rtx-2080-twice")
    box.smi("-i", SECOND, "-pl", "180")
    assert box.run(limits={FIRST: 150})[0] == 0
    assert box.run()[0] == 0
    assert [box.gpu(uuid).power.limit for uuid in (FIRST, SECOND)] == [215.0, 180.0]


def test_persistence(box: Box) -> None:
    box.holds("rtx-3080-595")
    assert box.run(persistence=True)[0] == 0
    assert box.gpu(RTX_3080).persistence is True
    assert box.run("--check", persistence=True) == (0, "", "")


def test_check_says_what_would_change_and_changes_nothing(box: Box) -> None:
    box.holds("rtx-3080-595")
    code, said, _ = box.run("--check", limit_watts=250, persistence=True)
    assert code == 3
    assert "a cap of 250 W instead of 320 W" in said
    assert "persistence mode on" in said
    assert box.calls() == []


def test_a_card_that_is_gone_is_named_and_the_others_are_capped_all_the_same(box: Box) -> None:
    box.holds("rtx-3080-595")
    code, _, said = box.run(limits={RTX_3080: 250, "GPU-gone": 200})
    assert code == 1
    assert said == f"gpu-power: gpu_power_limits names GPU-gone, and no such card answers; those there: {RTX_3080}\n"
    assert box.gpu(RTX_3080).power.limit == 250.0


def test_more_power_than_there_is_is_told_with_the_sum(box: Box) -> None:
    box.holds("rtx-2080-twice")
    code, _, said = box.run("--check", limits={FIRST: 150}, psu_watts=600)
    assert code == 1
    assert "may draw 150 + 215 W and the rest 250 W, together 615 W, and the power supply gives 600 W" in said
    assert box.run(limits={FIRST: 150}, psu_watts=615)[0] == 0


def test_a_card_without_a_power_limit_is_named(box: Box) -> None:
    box.holds("rtx-3080-595", max_power_limit="N/A")
    code, _, said = box.run(limit_watts=250)
    assert code == 1
    assert f"{RTX_3080} (NVIDIA GeForce RTX 3080) has no power limit that could be set" in said
    assert box.run()[0] == 0


def test_mig_instances_are_made_anew_only_where_they_differ(box: Box) -> None:
    box.holds("a100-mig-535")
    assert box.run(mig={A100: ["1g.20gb"] * 4}) == (0, "", "")
    assert box.calls() == []
    code, said, _ = box.run(mig={A100: ["3g.40gb", "3g.40gb"]})
    assert (code, said) == (0, f"{A100} (NVIDIA A100-SXM4-80GB): MIG instances: 2 of 3g.40gb\n")
    assert box.calls() == [f"mig -i {A100} -dci", f"mig -i {A100} -dgi", f"mig -i {A100} -cgi 3g.40gb,3g.40gb -C"]
    assert box.profiles(A100) == ["3g.40gb", "3g.40gb"]
    assert box.run(mig={A100: ["3g.40gb", "3g.40gb"]}) == (0, "", "")


def test_mig_comes_back_after_a_boot_and_goes_where_an_empty_list_is_declared(box: Box) -> None:
    box.holds("a100-mig-535")
    box.smi("--boot")
    assert box.run(mig={A100: ["7g.80gb"]})[0] == 0
    assert box.profiles(A100) == ["7g.80gb"]
    assert box.run(mig={A100: []})[0] == 0
    assert box.gpu(A100).mig.enabled is False
    assert box.gpu(A100).mig.instances == ()
    box.calls()
    assert box.run(mig={A100: []})[0] == 0
    assert box.calls() == []
    assert box.run(mig={A100: ["7g.80gb"]})[0] == 0
    assert box.calls() == [f"-i {A100} -mig 1", f"mig -i {A100} -cgi 7g.80gb -C"]


def test_a_card_that_is_not_named_keeps_its_instances(box: Box) -> None:
    box.holds("a100-mig-535")
    assert box.run(persistence=True)[0] == 0
    assert len(box.gpu(A100).mig.instances) == 4


def test_instances_are_not_taken_from_under_a_running_program(box: Box) -> None:
    box.holds("a100-mig-535")
    text = box.document.read_text(encoding="utf-8")
    busy = "<processes><process_info><pid>4711</pid><type>C</type></process_info></processes>"
    box.document.write_text(text.replace("<processes></processes>", busy), encoding="utf-8")
    code, _, said = box.run(mig={A100: ["7g.80gb"]}, limit_watts=400)
    assert code == 1
    assert f"{A100} (NVIDIA A100-SXM4-80GB) is used by the processes 4711: stop them" in said
    assert len(box.gpu(A100).mig.instances) == 4
    assert box.gpu(A100).power.limit == 400.0
    assert box.run(mig={A100: ["1g.20gb"] * 4}, limit_watts=400) == (0, "", "")


def test_a_mig_mode_that_waits_for_a_reset_is_told(box: Box) -> None:
    box.holds("a100-mig-535")
    box.run(mig={A100: []})
    text = box.document.read_text(encoding="utf-8")
    box.document.write_text(text.replace('<gpu id="', '<gpu held="yes" id="'), encoding="utf-8")
    code, _, said = box.run(mig={A100: ["7g.80gb"]})
    assert code == 1
    assert "its MIG mode waits for a reset, reboot the host" in said
    box.smi("--boot")
    assert box.run(mig={A100: ["7g.80gb"]})[0] == 0


def test_a_card_that_cannot_be_divided_and_profiles_that_do_not_fit_are_named(box: Box) -> None:
    box.holds("rtx-3080-595")
    assert "cannot be divided: MIG needs an A100" in box.run(mig={RTX_3080: ["1g.10gb"]})[2]
    box.holds("a100-mig-535")
    code, _, said = box.run(mig={A100: ["4g.40gb", "4g.40gb"]})
    assert code == 1
    assert "ended with 19 and says: Unable to create a GPU instance on GPU 0 using profile 4g.40gb" in said


@pytest.mark.parametrize(
    "words", ["Failed to initialize NVML: Driver/library version mismatch", "No devices were found"]
)
def test_a_driver_that_does_not_answer_is_told_in_its_own_words(box: Box, words: str) -> None:
    box.document.write_text(words + "\n", encoding="utf-8")
    code, _, said = box.run(limit_watts=250)
    assert code == 1
    assert words in said


def test_without_nvidia_smi_it_says_so(box: Box) -> None:
    (box.folder / "bin" / "nvidia-smi").unlink()
    if shutil.which("nvidia-smi"):
        box.environment["PATH"] = str(box.folder / "bin")
    assert box.run(limit_watts=250) == (1, "", "gpu-power: nvidia-smi is not installed\n")


def test_a_limit_is_refused_by_the_stand_in_as_by_a_card(box: Box, program: ModuleType) -> None:
    """The stand-in is no yes-man: a program that did not clamp would fail here."""
    box.holds("rtx-3080-595")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        box.smi("-i", RTX_3080, "-pl", "500")
    assert "should be between 100.00 W and 336.00 W" in caught.value.stdout
    assert program.DIFFERS == 3


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("gpu_power_limits", {"0": 250}, "names '0', which is no UUID of a GPU"),
        ("gpu_power_limits", {A100: "much"}, "has 'much', which are no watts"),
        ("gpu_power_limits", {A100: 0}, "has 0, which are no watts"),
        ("gpu_power_mig", {"0": ["1g.10gb"]}, "names '0', which is no UUID of a GPU"),
        ("gpu_power_mig", {A100: "3g.40gb"}, "has '3g.40gb', which is no list of profiles"),
        ("gpu_power_mig", {A100: ["half"]}, "has ['half'], which is no list of profiles"),
        ("gpu_power_limit_watts", -1, "is -1, less than nothing"),
        ("gpu_power_psu_watts", 200, "is 200, and the caps of gpu_power_limits and gpu_power_rest_watts add up to 250"),
    ],
)
def test_what_no_host_can_have_is_told_before_any_is_reached(setting: str, value: Any, said: str) -> None:
    settings = load_registry().defaults()
    assert of_settings(settings) == []
    ((name, fact, _),) = of_settings({**settings, setting: value})
    assert (name, fact) == (setting, said)


def test_what_a_host_can_have_contradicts_nothing() -> None:
    good = {"gpu_power_limits": {A100: 300}, "gpu_power_psu_watts": 550, "gpu_power_mig": {A100: ["1g.10gb+me"] * 2}}
    assert of_settings({**load_registry().defaults(), **good, "gpu_power_limit_watts": 250}) == []
    assert of_settings({**load_registry().defaults(), "gpu_power_mig": {A100: []}}) == []
