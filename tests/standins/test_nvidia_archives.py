"""The stand-in archives are good enough for the real apt: what a host would be given, and what it would be refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.standins.apt_repository import Fault
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_ubuntu import KERNEL, NEXT_KERNEL, VERSIONS

OLD, NEW = VERSIONS["580"]


@dataclass(frozen=True)
class Apt:
    """apt in a folder of its own: it has no packages installed but what the test says, and no other sources."""

    root: Path
    archives: Archives

    def run(self, *words: str) -> tuple[int, str]:
        status = self.root / "status"
        places = {"Dir": self.root, "Dir::State::status": status, "Dir::Etc": self.root / "etc"}
        options = [f"--option={name}={value}" for name, value in places.items()]
        options += ["--option=APT::Architecture=amd64", "--option=APT::Sandbox::User=", "--option=Acquire::Retries=0"]
        options += ["--option=Acquire::Check-Valid-Until=true", "--option=Acquire::Check-Date=true"]
        done = subprocess.run(
            ["apt-get", *options, *words], env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def sources(self, text: str) -> None:
        (self.root / "etc/sources.list.d/archive.sources").write_text(text)

    def would_install(self, *names: str) -> dict[str, str]:
        """Names and versions that an installation would bring."""
        code, out = self.run("install", "--simulate", "--no-install-recommends", *names)
        assert code == 0, out
        return dict(re.findall(r"^Inst (\S+) \((\S+)", out, re.MULTILINE))


def stanza(archives: Archives, path: str, owner: str) -> str:
    key = "".join(f" {line or '.'}\n" for line in archives.keys[owner].public.splitlines())
    return f"Types: deb\nURIs: {archives.server.url_for('127.0.0.1')}/{path}\nSuites: /\nSigned-By:\n{key}"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archives]:
    with Archives(tmp_path_factory.mktemp("web")) as archives:
        yield archives


@pytest.fixture
def apt(archives: Archives, tmp_path: Path) -> Apt:
    root = tmp_path / "apt"
    for folder in (
        "etc/sources.list.d",
        "etc/preferences.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
    ):
        (root / folder).mkdir(parents=True)
    # What every host has, as far as the stand-ins depend on it.
    names = ("libc6", "kmod", "dkms", "libseccomp2")
    (root / "status").write_text("".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 99\nDescription: x\n\n"
        for name in names
    ))  # fmt: skip
    apt = Apt(root, archives)
    apt.sources(archives.ubuntu_source("127.0.0.1"))
    return apt


def test_ubuntu_gives_prebuilt_modules_of_the_kernel_and_one_branch(apt: Apt) -> None:
    assert apt.run("update")[0] == 0
    headless = "nvidia-headless-no-dkms-580-server-open"
    brought = apt.would_install(headless, "linux-modules-nvidia-580-server-open-generic")
    assert brought[f"linux-modules-nvidia-580-server-open-{KERNEL.release}"] == KERNEL.version
    assert brought[f"linux-image-{KERNEL.release}"] == KERNEL.version
    assert brought["libnvidia-compute-580-server"] == f"{OLD}-0ubuntu0.22.04.1"
    assert not [name for name in brought if "dkms-580" in name and "no-dkms" not in name]
    assert apt.run("install", "--simulate", headless, "libnvidia-compute-535-server")[0] != 0


@pytest.mark.parametrize("toolkit", ["12-6", "12-9", "13-0", "13-1"])
def test_a_toolkit_brings_no_driver_and_the_bare_metapackage_does(apt: Apt, archives: Archives, toolkit: str) -> None:
    apt.sources(stanza(archives, "cuda/repos/ubuntu2204/x86_64/", "cuda"))
    assert apt.run("update")[0] == 0
    drivers = re.compile("nvidia-|libnvidia-|cuda-drivers")
    assert not [name for name in apt.would_install(f"cuda-toolkit-{toolkit}") if drivers.match(name)]
    assert "cuda-drivers" in apt.would_install("cuda")


def test_cuda_offers_branches_with_and_without_a_number_in_their_names(apt: Apt, archives: Archives) -> None:
    apt.sources(stanza(archives, "cuda/repos/ubuntu2204/x86_64/", "cuda"))
    assert apt.run("update")[0] == 0
    assert apt.would_install("nvidia-open-580")["nvidia-dkms-580-open"] == f"{NEW}-1ubuntu1"
    assert apt.would_install("nvidia-open")["nvidia-dkms-open"].startswith("595.")
    apt.sources(stanza(archives, "cuda/repos/debian12/x86_64/", "cuda"))
    assert apt.run("update")[0] == 0
    assert "nvidia-kernel-open-dkms" in apt.would_install("nvidia-open-580")
    assert "nvidia-kernel-dkms" not in apt.would_install("nvidia-driver-cuda", "nvidia-kernel-open-dkms")


def test_the_container_toolkit_is_of_one_version(apt: Apt, archives: Archives) -> None:
    apt.sources(stanza(archives, "libnvidia-container/stable/deb/amd64/", "toolkit"))
    assert apt.run("update")[0] == 0
    assert set(apt.would_install("nvidia-container-toolkit").values()) == {"1.19.1-1"}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda a: a.ubuntu.publish(signer=a.keys["cuda"]), "NO_PUBKEY"),
        (lambda a: a.ubuntu.publish(age_days=10, valid_days=7), "is expired"),
        (lambda a: a.ubuntu.go_stale(), "File has unexpected size"),
        (lambda a: a.server.misbehave("*/InRelease", Fault(status=500)), "500  Internal Server Error"),
        (lambda a: a.server.misbehave("*/Packages*", Fault(cut_after=100)), "Failed to fetch"),
    ],
    ids=["wrong key", "expired", "stale index", "error 500", "truncated"],
)
def test_apt_refuses_what_it_is_told_to_serve(apt: Apt, archives: Archives, harm: object, said: str) -> None:
    assert callable(harm)
    harm(archives)
    _, out = apt.run("update")
    assert said in out
    archives.ubuntu.publish()
    archives.server.behave()
    code, out = apt.run("update")
    assert (code, "W:" in out) == (0, False), out


def test_a_newer_version_brings_the_newer_kernel_and_its_modules(apt: Apt, archives: Archives) -> None:
    archives.renew()
    assert apt.run("update")[0] == 0
    modules = "linux-modules-nvidia-580-server-open-generic"
    brought = apt.would_install(modules)
    assert brought[f"linux-modules-nvidia-580-server-open-{NEXT_KERNEL.release}"] == NEXT_KERNEL.version
    assert brought["nvidia-kernel-common-580-server"] == f"{NEW}-0ubuntu0.22.04.1"
    held = apt.would_install(
        f"{modules}={KERNEL.version}", f"nvidia-kernel-common-580-server={OLD}-0ubuntu0.22.04.1",
        f"nvidia-firmware-580-server-{OLD}={OLD}-0ubuntu0.22.04.1",
        f"linux-modules-nvidia-580-server-open-{KERNEL.release}={KERNEL.version}",
    )  # fmt: skip
    assert held[modules] == KERNEL.version
    apt.sources(stanza(archives, "libnvidia-container/stable/deb/amd64/", "toolkit"))
    assert apt.run("update")[0] == 0
    assert set(apt.would_install("nvidia-container-toolkit").values()) == {"1.20.0-1"}
