"""The driver from stand-in archives: installed, locked, moved, taken back, on one target.

The archives hold NVIDIA's and Ubuntu's package names and version relations and no code; see tests/standins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import Outcome, Target
from tests.integration.driver_host import DriverHost
from tests.standins.apt_repository import Package
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_ubuntu import KERNEL, NEXT_KERNEL, VERSIONS, Driver

pytestmark = pytest.mark.lab

OLD, NEW = VERSIONS["580"]
BROKEN = "580.999.01"
# Ubuntu's own choice of what may be upgraded while nobody looks.
UNATTENDED = """\
export DEBIAN_FRONTEND=noninteractive
apt-get -qy install --no-install-recommends unattended-upgrades >/dev/null
cat > /etc/apt/apt.conf.d/50unattended-upgrades <<'END'
Unattended-Upgrade::Allowed-Origins { "Ubuntu:jammy"; };
END
"""


@pytest.fixture(scope="module")
def host(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverHost]:
    with Archives(tmp_path_factory.mktemp("archives")) as archives:
        archives.ubuntu.add(Package("canary", "1"))
        archives.ubuntu.publish()
        host = DriverHost(new_target("driver", "ubuntu-22.04-standin"), archives)
        host.without_debian()
        host.prepare()
        yield host


def closure(version: str, modules: str, *kernels: str) -> dict[str, str]:
    """What Ubuntu's open driver of this version is made of, by package, its kernel beside it."""
    driver = Driver(version)
    parts = ["nvidia-headless-no-dkms", "nvidia-kernel-source"]
    names = [driver.part(part) + "-open" for part in parts]
    parts = ["nvidia-kernel-common", "nvidia-compute-utils", "nvidia-utils"]
    parts += [f"libnvidia-{name}" for name in ("cfg1", "compute", "decode", "encode", "extra")]
    names += [driver.part(part) for part in parts] + [f"nvidia-firmware-{driver.branch}-{version}"]
    found = dict.fromkeys(names, driver.version)
    metapackage = f"linux-modules-nvidia-{driver.branch}-open"
    return {**found, **dict.fromkeys([f"{metapackage}-{kernel}" for kernel in ("generic", *kernels)], modules)}


def nvidia(packages: dict[str, str]) -> dict[str, str]:
    return {name: version for name, version in packages.items() if "nvidia" in name}


@pytest.fixture(scope="module")
def foretold(host: DriverHost) -> Outcome:
    """Check mode on the bare host."""
    done = host.play("--check")
    assert nvidia(host.packages()) == {}
    return done


@pytest.fixture(scope="module")
def installed(host: DriverHost, foretold: Outcome) -> Outcome:
    done = host.play()
    assert done.code == 0, done.output
    return done


@pytest.fixture(scope="module")
def first(host: DriverHost, installed: Outcome) -> dict[str, str]:
    """The packages of the first driver."""
    return host.packages()


@pytest.fixture(scope="module")
def renewed(host: DriverHost, first: dict[str, str]) -> None:
    """Once it is installed, a newer driver and a newer kernel are there."""
    host.sh("apt-get -qy install canary >/dev/null")
    host.archives.ubuntu.add(Package("canary", "2"))
    host.archives.renew()
    host.sh("apt-get -q update")


@pytest.fixture(scope="module")
def moved(host: DriverHost, renewed: None) -> dict[str, str]:
    """The packages after the whole closure was told to move."""
    done = host.play(nvidia_driver_upgrade=True)
    assert done.code == 0, done.output
    return host.packages()


def test_check_mode_foretells_what_a_bare_host_then_becomes(
    foretold: Outcome, installed: Outcome, first: dict[str, str]
) -> None:
    assert foretold.code == 0, foretold.output
    assert installed.changed == foretold.changed != []
    assert nvidia(first) == closure(OLD, KERNEL.version, KERNEL.release)


@pytest.mark.usefixtures("installed")
def test_a_second_run_changes_and_restarts_nothing(host: DriverHost) -> None:
    host.sh("systemctl start nvidia-persistenced")
    daemon = "systemctl show --property MainPID,ActiveEnterTimestampMonotonic nvidia-persistenced"
    before = host.sh(daemon)
    again = host.play()
    assert (again.code, again.changed) == (0, []), again.output
    assert host.sh(daemon) == before


@pytest.mark.usefixtures("renewed")
def test_nothing_moves_what_is_locked(host: DriverHost) -> None:
    """A newer driver and a newer kernel are there: neither apt's own upgrade nor the unattended one takes a part."""
    before = host.packages()
    assert f"{NEW}-0ubuntu0.22.04.1" in host.sh("apt-cache madison libnvidia-compute-580-server")
    simulated = host.sh("apt-get --simulate --quiet dist-upgrade")
    moved = [line.split()[1] for line in simulated.splitlines() if line.startswith(("Inst ", "Remv "))]
    assert "canary" in moved
    assert [name for name in moved if name in before] == []
    assert [name for name in moved if name.startswith("linux-")] == []
    with host.debian():
        host.sh(UNATTENDED)
    host.sh("unattended-upgrade")
    assert host.sh("dpkg-query -W -f '${Version}' canary") == "2"
    assert host.packages() == before
    again = host.play()
    assert (again.code, again.changed) == (0, []), again.output
    assert host.packages() == before


@pytest.mark.usefixtures("renewed")
def test_a_pinned_version_is_held_though_the_archive_has_a_newer_one(host: DriverHost) -> None:
    before = host.packages()
    pinned = host.play(nvidia_driver_version=OLD)
    assert pinned.code == 0, pinned.output
    assert host.packages() == before
    assert set(nvidia(before)) <= set(host.sh("apt-mark showhold").split())
    assert host.play(nvidia_driver_version=OLD).came_to == (0, [])


def test_the_whole_closure_moves_when_it_is_told_to(host: DriverHost, moved: dict[str, str]) -> None:
    new = closure(NEW, NEXT_KERNEL.version, NEXT_KERNEL.release)
    left = {name for name in nvidia(moved) if KERNEL.release in name}
    assert {name: moved[name] for name in nvidia(moved) if name not in left} == new
    assert host.driver() == {NEW}
    assert moved["linux-image-generic"] == NEXT_KERNEL.meta_version


@pytest.mark.usefixtures("moved")
def test_a_branch_back_and_forth_leaves_nothing_of_the_other(host: DriverHost) -> None:
    before = nvidia(host.packages())
    older = VERSIONS["535"][1]
    down = host.play(nvidia_driver_branch="535")
    assert down.code == 0, down.output
    assert nvidia(host.packages()) == closure(older, NEXT_KERNEL.version, NEXT_KERNEL.release)
    assert host.driver() == {older}
    up = host.play()
    assert up.code == 0, up.output
    assert nvidia(host.packages()) == {name: version for name, version in before.items() if KERNEL.release not in name}


@pytest.mark.usefixtures("moved")
def test_another_archive_takes_over_whole_and_gives_back(host: DriverHost) -> None:
    """DKMS has no headers to build for here: what is shown is which packages come and go, in one transaction each."""
    before, roles = nvidia(host.packages()), ("cuda_repository", "nvidia_driver")
    with host.debian():  # has DKMS
        over = host.play(roles=roles, nvidia_driver_source="cuda", cuda_repository_driver=True)
    assert over.code == 0, over.output
    after = nvidia(host.packages())
    pinning = after.pop("nvidia-driver-pinning-580")
    assert (pinning, set(after.values())) == ("580-1", {f"{NEW}-1ubuntu1"})
    assert [name for name in after if "-server" in name] == []
    back = host.play(roles=roles)
    assert back.code == 0, back.output
    assert nvidia(host.packages()) == before


@pytest.mark.usefixtures("moved")
def test_an_older_version_that_has_no_modules_for_the_kernel_is_refused(host: DriverHost) -> None:
    before = host.packages()
    refused = host.play(nvidia_driver_version=OLD)
    assert refused.code == 2
    assert f"kernel {NEXT_KERNEL.release} would boot without linux-modules-nvidia" in refused.output
    assert host.packages() == before


@pytest.mark.usefixtures("moved")
def test_a_package_changed_behind_its_back_comes_back_from_what_was_kept(host: DriverHost) -> None:
    before = host.packages()
    host.sh("apt-get -qy remove --allow-change-held-packages nvidia-utils-580-server")
    host.archives.ubuntu.withdraw("nvidia-utils-580-server_*")
    host.archives.ubuntu.publish()
    mended = host.play()
    assert mended.code == 0, mended.output
    assert host.packages() == before


@pytest.mark.usefixtures("moved")
def test_an_installation_that_fails_is_taken_back(host: DriverHost) -> None:
    """The newer version's maintainer script fails; by now the archive has no longer what is installed."""
    before, held = host.packages(), host.sh("apt-mark showhold")
    host.archives.ubuntu.withdraw(f"*{NEW}*")
    for package in Driver(BROKEN).packages():
        broken = package.name == "nvidia-kernel-common-580-server"
        scripts = {"postinst": "#!/bin/sh\necho 'stand-in: told to fail' >&2\nexit 1\n"} if broken else {}
        host.archives.ubuntu.add(Package(**{**vars(package), "scripts": scripts}))
    host.archives.ubuntu.add_all(Driver(BROKEN).modules(NEXT_KERNEL, "+2"))
    host.archives.ubuntu.publish()
    host.sh("apt-get -q update")
    failed = host.play(nvidia_driver_upgrade=True)
    assert failed.code == 2
    assert "The host is back at " in failed.output
    assert host.packages() == before
    assert host.sh("apt-mark showhold") == held
    assert host.sh("dpkg --audit") == ""
    again = host.play()
    assert (again.code, again.changed) == (0, []), again.output
