"""The facts about GPUs, drivers, CUDA and frameworks: right where plans rest on them, sound, quick, told when old."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import statistics
import time
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from provision import content
from provision.catalog import FRAMEWORKS, load_catalog
from provision.catalog.nvidia import Nvidia, Product
from provision.catalog.nvidia_loader import load_nvidia, memory_in
from provision.catalog.soundness import unsound
from provision.cli import cli
from provision.operations import catalog as operation

NVIDIA = load_catalog().nvidia
LOCKS = content.roles_dir() / "python_ml" / "files" / "locks"
TODAY = date(2026, 11, 22)


# -- the cards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pci_id", "name", "architecture", "capability", "memory_gib", "passive"),
    [
        ("10de:1db1", "Tesla V100 SXM2 16GB", "Volta", "7.0", 16, True),
        ("10de:1db6", "Tesla V100 PCIe 32GB", "Volta", "7.0", 32, True),
        ("10de:1e02", "TITAN RTX", "Turing", "7.5", 24, False),
        ("10de:20b2", "A100 SXM4 80GB", "Ampere", "8.0", 80, True),
        ("10de:20f1", "A100 PCIe 40GB", "Ampere", "8.0", 40, True),
        ("10de:2330", "H100 SXM5 80GB", "Hopper", "9.0", 80, True),
        ("10de:2331", "H100 PCIe", "Hopper", "9.0", 80, True),
        ("10de:2484", "GeForce RTX 3070", "Ampere", "8.6", 8, False),
        ("10de:2206", "GeForce RTX 3080", "Ampere", "8.6", 10, False),
        ("10de:2204", "GeForce RTX 3090", "Ampere", "8.6", 24, False),
        ("10de:2684", "GeForce RTX 4090", "Ada", "8.9", 24, False),
        ("10de:26b1", "RTX 6000 Ada Generation", "Ada", "8.9", 48, False),
        ("10de:2bb1", "RTX PRO 6000 Blackwell Workstation Edition", "Blackwell", "12.0", 96, False),
        ("10de:2bb5", "RTX PRO 6000 Blackwell Server Edition", "Blackwell", "12.0", 96, True),
        ("10de:2901", "B200", "Blackwell", "10.0", None, None),
        ("10de:102d", "Tesla K80", "Kepler", "3.7", None, None),
    ],
)
def test_a_card_is_known_by_its_pci_id(
    pci_id: str, name: str, architecture: str, capability: str, memory_gib: int | None, passive: bool | None
) -> None:
    product = NVIDIA.products[pci_id]
    found = (product.name, product.architecture.name, product.compute_capability, product.memory_gib, product.passive)
    assert found == (name, architecture, capability, memory_gib, passive)


def test_the_nvswitches_are_known_and_are_no_gpus() -> None:
    assert NVIDIA.nvswitches == {"10de:1af1": "A100 NVSwitch", "10de:22a3": "H100 NVSwitch"}
    assert not set(NVIDIA.nvswitches) & set(NVIDIA.products)


def test_the_other_functions_of_a_card_are_no_gpus() -> None:
    """The RTX 3080's audio function, a USB controller of the TU102, and the PCIe host of a GB10."""
    assert not {"10de:1aef", "10de:1ad6", "10de:22ce"} & set(NVIDIA.products)


def test_only_what_is_older_than_turing_has_no_open_modules_and_only_blackwell_no_others() -> None:
    flavours = {product.architecture.name: product.architecture.modules for product in NVIDIA.products.values()}
    older = ("Fermi", "Kepler", "Maxwell", "Pascal", "Volta")
    assert {name for name, modules in flavours.items() if "open" not in modules} == set(older)
    assert {name for name, modules in flavours.items() if modules == ("open",)} == {"Blackwell"}


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("A100 SXM4 80GB", 80),
        ("A100-SXM-64GB", 64),
        ("Tesla P100-DGXS-16GB", 16),
        ("GH200 120GB / 480GB", None),
        ("GeForce RTX 3080 Mobile / Max-Q 8GB/16GB", None),
        ("GeForce RTX 3080", None),
    ],
)
def test_memory_is_read_from_a_name_only_where_it_is_plain(name: str, gib: int | None) -> None:
    assert memory_in(name) == gib


def test_figures_have_a_source_and_agree_with_what_the_name_says() -> None:
    figures = ("power_watts", "bandwidth_gbs", "fp16_tflops", "slowdown_c", "passive")
    for product in NVIDIA.products.values():
        if any(getattr(product, name) is not None for name in figures):
            assert "nvidia.com" in product.source, product.name
        assert memory_in(product.name) in (None, product.memory_gib), product.name


# -- drivers and CUDA --------------------------------------------------------------------------------------------


def branch(number: int) -> Any:
    return next(one for one in NVIDIA.branches if one.number == number)


def offers(number: int) -> set[tuple[str, str, bool]]:
    return {(one.source, one.distribution, one.prebuilt) for one in branch(number).origins}


def test_580_is_the_long_term_branch_and_the_last_for_volta() -> None:
    assert (branch(580).status, branch(580).ends) == ("long-term", "2028-06")
    assert "Volta" in branch(580).proprietary_architectures
    assert "Volta" not in branch(580).open_architectures
    assert [one.number for one in NVIDIA.branches if one.number > 580 and "Volta" in one.architectures] == []


def test_blackwell_is_served_by_open_modules_only() -> None:
    assert [one.number for one in NVIDIA.branches if "Blackwell" in one.proprietary_architectures] == []
    assert min(one.number for one in NVIDIA.branches if "Blackwell" in one.open_architectures) == 580


def test_620_has_no_proprietary_modules() -> None:
    assert branch(620).proprietary_architectures == ()
    assert {flavour for origin in branch(620).origins for flavour in origin.modules} == {"open"}


def test_who_offers_580() -> None:
    assert offers(580) == {
        ("ubuntu", "ubuntu-22.04", True),
        ("ubuntu", "ubuntu-24.04", True),
        ("cuda", "ubuntu-22.04", False),
        ("cuda", "ubuntu-24.04", False),
        ("cuda", "debian-12", False),
    }


def test_the_distributions_own_drivers_on_debian() -> None:
    own = {
        origin.distribution: (one.number, one.status, origin.prebuilt)
        for one in NVIDIA.branches
        for origin in one.origins
        if origin.source == "debian"
    }
    assert own == {"debian-12": (535, "ended", False), "debian-13": (550, "ended", False)}


def test_nothing_newer_than_535_is_claimed_for_ubuntu_20_04() -> None:
    offered = [one.number for one in NVIDIA.branches for origin in one.origins if origin.distribution == "ubuntu-20.04"]
    assert set(offered) == {535}


def test_only_the_distribution_prebuilds_modules() -> None:
    assert {origin.source for one in NVIDIA.branches for origin in one.origins if origin.prebuilt} == {"ubuntu"}


@pytest.mark.parametrize(
    ("number", "cuda"), [(535, "12.2"), (550, "12.4"), (580, "13.0"), (595, "13.2"), (610, "13.3"), (620, "13.3")]
)
def test_the_cuda_release_that_a_branch_is_matched_to(number: int, cuda: str) -> None:
    assert branch(number).cuda == cuda


def test_cuda_13_asks_for_580_and_left_volta_behind() -> None:
    for release in NVIDIA.cuda:
        major = int(release.version.split(".")[0])
        assert release.floor == {13: 580, 12: 525, 11: 450}[major]
        assert ("Volta" in release.architectures) == (major < 13)
    blackwell = [tuple(map(int, one.version.split("."))) for one in NVIDIA.cuda if "Blackwell" in one.architectures]
    assert min(blackwell) == (12, 8)


# -- frameworks --------------------------------------------------------------------------------------------------


BUILDS = [(name, build) for name in FRAMEWORKS for build in getattr(load_catalog(), name) if build.locked]


@pytest.mark.parametrize(("framework", "build"), BUILDS, ids=lambda value: getattr(value, "backend", value))
def test_every_build_is_locked_in_its_version_for_its_interpreters(framework: str, build: Any) -> None:
    lock = (LOCKS / f"{framework}-{build.backend}.txt").read_text(encoding="utf-8").splitlines()
    names = (f"{framework}=={build.version}", f"{framework}-cpu=={build.version}", f"{framework}=={build.version}+cpu")
    assert any(line.split(" ")[0] in names for line in lock)
    source = (LOCKS / f"{framework}-{build.backend}.in").read_text(encoding="utf-8")
    assert source.startswith(f"# CPython {build.pythons[0]} and newer")


def test_every_lock_of_a_framework_is_a_build_of_the_catalogue() -> None:
    known = {f"{framework}-{build.backend}" for framework, build in BUILDS}
    assert {path.stem for path in LOCKS.glob("*.txt")} == known


def test_v100_has_a_torch_and_blackwell_has_another() -> None:
    torch = {build.backend: build.capabilities for build in load_catalog().torch}
    assert "7.0" in torch["cu126"]
    assert "7.0" not in torch["cu130"]
    assert "12.0" in torch["cu130"]
    assert not any(capability.startswith("12.") for capability in torch["cu126"])


def test_tensorflow_has_no_code_for_blackwell() -> None:
    (build,) = (build for build in load_catalog().tensorflow if build.gpu)
    assert max(float(capability) for capability in build.capabilities) == 9.0


# -- the files ---------------------------------------------------------------------------------------------------


def test_the_catalogues_files_are_sound() -> None:
    assert unsound() == []


def spoiled(folder: Path, name: str, old: str, new: str) -> list[tuple[str, str]]:
    """What is said about the catalogue when `old` in one of its files reads `new`."""
    for path in content.catalog_dir().glob("*.*"):
        if path.suffix in (".yml", ".txt"):
            shutil.copy(path, folder)
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    return [(said.subject.replace(f"{folder}/", ""), said.fact) for said in unsound(folder)]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("drivers.yml", "status: production", "status: produktion", 'must not be "produktion"'),
        ("drivers.yml", "    ends: 2028-06\n", "", "lacks ends"),
        ("drivers.yml", "ends: 2028-06", "ends: June 2028", 'must not be "June 2028": it is no month such as 2028-06'),
        ("drivers.yml", "[Turing, Ampere, Ada, Hopper]", "[Turing, Amper]", "names Amper, which is not known"),
        ("drivers.yml", "open: [Turing,", "open: [Volta,", "names Volta, which has no open modules in gpus.yml"),
        ("drivers.yml", "proprietary: []", "proprietary: [Volta]", "names Volta, which ended with 580"),
        (
            "drivers.yml",
            "modules: [open]\n",
            "modules: [proprietary]\n",
            "offers proprietary modules, which",
        ),
        ("drivers.yml", "[debian-13]", "[debian-14]", "names debian-14, which is not known"),
        ("drivers.yml", "version: 595.71.05", "version: 590.48.01", "is 590.48.01, which is of another branch"),
        ("drivers.yml", "number: 595", "number: 580", "is 580, as in an earlier entry"),
        ("cuda.yml", "matched: 590.44.01", "matched: 575.57.08", "is 580, above its own driver 575.57.08"),
        ("cuda.yml", "&from_turing [Turing", "&from_turing [Volta", "names Volta, which ended with 12.9"),
        ("cuda.yml", '"13.1"', '"13.2"', "is 13.2, as in an earlier entry"),
        ("cuda.yml", '"13.1"', "13.1", "must be text, not a number: 13.1"),
        ("gpus.yml", "names: [TITAN RTX]", "names: [TITAN RTXX]", "names TITAN RTXX, which is not known"),
        ("gpus.yml", "source: turing", "source: touring", "names touring, which is not known"),
        ("gpus.yml", "names: [A40], source: a40", "names: [A40]", "lacks source"),
        ("gpus.yml", "names: [A10]", "names: [A40]", "names A40, as an earlier entry does"),
        ("gpus.yml", "[GP100]", "[GP102]", "names the chip GP102 twice"),
        ("gpus.yml", "[GV100]", "[GV101]", "lacks the chip GV100 of gpus.pci.txt"),
        ("gpus.yml", "power_watts: 300", "watts: 300", "is not known here"),
        ("gpus.pci.txt", "2206 GA102 ", "2206 ", "is not an id, a chip and a name"),
        ("gpus.pci.txt", "2204 GA102", "2206 GA102", "names the device 2206 twice"),
        ("frameworks.yml", '    cuda: "13.0"\n', "", "lacks cuda"),
        ("frameworks.yml", '    cuda: "12.6"\n', '    cuda: "12.7"\n', "names 12.7, which is not known"),
        ("frameworks.yml", '["3.11", "3.12", "3.13"]', "[]", "must not be []: it is empty"),
        ("distributions.yml", "codename: trixie, ", "", "lacks codename"),
    ],
)
def test_a_fault_of_the_files_is_told(name: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    told = spoiled(tmp_path, name, old, new)
    assert any(place.startswith(name) and fact.startswith(said) for place, fact in told), told


def test_faults_of_several_files_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    spoiled(tmp_path, "drivers.yml", "status: production", "status: produktion")
    text = (tmp_path / "cuda.yml").read_text(encoding="utf-8")
    (tmp_path / "cuda.yml").write_text(text.replace("floor: 450", "floor: old"), encoding="utf-8")
    (tmp_path / "gpus.yml").write_text("architectures: [\n", encoding="utf-8")
    places = [said.subject.replace(f"{tmp_path}/", "").split(" ")[0] for said in unsound(tmp_path)]
    assert [place.split(":")[0] for place in places] == ["gpus.yml", "drivers.yml", "cuda.yml"]
    assert all(place.split(":")[1].isdigit() for place in places)


def test_loading_is_quick() -> None:
    """Every plan pays for it: `plan --hardware` has half a second for everything."""
    seconds = []
    for _ in range(5):
        started = time.process_time()
        load_nvidia()
        seconds.append(time.process_time() - started)
    assert statistics.median(seconds) < 0.06


# -- the generator -----------------------------------------------------------------------------------------------


PCI_IDS = """\
#\tVersion: 2026.10.24
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t2206  GA102 [not NVIDIA's]
10de  NVIDIA Corporation
\t1aef  GA102 High Definition Audio Controller
\t1af1  GA100 [A100 NVSwitch]
\t1e3c  TU102GL
\t2206  GA102 [GeForce RTX 3080]
\t\t1043 87b2  a subsystem
\t25ac  GA107BM / GN20-P0-R-K2 [GeForce RTX 3050 6GB Laptop GPU]
\t9999  XY123 [of tomorrow]
\t9998  GB999 [Blackwell of tomorrow]
10df  Emulex Corporation
"""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "catalog_gpus.py"
    spec = importlib.util.spec_from_file_location("catalog_gpus", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generator_takes_the_gpus_and_switches_of_known_chips(generator: ModuleType) -> None:
    taken, left = generator.rows(PCI_IDS, {"GA102", "GA107", "TU102"})
    assert taken == [
        "1af1 NVSwitch A100 NVSwitch",
        "1e3c TU102 TU102GL",
        "2206 GA102 GeForce RTX 3080",
        "25ac GA107 GeForce RTX 3050 6GB Laptop GPU",
    ]
    assert left == ["9998 GB999 [Blackwell of tomorrow]"]


# -- provision catalog check -------------------------------------------------------------------------------------


def states(today: date = TODAY) -> dict[str, str]:
    return {said["name"]: said["state"] for said in operation.check(today).data["findings"]}


def with_nvidia(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the check see a catalogue in which the NVIDIA facts differ."""
    changed: Nvidia = dataclasses.replace(NVIDIA, **changes)
    monkeypatch.setattr(operation, "load_catalog", lambda: dataclasses.replace(load_catalog(), nvidia=changed))


def test_the_shipped_catalogue_breaks_no_plan() -> None:
    report = operation.check(TODAY)
    assert report.exit_code == 0
    assert "bad" not in states().values()


@pytest.mark.parametrize(
    ("today", "state"), [(date(2026, 9, 1), None), (date(2026, 11, 22), "limited"), (date(2027, 6, 1), "limited")]
)
def test_an_end_is_told_half_a_year_before_and_ever_after(today: date, state: str | None) -> None:
    assert states(today).get("driver 595") == state


def test_the_end_of_a_branch_is_the_last_day_of_its_month() -> None:
    facts = {said["name"]: said["fact"] for said in operation.check(date(2027, 3, 1)).data["findings"]}
    assert facts["driver 595"] == "a production branch that ends 2027-03, in 30 days"
    facts = {said["name"]: said["fact"] for said in operation.check(date(2027, 4, 1)).data["findings"]}
    assert facts["driver 595"] == "a production branch that ended 2027-03"


def test_an_old_pci_ids_is_told() -> None:
    assert states()["pci.ids"] == "good"
    assert states(date(2027, 5, 1))["pci.ids"] == "limited"


def test_distributions_without_a_long_term_driver_are_told() -> None:
    assert {name for name, state in states().items() if name.startswith(("ubuntu", "debian"))} == {
        "ubuntu-20.04",
        "debian-13",
    }


def test_a_card_of_a_tier_that_nothing_knows_breaks_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {key: known for key, known in NVIDIA.products.items() if "4090" not in known.name}
    with_nvidia(monkeypatch, products=without)
    assert states()["RTX 4090"] == "bad"
    assert operation.check(TODAY).exit_code == 1


def test_a_card_of_a_tier_without_figures_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(known: Product) -> Product:
        return dataclasses.replace(known, bandwidth_gbs=None) if "4090" in known.name else known

    with_nvidia(monkeypatch, products={key: bare(known) for key, known in NVIDIA.products.items()})
    assert states()["RTX 4090"] == "limited"
    assert operation.check(TODAY).exit_code == 0


def test_an_architecture_that_no_torch_serves_breaks_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load_catalog()
    torch = tuple(build for build in catalog.torch if build.backend != "cu126")
    monkeypatch.setattr(operation, "load_catalog", lambda: dataclasses.replace(catalog, torch=torch))
    assert {name for name, state in states().items() if state == "bad"} == {
        "Maxwell 5.0", "Maxwell 5.2", "Pascal 6.0", "Pascal 6.1", "Volta 7.0",
    }  # fmt: skip


def test_a_distribution_for_which_nobody_has_a_driver_breaks_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    with_nvidia(monkeypatch, branches=tuple(one for one in NVIDIA.branches if one.number != 535))
    assert states()["ubuntu-20.04"] == "bad"


def test_a_build_without_a_lock_breaks_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load_catalog()
    cu140 = dataclasses.replace(catalog.torch[1], backend="cu140")
    monkeypatch.setattr(operation, "load_catalog", lambda: dataclasses.replace(catalog, torch=(*catalog.torch, cu140)))
    assert states()["torch cu140"] == "bad"


def test_an_unsound_file_is_all_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoiled(tmp_path, "drivers.yml", "status: production", "status: produktion")
    monkeypatch.setattr(operation, "unsound", lambda: unsound(tmp_path))
    report = operation.check(TODAY)
    assert [said["state"] for said in report.data["findings"]] == ["bad"]
    assert report.exit_code == 1


def test_the_command_answers_as_text_and_as_json() -> None:
    text = CliRunner().invoke(cli, ["catalog", "check"])
    assert text.exit_code == 0
    assert "driver 535" in text.output
    told = CliRunner().invoke(cli, ["catalog", "check", "--output", "json"])
    document = json.loads(told.stdout)
    assert (document["verb"], document["exit_code"]) == ("catalog check", 0)
    assert {"name", "state", "fact", "remedy"} == set(document["data"]["findings"][0])
