"""A box with an assumed GPU, the whole NVIDIA stack from stand-in archives: foretold, applied, proved where it can be.

What needs the card itself is skipped by name, and the box is then unproved: never counted as passed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from provision.solver import GPU_ROLES
from tests.integration.conftest import Target, changed_tasks, provision
from tests.integration.driver_host import GpuBox
from tests.integration.rounds import Control, name_of, prove_broken, rounds
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_ubuntu import VERSIONS

pytestmark = pytest.mark.lab

LASTING = ("nvidia-persistenced.service", "docker.service", "containerd.service", "nvidia-cdi-refresh.path")


@pytest.fixture(scope="module")
def gpu_box(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuBox]:
    """A box whose GPU is assumed, with the whole NVIDIA stack from stand-in archives: foretold and applied."""
    folder = tmp_path_factory.mktemp("gpu-box")
    with Archives(folder / "archives") as archives:
        yield GpuBox.bare_to_applied(new_target("gpu", "ubuntu-22.04-standin"), archives, folder / "tier.yml")


def test_check_mode_foretold_what_then_changed(gpu_box: GpuBox) -> None:
    assert gpu_box.foretold.code == 0, gpu_box.foretold.out[-4000:]
    assert changed_tasks(gpu_box.foretold, gpu_box.name) == changed_tasks(gpu_box.applied, gpu_box.name)


def test_apply_brings_the_stack_and_says_what_it_cannot_prove(gpu_box: GpuBox) -> None:
    host = gpu_box.applied.host(gpu_box.name)
    assert gpu_box.applied.code == 4, gpu_box.applied.out[-4000:]
    assert host["state"] == "unproved"
    assert {check["state"] for check in host["checks"]} == {"passed", "skipped"}
    assert {role for role, _ in gpu_box.unproved} == set(GPU_ROLES) - {"cuda_repository"}
    assert {check["role"] for check in host["checks"] if check["state"] == "passed"} == {*GPU_ROLES, "docker"}


def test_the_driver_comes_from_one_archive_and_nothing_of_it_from_the_other(gpu_box: GpuBox) -> None:
    old, _ = VERSIONS["580"]
    assert gpu_box.host.driver() == {old}
    versions = {version for name, version in gpu_box.host.packages().items() if name.startswith("libnvidia-compute")}
    assert versions == {f"{old}-0ubuntu0.22.04.1"}
    # The CUDA repository has a newer driver, and a metapackage that would bring it.
    simulated = gpu_box.host.sh("apt-get --simulate --quiet install cuda 2>&1", check=False)
    assert "Inst cuda-drivers" not in simulated


def test_docker_knows_the_runtime_and_one_role_wrote_its_configuration(gpu_box: GpuBox) -> None:
    options = json.loads(gpu_box.host.sh("cat /etc/docker/daemon.json"))
    assert options["runtimes"]["nvidia"]["path"].endswith("nvidia-container-runtime")
    assert options["features"]["cdi"] is True
    assert "nvidia" in gpu_box.host.sh("docker info --format '{{json .Runtimes}}'")


def test_a_second_apply_changes_and_restarts_nothing(gpu_box: GpuBox) -> None:
    shown = f"systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic {' '.join(LASTING)}"
    gpu_box.host.sh("systemctl start nvidia-persistenced")
    before = gpu_box.host.sh(shown)
    again = gpu_box.apply("--no-verify")
    assert again.code == 0, again.out[-4000:]
    assert changed_tasks(again, gpu_box.name) == set()
    assert gpu_box.host.sh(shown) == before


def test_the_plan_says_what_and_why(gpu_box: GpuBox) -> None:
    target = gpu_box.host.target
    words = ("plan", "--tier", gpu_box.tier, *target.options(), "--assume-gpu", "RTX 3080", "--output", "json")
    plan = provision(*words, home=target.home).host(gpu_box.name)["plan"]
    assert plan["driver"]["branch"] == "580"
    assert plan["driver"]["prebuilt"] is True
    assert [card["assumed"] for card in plan["cards"]] == [True]
    assert plan["cuda"] == ["13.0"]


@pytest.mark.parametrize("together", rounds(GPU_ROLES), ids=name_of)
def test_what_is_broken_on_a_gpu_box_is_found(gpu_box: GpuBox, together: list[Control]) -> None:
    prove_broken(gpu_box.host.target, together, lambda roles: gpu_box.verify(*roles), gpu_box.unproved)


def test_what_was_mended_on_a_gpu_box_is_as_declared_again(gpu_box: GpuBox) -> None:
    answer = gpu_box.verify(*GPU_ROLES)
    states = {check["state"] for check in answer.host(gpu_box.name)["checks"]}
    assert states == {"passed", "skipped"}
