"""What every role says of packages: which are the driver's, upstream's part of a version, the lock of a set."""

from __future__ import annotations

import re

import pytest

from provision.content import load, playbooks_dir

names = load(playbooks_dir() / "module_utils" / "provision_names.py")


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("580.95.05-0ubuntu0.22.04.1", "580.95.05"),
        ("535.261.03-1~deb12u1", "535.261.03"),
        ("1:595.71.05-1ubuntu1", "595.71.05"),
        ("5.15.0-91.101+1", "5.15.0"),
        ("610.43", "610.43"),
        ("1:1.20.0~rc.1-1", "1.20.0~rc.1"),
        ("", ""),
    ],
)
def test_upstreams_part_of_a_version(version: str, upstream: str) -> None:
    assert names.upstream(version) == upstream


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-headless-no-dkms-580-server-open", "libnvidia-compute-580-server", "libcuda1", "libnvcuvid1", "dkms",
        "linux-modules-nvidia-580-server-open-5.15.0-91-generic", "linux-objects-nvidia-580-server-5.15.0-91-generic",
        "linux-signatures-nvidia-5.15.0-91-generic", "firmware-nvidia-gsp", "nvidia-persistenced", "cuda-drivers-580",
        "nvidia-fabricmanager-580", "nvidia-driver-pinning-595", "xserver-xorg-video-nvidia-580", "libegl-nvidia0",
        "libnvidia-ml1", "libnvidia-gl-580:i386", "nvidia-kernel-open-dkms", "libgl1-nvidia-glvnd-glx",
        "cuda-drivers", "nvidia-open", "nvidia-driver-580-open", "libcudadebugger1",
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
        "linux-image-6.8.0-1010-nvidia", "cuda-compat-13-0", "cuda-driver-dev-13-0", "libcudnn9-cuda-13", "gcc",
    ],
)  # fmt: skip
def test_what_only_bears_the_name(name: str) -> None:
    assert not names.in_family(name)


def test_preferences_have_one_record_for_all_packages_of_a_version() -> None:
    text = names.preferences({"b": "2-1", "a": "1:1-1", "c": "2-1"})
    records = [re.findall(r"^(?:Package|Pin|Pin-Priority): (.*)$", part, re.M) for part in text.split("\n\n")]
    assert records == [["a", "version 1:1-1", "1001"], ["b c", "version 2-1", "1001"]]
    assert names.preferences({}) == ""
