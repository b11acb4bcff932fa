"""NVIDIA's CUDA repository from stand-ins: known by one key, repaired, refused; and toolkits from it, without a driver.

The roles are run by plain ansible-playbook, on one target: bare, then with the repository, then with toolkits from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import Outcome, Target
from tests.integration.driver_host import Ground
from tests.standins.apt_repository import Fault, Package, SigningKey
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_toolkits import Toolkit

pytestmark = pytest.mark.lab

SOURCE = "/etc/apt/sources.list.d/cuda-repository.sources"
FILES = f"{SOURCE} /etc/apt/keyrings/cuda-repository.asc /etc/apt/preferences.d/zz-cuda-repository.pref"
PUBLIC = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2204/x86_64/"
PIN = "/etc/apt/preferences.d/cuda-repository-pin-600"
KNOW = "Let apt know NVIDIA's CUDA repository and nothing that rivals it"
HOLD, INSTALL = "Hold the toolkits' versions", "Install the declared toolkits and remove those declared no more"
CHOOSE, SHOW, REFRESH = (
    "Choose the default toolkit", "Show the default toolkit to logins", "Refresh the linker's cache"
)  # fmt: skip


# Why a repository is not trusted: which files are served wrongly and how, else a stranger signed it; what is said then.
UNTRUSTWORTHY: dict[str, tuple[str, Fault | None, str]] = {
    "a stranger's signature": ("", None, "is not signed"),
    "an error of the server": ("*Release*", Fault(status=500), "500"),
    "a file cut off": ("*Packages*", Fault(cut_after=100), "Packages"),
}


class CudaHost(Ground):
    """The roles of the CUDA repository and of the toolkits in it."""

    def repository(self, *words: str, **settings: Any) -> Outcome:
        return self.play_roles(["cuda_repository"], settings, *words)

    def cuda(self, *versions: str, words: tuple[str, ...] = (), **settings: Any) -> Outcome:
        return self.play_roles(["cuda"], {"cuda_versions": versions, **settings}, *words)

    def there(self) -> str:
        return self.sh(f"ls {FILES} 2>/dev/null || :")

    def update(self) -> str:
        """What apt complains about when it reads all lists."""
        return self.sh("LC_ALL=C apt-get -q update 2>&1 | grep '^[EW]:' || :")

    def toolkit(self) -> dict[str, str]:
        """Installed packages of NVIDIA's, by name."""
        form = "dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n' 'cuda-*' 'lib*' '*nvidia*'"
        rows = [line.split(" ") for line in self.sh(f"{form} 2>/dev/null || :").splitlines()]
        ours = ("cuda-", "libcu", "libnccl", "libnvidia", "nvidia")
        return {name: version for state, name, version in rows if state == "installed" and name.startswith(ours)}


@pytest.fixture(scope="module")
def ground(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CudaHost]:
    with Archives(tmp_path_factory.mktemp("archives")) as archives:
        yield CudaHost(new_target("cuda", "ubuntu-22.04-standin"), archives)


@dataclass(frozen=True)
class Tried:
    """A run that leaves nothing on the bare target, what is there of the repository afterwards, and what apt says."""

    outcome: Outcome
    left: str
    complaints: str


def on_bare(ground: CudaHost, *words: str, **settings: Any) -> Tried:
    outcome = ground.repository(*words, **settings)
    ground.archives.server.behave()
    ground.archives.cuda.publish()
    return Tried(outcome, ground.there(), ground.update())


@pytest.fixture(scope="module")
def another_fingerprint(ground: CudaHost) -> Tried:
    return on_bare(ground, cuda_repository_key_fingerprint="")


@pytest.fixture(scope="module")
def distrusted(ground: CudaHost, another_fingerprint: Tried) -> dict[str, Tried]:
    """What came of each repository that cannot be trusted."""
    found = {}
    for name, (pattern, fault, _) in UNTRUSTWORTHY.items():
        if fault:
            ground.archives.server.misbehave(pattern, fault)
        else:
            ground.archives.cuda.publish(signer=ground.archives.keys["ubuntu"])
        found[name] = on_bare(ground)
    return found


@pytest.fixture(scope="module")
def foretold(ground: CudaHost, distrusted: dict[str, Tried]) -> Tried:
    """Check mode on the bare target."""
    return on_bare(ground, "--check")


@pytest.fixture(scope="module")
def known(ground: CudaHost, foretold: Tried) -> Outcome:
    """The run by which apt knows the repository."""
    applied = ground.repository()
    assert applied.code == 0, applied.output
    return applied


@pytest.fixture(scope="module")
def foretold_toolkits(ground: CudaHost, known: Outcome) -> Outcome:
    return ground.cuda("12.9", "13.0", words=("--check",), cuda_cudnn=True, cuda_nccl=True)


@pytest.fixture(scope="module")
def toolkits(ground: CudaHost, foretold_toolkits: Outcome) -> Outcome:
    """The run that brings two toolkits, and the libraries beside the first."""
    applied = ground.cuda("12.9", "13.0", cuda_cudnn=True, cuda_nccl=True)
    assert applied.code == 0, applied.output
    return applied


@pytest.fixture(scope="module")
def both(ground: CudaHost, toolkits: Outcome) -> dict[str, str]:
    """The packages of two toolkits and their libraries, as that run left them."""
    return ground.toolkit()


@pytest.fixture(scope="module")
def moved(ground: CudaHost, both: dict[str, str]) -> Outcome:
    """The run that makes the other toolkit the default and declares no library."""
    return ground.cuda("13.0", "12.9")


def test_a_key_with_another_fingerprint_is_refused_and_nothing_is_written(
    ground: CudaHost, another_fingerprint: Tried
) -> None:
    outcome = another_fingerprint.outcome
    assert outcome.code == 2
    found = ground.archives.keys["cuda"].fingerprint
    assert f"has fingerprint {found}, expected EB693B3035CD5710E231E123A4B469963BF863CC" in outcome.output
    assert another_fingerprint.left == ""


@pytest.mark.parametrize("name", UNTRUSTWORTHY)
def test_a_repository_that_cannot_be_trusted_is_withdrawn(distrusted: dict[str, Tried], name: str) -> None:
    tried = distrusted[name]
    assert tried.outcome.code == 2
    assert "was refused and its source withdrawn" in tried.outcome.output
    assert UNTRUSTWORTHY[name][2] in tried.outcome.output
    assert tried.left == ""
    assert tried.complaints == ""


def test_check_mode_foretells_what_a_bare_host_then_becomes(ground: CudaHost, foretold: Tried, known: Outcome) -> None:
    assert foretold.left == ""
    assert known.changed == foretold.outcome.changed == [KNOW]
    assert ground.repository().came_to == (0, [])


@pytest.mark.usefixtures("known")
def test_a_working_source_survives_a_mirror_that_does_not_work(ground: CudaHost) -> None:
    before = ground.sh(f"cat {FILES}")
    outcome = ground.repository(cuda_repository_url="http://127.0.0.1:9/cuda")
    assert outcome.code == 2
    assert ground.sh(f"cat {FILES}") == before
    assert ground.update() == ""


@pytest.mark.usefixtures("known")
def test_what_an_older_set_up_left_is_removed_and_named(ground: CudaHost) -> None:
    retired, kept = SigningKey("retired"), SigningKey("kept")
    address = ground.sh(f"sed -n 's/^URIs: //p' {SOURCE}").strip()
    script = f"""
        set -e
        cat > /root/retired.asc <<'END'\n{retired.public}END
        cat > /root/kept.asc <<'END'\n{kept.public}END
        command -v gpg >/dev/null || {{ apt-get -qq update; apt-get -qy install gpg; }} >/dev/null
        cp /root/retired.asc /etc/apt/trusted.gpg.d/cuda.asc
        cat /root/kept.asc /root/retired.asc | gpg --dearmor > /etc/apt/trusted.gpg
        gpg --dearmor < /root/kept.asc > /root/kept.gpg
        echo 'deb {address} /' > /etc/apt/sources.list.d/somebody.list
        printf 'Types: deb\\nURIs: {address}\\nSuites: /\\n' > /etc/apt/sources.list.d/somebody.sources
        echo 'deb {PUBLIC} /' > /etc/apt/sources.list.d/nv.list
        printf 'Package: *\\nPin: release l=NVIDIA CUDA\\nPin-Priority: 600\\n' > {PIN}
    """
    ground.sh(script)
    assert "Conflicting values set for option Signed-By" in ground.update()
    overridden = {"__cuda_repository_retired_keys": [retired.fingerprint]}
    outcome = ground.repository("-v", **overridden)
    assert outcome.changed == [KNOW], outcome.output
    for path in ("trusted.gpg.d/cuda.asc", "trusted.gpg", "sources.list.d/somebody.list", "sources.list.d/nv.list",
                 "sources.list.d/somebody.sources", "preferences.d/cuda-repository-pin-600"):  # fmt: skip
        assert f'"/etc/apt/{path}"' in outcome.output
    assert ground.sh("cmp /etc/apt/trusted.gpg /root/kept.gpg; rm /etc/apt/trusted.gpg") == ""
    assert ground.update() == ""
    assert ground.repository(**overridden).came_to == (0, [])


@pytest.mark.usefixtures("known")
def test_nvidia_s_own_package_for_the_repository_goes(ground: CudaHost) -> None:
    ground.sh("apt-get -qy install cuda-keyring")
    assert ground.repository().changed == [KNOW, "Remove NVIDIA's own package for its repository"]
    assert ground.update() == ""
    assert ground.repository().came_to == (0, [])


@pytest.mark.usefixtures("known")
def test_a_source_file_of_several_archives_is_refused_by_name(ground: CudaHost) -> None:
    address = ground.sh(f"sed -n 's/^URIs: //p' {SOURCE}").strip()
    ground.sh(f"printf 'deb {address} /\\ndeb http://127.0.0.1/other ./\\n' > /etc/apt/sources.list.d/mixed.list")
    outcome = ground.repository()
    ground.sh("rm /etc/apt/sources.list.d/mixed.list")
    assert outcome.code == 2
    assert f"remove this line from it: deb {address} /" in outcome.output


@pytest.mark.usefixtures("known")
def test_no_driver_is_offered_unless_it_shall_come_from_here(ground: CudaHost) -> None:
    policy = "LC_ALL=C apt-cache policy cuda cuda-13-0 cuda-drivers nvidia-open cuda-toolkit-13-0 | grep Candidate:"
    none = ["(none)"] * 4
    assert [line.split()[1] for line in ground.sh(policy).splitlines()] == [*none, "13.0.2-1"]
    assert ground.repository(cuda_repository_driver=True).changed == [KNOW]
    offered = [line.split()[1] for line in ground.sh(policy).splitlines()]
    assert (offered[:2], offered[2].startswith("595."), offered[3].startswith("595.")) == (none[:2], True, True)
    assert ground.repository().changed == [KNOW]


def test_two_toolkits_side_by_side_and_no_driver(
    ground: CudaHost, foretold_toolkits: Outcome, toolkits: Outcome, both: dict[str, str]
) -> None:
    assert toolkits.changed == foretold_toolkits.changed
    assert toolkits.changed == ["Install the host's compiler", HOLD, INSTALL, CHOOSE, SHOW, REFRESH]
    assert ground.cuda("12.9", "13.0", cuda_cudnn=True, cuda_nccl=True).came_to == (0, [])
    found = ground.toolkit()
    assert (found["cuda-nvcc-12-9"], found["cuda-nvcc-13-0"]) == ("12.9.86-1", "13.0.88-1")
    assert (found["libnccl2"], found["libcudnn9-cuda-12"]) == ("2.28.3-1+cuda12.9", "9.14.0.64-1")
    assert [name for name in found if "nvidia" in name or name.startswith(("cuda-drivers", "libcuda1"))] == []
    assert "release 12.9," in ground.sh("sh -lc 'nvcc --version'")
    assert "release 13.0," in ground.sh("/usr/local/cuda-13.0/bin/nvcc --version")


def test_the_default_moves_without_touching_a_package(ground: CudaHost, both: dict[str, str], moved: Outcome) -> None:
    assert moved.changed == [HOLD, INSTALL, CHOOSE, REFRESH]
    assert set(both) - set(ground.toolkit()) == {
        "libnccl2", "libnccl-dev", "libcudnn9-cuda-12", "libcudnn9-dev-cuda-12", "libcudnn9-headers-cuda-12"
    }  # fmt: skip
    assert "release 13.0," in ground.sh("sh -lc 'nvcc --version'")


@pytest.mark.usefixtures("moved")
def test_newer_releases_leave_what_is_held(ground: CudaHost) -> None:
    before = ground.toolkit()
    ground.archives.cuda.add_all(Toolkit("13.0.3", "13.0.99", "580.95.05").packages())
    ground.archives.cuda.publish()
    ground.sh("apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -qy dist-upgrade")
    assert ground.toolkit() == before
    assert ground.cuda("13.0", "12.9").came_to == (0, [])


@pytest.mark.usefixtures("moved")
def test_a_toolkit_that_would_bring_a_driver_is_refused_by_name(ground: CudaHost) -> None:
    ground.archives.cuda.add(Package("cuda-minimal-build-13-5", "13.5.0-1", depends="cuda-nvcc-13-5, libnvidia-ml1"))
    ground.archives.cuda.add(Package("cuda-libraries-dev-13-5", "13.5.0-1"))
    ground.archives.cuda.add(Package("cuda-nvcc-13-5", "13.5.0-1"))
    ground.archives.ubuntu.add(Package("libnvidia-ml1", "1"))
    ground.archives.ubuntu.publish()
    ground.archives.cuda.publish()
    source = ground.archives.ubuntu_source(ground.address)
    ground.sh(f"cat > /etc/apt/sources.list.d/ubuntu.sources <<'END'\n{source}END\napt-get -q update")
    before = ground.toolkit()
    outcome = ground.cuda("13.5")
    ground.sh("rm /etc/apt/sources.list.d/ubuntu.sources; apt-get -q update")
    assert outcome.code == 2
    assert "would bring a driver: cuda-minimal-build-13-5 asks for libnvidia-ml1" in outcome.output
    assert ground.toolkit() == before


@pytest.mark.usefixtures("known")
def test_an_unknown_release_is_refused_by_name(ground: CudaHost) -> None:
    outcome = ground.cuda("11.1")
    assert outcome.code == 2
    assert "apt offers no cuda-minimal-build-11-1" in outcome.output


@pytest.mark.usefixtures("moved")
def test_a_release_declared_no_more_goes_with_what_only_it_needed(ground: CudaHost) -> None:
    foretold = ground.cuda("13.0", words=("--check",))
    outcome = ground.cuda("13.0")
    assert outcome.changed == foretold.changed == [HOLD, INSTALL]
    found = ground.toolkit()
    assert [name for name in found if name.endswith("-12-9") or "-12-config" in name] == []
    assert "cuda-toolkit-config-common" in found
    assert ground.cuda().changed == [HOLD, INSTALL, SHOW]
    assert [name for name in ground.toolkit() if name.startswith("cuda-")] == []
    assert ground.cuda().came_to == (0, [])
