"""The facts about GPUs, drivers, CUDA and frameworks that plans rest on."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import yaml

from provision import content
from provision.catalog import FRAMEWORKS, load_catalog
from provision.catalog.nvidia_loader import load_nvidia, memory_in

NVIDIA = load_catalog().nvidia
LOCKS = content.roles_dir() / "python_ml" / "files" / "locks"


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


def test_the_role_knows_every_cuda_repository_that_is_planned() -> None:
    variables = yaml.safe_load((content.roles_dir() / "cuda_repository" / "vars" / "main.yml").read_text())
    codenames = {f"{known.id}-{known.version}": known.codename for known in load_catalog().distributions}
    planned = {origin.distribution for one in NVIDIA.branches for origin in one.origins if origin.source == "cuda"}
    planned |= {name for release in NVIDIA.cuda for name in release.distributions}
    assert {codenames[name] for name in planned} == set(variables["__cuda_repository_releases"])


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


def test_loading_is_quick() -> None:
    """Every plan pays for it: `plan --hardware` has half a second for everything."""
    seconds = []
    for _ in range(5):
        started = time.process_time()
        load_nvidia()
        seconds.append(time.process_time() - started)
    assert statistics.median(seconds) < 0.06
