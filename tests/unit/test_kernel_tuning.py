"""kernel-tuning, the program of the boot unit, on folders that stand for a kernel; and what the plan declares to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.catalog import load_catalog
from provision.content import load, roles_dir
from provision.contradictions import of_settings
from provision.model import Cpu, Firmware, Gpu, Hardware, OperatingSystem
from provision.settings import load_registry
from provision.solver import kernel_tuning
from provision.solver.box import Box

NOTHING: dict[str, Any] = {
    "sysctls": {}, "transparent_hugepages": "leave", "hugepages": {"2048": 0, "1048576": 0}, "governor": "leave",
    "pcie_aspm": "leave", "acs": "leave",
}  # fmt: skip
THP, SWAPPINESS, ASPM, PAGES = (
    "sys/kernel/mm/transparent_hugepage/enabled", "proc/sys/vm/swappiness", "sys/module/pcie_aspm/parameters/policy",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
)  # fmt: skip
GOVERNOR = "sys/devices/system/cpu/cpufreq/policy%d/scaling_governor"


class Kernel:
    """The files of a kernel's that the program reads and writes. They hold what was written last."""

    def __init__(self, root: Path, program: ModuleType) -> None:
        self.root, self.program = root, program
        self.said: list[str] = []
        self.put(SWAPPINESS, "60\n")
        self.put(THP, "always\n")
        self.put(ASPM, "default\n")
        self.put(PAGES, "0\n")
        for number in (0, 1):
            self.put(GOVERNOR % number, "schedutil\n")
            self.put((GOVERNOR % number).replace("_governor", "_available_governors"), "performance schedutil\n")

    def put(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8").strip()

    def bridge(self, name: str, control: int, *, capability: int = 0x0D) -> None:
        """A PCIe bridge whose second extended capability is ACS."""
        config = bytearray(4096)
        config[0x100:0x104] = (0x0001 | 0x148 << 20).to_bytes(4, "little")
        config[0x148:0x14C] = capability.to_bytes(4, "little")
        config[0x14E:0x150] = control.to_bytes(2, "little")
        folder = self.root / "sys/devices/pci0000:00" / name
        folder.mkdir(parents=True)
        (folder / "config").write_bytes(config)
        self.device(name, folder)

    def card(self, name: str, bridge: str, vendor: str = "0x10de") -> None:
        folder = self.root / "sys/devices/pci0000:00" / bridge / name
        folder.mkdir()
        (folder / "class").write_text("0x030200\n")
        (folder / "vendor").write_text(vendor + "\n")
        self.device(name, folder)

    def device(self, name: str, folder: Path) -> None:
        bus = self.root / "sys/bus/pci/devices"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / name).symlink_to(folder)

    def control(self, name: str) -> int:
        config = (self.root / "sys/devices/pci0000:00" / name / "config").read_bytes()
        return int.from_bytes(config[0x14E:0x150], "little")

    def run(self, *words: str, **declared: Any) -> int:
        path = self.root / "declared.json"
        path.write_text(json.dumps({**NOTHING, **declared}), encoding="utf-8")
        code: int = self.program.main([*words, str(path)])
        return code


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    program = load(roles_dir() / "kernel_tuning/module_utils/kernel_tuning.py")
    monkeypatch.setattr(program, "ROOT", str(tmp_path))
    return Kernel(tmp_path, program)


WANTED: dict[str, Any] = {
    "sysctls": {"vm.swappiness": 10}, "transparent_hugepages": "madvise", "hugepages": {"2048": 4, "1048576": 0},
    "governor": "performance", "pcie_aspm": "performance",
}  # fmt: skip


def state(kernel: Kernel) -> list[str]:
    return [kernel.text(path) for path in (SWAPPINESS, THP, PAGES, GOVERNOR % 0, GOVERNOR % 1, ASPM)]


TUNED = ["10", "madvise", "4", "performance", "performance", "performance"]
BARE = ["60", "always", "0", "schedutil", "schedutil", "default"]


def test_it_is_foretold_done_once_and_taken_back(kernel: Kernel) -> None:
    assert kernel.run("--check", **WANTED) == 3
    assert state(kernel) == BARE
    assert kernel.run(**WANTED) == 0
    assert state(kernel) == TUNED
    assert kernel.run("--check", **WANTED) == 0
    assert kernel.run("--check") == 3
    assert kernel.run() == 0
    assert state(kernel) == BARE
    assert kernel.run("--check") == 0


def test_what_somebody_set_meanwhile_is_not_taken_back(kernel: Kernel) -> None:
    kernel.run(**WANTED)
    kernel.put(SWAPPINESS, "33\n")
    assert kernel.run() == 0
    assert kernel.text(SWAPPINESS) == "33"


def test_after_two_declared_values_the_very_first_comes_back(kernel: Kernel) -> None:
    kernel.run(sysctls={"vm.swappiness": 10})
    kernel.run(sysctls={"vm.swappiness": 20})
    kernel.run()
    assert kernel.text(SWAPPINESS) == "60"


def test_of_alternatives_the_chosen_one_is_read(kernel: Kernel) -> None:
    kernel.put(THP, "always [madvise] never\n")
    assert kernel.run("--check", transparent_hugepages="madvise") == 0
    assert kernel.run("--check", transparent_hugepages="never") == 3


def test_a_machine_without_frequencies_is_told_and_left(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((kernel.root / "sys/devices/system/cpu/cpufreq").glob("*/*")):
        path.unlink()
        if not list(path.parent.iterdir()):
            path.parent.rmdir()
    assert kernel.run("--check", governor="performance") == 0
    assert "shows no frequency of the processors" in capsys.readouterr().out


def test_a_governor_that_is_not_offered_is_refused_by_name(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel.run(governor="ondemand") == 1
    told = capsys.readouterr().err
    assert "there is no governor ondemand for policy0, which offers performance schedutil" in told


def test_pages_that_the_processor_lacks_are_refused(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel.run("--check", hugepages={"2048": 0, "1048576": 2}) == 1
    assert "no pages of 1024 MiB" in capsys.readouterr().err


def test_fewer_pages_than_asked_for_are_no_success(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: str, value: str) -> None:
        kernel.put(path.lstrip("/"), str(min(int(value), 3)))

    monkeypatch.setattr(kernel.program, "write", write)
    assert kernel.run(hugepages={"2048": 512, "1048576": 0}) == 1
    assert "of 512 huge pages the kernel could set aside 3" in capsys.readouterr().err


def test_power_saving_that_the_firmware_keeps_is_told_and_left(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, value: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kernel.program, "write", refuse)
    assert kernel.run("--check", pcie_aspm="performance") == 0
    assert "the firmware keeps the power saving of PCIe links" in capsys.readouterr().out


def test_only_what_redirects_above_a_card_is_cleared_and_given_back(kernel: Kernel) -> None:
    kernel.bridge("0000:00:01.0", 0x5D)
    kernel.bridge("0000:00:02.0", 0x5D)
    kernel.bridge("0000:00:03.0", 0x5D, capability=0x0B)
    kernel.card("0000:01:00.0", "0000:00:01.0")
    kernel.card("0000:02:00.0", "0000:00:02.0", vendor="0x1002")
    kernel.card("0000:03:00.0", "0000:00:03.0")
    assert kernel.run("--check", acs="direct") == 3
    assert kernel.run(acs="direct") == 0
    assert [kernel.control(f"0000:00:0{number}.0") for number in (1, 2, 3)] == [0x51, 0x5D, 0x5D]
    assert kernel.run("--check", acs="direct") == 0
    assert kernel.run(acs="direct") == 0
    assert kernel.run() == 0
    assert kernel.control("0000:00:01.0") == 0x5D


def test_bridges_that_redirect_several_cards_are_told_where_nobody_decided(
    kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.bridge("0000:00:01.0", 0x1D)
    kernel.card("0000:01:00.0", "0000:00:01.0")
    kernel.run("--check")
    assert "ACS" not in capsys.readouterr().out
    kernel.bridge("0000:00:02.0", 0x00)
    kernel.card("0000:02:00.0", "0000:00:02.0")
    kernel.run("--check")
    assert "ACS of the bridges 0000:00:01.0 sends" in capsys.readouterr().out


# -- the plan ------------------------------------------------------------------------------------------------------

A100 = Gpu("10de:20b2", "0000:01:00.0", "A100")
METAL = Firmware()
EPYC, XEON = "AMD EPYC 7763 64-Core Processor", "Intel(R) Xeon(R) Gold 6330"


def box(cards: int = 2, model: str = EPYC, nodes: int = 1, firmware: Firmware = METAL, **pins: Any) -> Box:
    hardware = Hardware(
        os=OperatingSystem("debian", "12", "bookworm", "x86_64"), cpu=Cpu(model, 1, 8, 16, nodes),
        memory_bytes=64 * 2**30, gpus=(A100,) * cards, firmware=firmware,
    )  # fmt: skip
    given = {f"kernel_tuning_{name}": value for name, value in pins.items()}
    catalog = load_catalog()
    return Box(hardware, (), given, catalog.settings.defaults(), catalog.nvidia)


def decided(found: Box) -> dict[str, Any]:
    return {name.removeprefix("kernel_tuning_"): each.value for name, each in kernel_tuning.decisions(found).items()}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (box(cards=0), []),
        (box(cards=1), []),
        (box(cards=2), ["iommu=pt"]),
        (box(cards=4, model=XEON), ["iommu=pt"]),
        (box(cards=2, firmware=Firmware(virtualization="vm:kvm")), []),
    ],
)
def test_several_cards_of_a_machine_of_its_own_are_not_translated(found: Box, words: list[str]) -> None:
    assert decided(found)["boot_parameters"] == words


@pytest.mark.parametrize(
    ("cards", "nodes", "balancing", "reclaim"),
    [(2, 1, "leave", "leave"), (0, 2, "leave", "disabled"), (1, 2, "disabled", "disabled")],
)
def test_numa_is_told_where_there_are_nodes(cards: int, nodes: int, balancing: str, reclaim: str) -> None:
    found = decided(box(cards, nodes=nodes))
    assert (found["numa_balancing"], found["zone_reclaim"]) == (balancing, reclaim)


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"boot_parameters": ["root=/dev/sdb1"]}, "has root=/dev/sdb1, which decides what the machine boots"),
        ({"boot_parameters": ["init=/bin/sh"]}, "which decides what the machine boots"),
        ({"boot_parameters": ["single"]}, "which decides what the machine boots"),
        ({"boot_parameters": ["hugepages=4"]}, "and huge pages have settings of their own"),
        ({"boot_parameters": ["intel_iommu=on"]}, "which is for processors of Intel, and this is AMD EPYC"),
        ({"boot_parameters": ["nowatchdog", "nowatchdog"]}, "has nowatchdog twice"),
        ({"hugepages_1g": 33}, "is 33, and the huge pages take 33.0 of 64.0 GiB from everything else"),
        ({"hugepages_2m": 16000, "hugepages_1g": 4}, "is 16000, and the huge pages take 35.2 of 64.0 GiB"),
        ({"acs": "direct", "firmware": Firmware(secure_boot=True)}, "under Secure Boot the kernel lets nobody write"),
    ],
)
def test_what_the_machine_cannot_have_is_refused(pins: dict[str, Any], said: str) -> None:
    told = [f"{fact} ({hint})" for _, fact, hint in kernel_tuning.faults(box(**pins))]
    assert len(told) == 1
    assert said in told[0]


@pytest.mark.parametrize(
    "pins",
    [
        {"boot_parameters": ["iommu=pt", "amd_iommu=off", "mitigations=off", "rootdelay=5"]},
        {"boot_parameters": ["intel_iommu=on"], "model": XEON},
        {"hugepages_1g": 32},
        {"acs": "direct", "firmware": Firmware(secure_boot=False)},
    ],
)
def test_what_it_can_have_is_not(pins: dict[str, Any]) -> None:
    assert kernel_tuning.faults(box(**pins)) == []


@pytest.mark.parametrize(
    ("kind", "dropped"), [("metal", False), ("vm:kvm", False), ("container:podman", True), ("wsl", True)]
)
def test_who_has_no_kernel_of_his_own_does_not_get_the_role(kind: str, dropped: bool) -> None:
    assert bool(kernel_tuning.dropped(box(firmware=Firmware(virtualization=kind)))) is dropped


def test_a_governor_in_a_virtual_machine_and_cards_that_reach_each_other_are_told() -> None:
    told = kernel_tuning.warnings(box(governor="performance", acs="direct", firmware=Firmware(virtualization="vm:kvm")))
    assert [line.split(" ")[0] for line in told] == ["kernel_tuning_governor", "kernel_tuning_acs"]
    assert kernel_tuning.warnings(box(governor="performance")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("swappiness", 201),
        ("swappiness", -2),
        ("hugepages_2m", -1),
        ("boot_parameters", ["a b"]),
        ("boot_parameters", ["a;b"]),
    ],
)
def test_what_no_kernel_takes_is_refused_without_a_host(name: str, value: Any) -> None:
    settings = {**load_registry().defaults(), f"kernel_tuning_{name}": value}
    assert [found for found, *_ in of_settings(settings)] == [f"kernel_tuning_{name}"]
