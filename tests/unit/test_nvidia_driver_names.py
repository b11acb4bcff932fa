"""Parts of the driver and of its kernel by name, and what unattended upgrades leave alone."""

from __future__ import annotations

import re

import pytest

from tests.unit.nvidia_driver_parts import names


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


def test_the_upgrade_blacklist_matches_the_closure_and_nothing_beside_it() -> None:
    packages = {"libnvidia-ml1": "1", "libcuda1": "1", "linux-image-generic": "1", "linux-kbuild-6.1": "1", "a+b": "1"}
    entries = re.findall(r'^ {4}"(.*)";$', names.upgrade_blacklist(packages), re.MULTILINE)
    assert [name for name in packages if not any(re.match(entry, name) for entry in entries)] == []
    others = ("linux-image-generic-hwe-22.04", "libcuda1-dev", "linux-kbuild-6x1", "openssl", "aab")
    assert [name for name in others if any(re.match(entry, name) for entry in entries)] == []
