"""The catalogue's files: every fault told at once; the table from pci.ids; what `provision catalog check` says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from provision import content
from provision.catalog import load_catalog
from provision.catalog.nvidia import Nvidia, Product
from provision.catalog.soundness import unsound
from provision.cli import cli
from provision.operations import catalog as operation

NVIDIA = load_catalog().nvidia
TODAY = date(2026, 11, 22)


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
    return content.load(Path(__file__).resolve().parents[2] / "tools" / "catalog_gpus.py")


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
