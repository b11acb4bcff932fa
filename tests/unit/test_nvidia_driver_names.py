"""Which packages are the driver's, and the locks that are written for them."""

from __future__ import annotations

import re

import pytest

from tests.unit.nvidia_driver_parts import names


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("580.95.05-0ubuntu0.22.04.1", "580.95.05"),
        ("535.261.03-1~deb12u1", "535.261.03"),
        ("1:595.71.05-1ubuntu1", "595.71.05"),
        ("5.15.0-91.101+1", "5.15.0"),
        ("610.43", "610.43"),
    ],
)
def test_nvidias_part_of_a_version(version: str, upstream: str) -> None:
    assert names.upstream(version) == upstream


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-headless-no-dkms-580-server-open", "libnvidia-compute-580-server", "libcuda1", "libnvcuvid1", "dkms",
        "linux-modules-nvidia-580-server-open-5.15.0-91-generic", "linux-objects-nvidia-580-server-5.15.0-91-generic",
        "linux-signatures-nvidia-5.15.0-91-generic", "firmware-nvidia-gsp", "nvidia-persistenced", "cuda-drivers-580",
        "nvidia-fabricmanager-580", "nvidia-driver-pinning-595", "xserver-xorg-video-nvidia-580", "libegl-nvidia0",
        "libnvidia-ml1", "libnvidia-gl-580:i386", "nvidia-kernel-open-dkms", "libgl1-nvidia-glvnd-glx",
    ],
)  # fmt: skip
def test_what_moves_with_the_driver(name: str) -> None:
    assert names.in_family(name)


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container1",
        "libnvidia-container-tools", "nvidia-cuda-toolkit",
        "nvidia-cuda-dev", "nvidia-docker2", "cuda-toolkit-13-0", "libcudart12", "libcudnn9",
        "linux-image-generic", "nvidia-detect", "libnvidia-ml-dev", "dkms-test-dkms", "nvidia-profiler", "libnccl2",
        "linux-image-6.8.0-1010-nvidia", "cuda-compat-13-0",
    ],
)  # fmt: skip
def test_what_only_bears_the_name(name: str) -> None:
    assert not names.in_family(name)


def test_parts_that_carry_another_version_are_found_and_tools_with_their_own_are_not() -> None:
    assert names.mismatch("libnvidia-compute-580", "580.82.07-0ubuntu1", "580.95.05")
    assert not names.mismatch("libnvidia-compute-580", "580.95.05-0ubuntu1", "580.95.05")
    assert not names.mismatch("nvidia-persistenced", "535.171.04-1~deb12u1", "535.261.03")
    assert not names.mismatch("nvidia-kernel-common", "20220217+3~deb12u1", "535.261.03")


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("linux-image-5.15.0-91-generic", "5.15.0-91-generic"),
        ("linux-image-unsigned-5.15.0-91-generic", "5.15.0-91-generic"),
        ("linux-image-6.1.0-41-amd64", "6.1.0-41-amd64"),
        ("linux-image-6.1.0-41-amd64-dbg", None),
        ("linux-image-generic", None),
    ],
)
def test_a_kernels_release_from_its_package(name: str, release: str | None) -> None:
    assert names.release_of(name) == release


def test_a_kernels_flavour() -> None:
    assert names.flavour("5.15.0-91-generic") == "generic"
    assert names.flavour("6.1.0-41-cloud-amd64") == "cloud-amd64"
    assert names.flavour("5.15.0-91") == ""
    assert names.flavour("no release") == ""


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("linux-image-5.15.0-91-generic", True),
        ("linux-headers-5.15.0-91", True),
        ("linux-modules-extra-5.15.0-91-generic", True),
        ("linux-image-generic-hwe-22.04", True),
        ("linux-headers-amd64", True),
        ("linux-generic", True),
        ("linux-kbuild-6.1", True),
        ("linux-image-5.15.0-9-generic", False),
        ("linux-image-5.15.0-910-generic", False),
        ("linux-libc-dev", False),
        ("linux-firmware", False),
        ("linux-modules-nvidia-580-5.15.0-91-generic", False),  # the driver's own
    ],
)
def test_what_belongs_to_the_kernel_of_the_closure(name: str, part: bool) -> None:
    assert names.kernel_part(name, ["5.15.0-91-generic"]) is part


def test_a_closure_is_named_by_its_exact_content() -> None:
    one = names.closure_id("580.95.05", {"a": "1", "b": "2"})
    assert one == names.closure_id("580.95.05", {"b": "2", "a": "1"})
    assert one != names.closure_id("580.95.05", {"a": "1", "b": "3"})
    assert one.startswith("580.95.05-")


def test_preferences_have_one_record_for_all_packages_of_a_version() -> None:
    text = names.preferences({"b": "2-1", "a": "1:1-1", "c": "2-1"})
    records = [re.findall(r"^(?:Package|Pin|Pin-Priority): (.*)$", part, re.M) for part in text.split("\n\n")]
    assert records == [["a", "version 1:1-1", "1001"], ["b c", "version 2-1", "1001"]]


def test_the_upgrade_blacklist_matches_the_closure_and_nothing_beside_it() -> None:
    packages = {"libnvidia-ml1": "1", "libcuda1": "1", "linux-image-generic": "1", "linux-kbuild-6.1": "1", "a+b": "1"}
    entries = re.findall(r'^ {4}"(.*)";$', names.upgrade_blacklist(packages), re.MULTILINE)
    assert [name for name in packages if not any(re.match(entry, name) for entry in entries)] == []
    others = ("linux-image-generic-hwe-22.04", "libcuda1-dev", "linux-kbuild-6x1", "openssl", "aab")
    assert [name for name in others if any(re.match(entry, name) for entry in entries)] == []
