"""apt in the bad states that hosts are found in: mended or refused with one message, never bypassed.

What is refused leaves the host exactly as it was. On stand-in archives; the tests share one target and each puts back
what it broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import Outcome, Target
from tests.integration.driver_host import STATE, UBUNTU_SOURCE, DriverHost
from tests.standins.apt_repository import Fault, Package
from tests.standins.nvidia_archives import Archives
from tests.standins.nvidia_ubuntu import VERSIONS

pytestmark = pytest.mark.lab

OLD, NEW = VERSIONS["580"]
# Packages, holds and all that apt is told: what a refused run may not touch. Lists and logs may be newer.
EVERYTHING = """\
dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\\n'
find /etc/apt /etc/modprobe.d /usr/share/keyrings -type f -exec sha256sum {} +
"""
HOLD_LOCK = """\
cat > /run/hold.py <<'END'
import fcntl, time
streams = [open("/var/lib/" + name, "w") for name in ("dpkg/lock-frontend", "dpkg/lock", "apt/lists/lock")]
for stream in streams:
    fcntl.lockf(stream, fcntl.LOCK_EX)
time.sleep(12)
END
systemd-run --quiet --collect --unit holder python3 /run/hold.py
"""


@pytest.fixture(scope="module")
def host(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverHost]:
    """A host whose driver is locked."""
    with Archives(tmp_path_factory.mktemp("archives")) as archives:
        host = DriverHost(new_target("hostile", "ubuntu-22.04-standin"), archives)
        host.without_debian()
        host.prepare()
        installed = host.play()
        assert installed.code == 0, installed.output
        yield host


@pytest.fixture
def unharmed(host: DriverHost) -> Iterator[None]:
    """Whatever the test does to the archives, the host is afterwards exactly what it was."""
    before = host.sh(EVERYTHING)
    yield
    host.archives.server.behave()
    host.archives.ubuntu.publish()
    host.sh("apt-get -q update")
    assert host.sh(EVERYTHING) == before


def refused(outcome: Outcome, *said: str) -> None:
    assert outcome.code == 2, outcome.output
    for words in said:
        assert words in outcome.output


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("another key", "signatures couldn't be verified"),
        ("stale index", "unexpected size"),
        ("error 500", "Internal Server Error"),
    ],
)
def test_an_index_that_cannot_be_believed_is_told_and_not_used(host: DriverHost, how: str, told: str) -> None:
    """The run may go on with what was once verified. A third party's repository: see test_cuda_repository.py."""
    archives = host.archives
    archives.ubuntu.add(Package("standin-canary", "1"))
    archives.ubuntu.publish(signer=archives.keys["toolkit"] if how == "another key" else None)
    if how == "stale index":
        archives.ubuntu.go_stale()
    if how == "error 500":
        archives.server.misbehave("*/InRelease", Fault(status=500))
    host.sh("touch --date '1 minute' /etc/apt/sources.list.d")  # the lists are older than their sources
    outcome = host.play(nvidia_driver_upgrade=True)
    host.sh("touch /etc/apt/sources.list.d")
    archives.ubuntu.withdraw("standin-canary_*")
    assert told in outcome.output
    assert outcome.changed == []
    assert host.sh("apt-cache pkgnames standin-canary") == ""


@pytest.mark.usefixtures("unharmed")
def test_two_keys_for_one_archive_are_refused_by_naming_the_files(host: DriverHost) -> None:
    url = host.archives.server.url_for(host.address)
    line = f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {url}/ubuntu jammy restricted"
    host.sh(f"echo '{line}' > /etc/apt/sources.list.d/twice.list")
    outcome = host.play()
    host.sh("rm /etc/apt/sources.list.d/twice.list")
    refused(outcome, "Conflicting values set for option Signed-By", UBUNTU_SOURCE, "sources.list.d/twice.list")


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/usr/bin/nvidia-uninstall", "sudo nvidia-uninstall --silent"),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14", "no package owns these driver libraries"),
    ],
)
def test_what_a_runfile_left_is_named_and_not_built_upon(host: DriverHost, path: str, told: str) -> None:
    host.sh(f"touch {path}")
    outcome = host.play()
    host.sh(f"rm {path}")
    refused(outcome, path, told)


def test_a_lock_that_is_soon_released_is_waited_for(host: DriverHost) -> None:
    host.sh("apt-mark unhold nvidia-utils-580-server && apt-get -qy remove nvidia-utils-580-server")
    host.sh(HOLD_LOCK)
    outcome = host.play()
    assert outcome.code == 0, outcome.output
    assert host.driver() == {OLD}
    assert "nvidia-utils-580-server" in host.packages()


def test_a_package_that_was_left_half_configured_is_finished(host: DriverHost) -> None:
    """Its postinst failed once, as when the disk was full; the archive then got a newer driver."""
    record = "/^Package: nvidia-kernel-common-580-server$/,/^$/"
    host.sh(f"sed -i '{record}s/^Status: .*/Status: hold ok half-configured/' /var/lib/dpkg/status")
    assert "half-configured" in host.sh("dpkg-query -W -f '${Status}' nvidia-kernel-common-580-server")
    outcome = host.play()
    assert outcome.code == 0, outcome.output
    assert host.sh("dpkg --audit") == ""
    assert host.driver() == {OLD}


@pytest.fixture(scope="module")
def renewed(host: DriverHost) -> None:
    host.archives.renew()
    host.sh("apt-get -q update")


@pytest.mark.usefixtures("renewed", "unharmed")
@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut_after=200)], ids=["error 500", "cut off"])
def test_a_package_that_does_not_arrive_changes_nothing(host: DriverHost, fault: Fault) -> None:
    host.archives.server.misbehave("*/libnvidia-compute-580*", fault)
    refused(host.play(nvidia_driver_upgrade=True), "cannot be fetched", "nothing was changed")


@pytest.mark.usefixtures("renewed", "unharmed")
def test_a_package_whose_bytes_are_others_changes_nothing(host: DriverHost) -> None:
    deb = next(host.archives.ubuntu.pool.glob(f"libnvidia-compute-580-server_{NEW}*"))
    content = deb.read_bytes()
    deb.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    outcome = host.play(nvidia_driver_upgrade=True)
    deb.write_bytes(content)
    refused(outcome, "Hash Sum mismatch", "nothing was changed")


@pytest.mark.usefixtures("renewed", "unharmed")
def test_a_full_disk_is_seen_before_anything_is_touched(host: DriverHost) -> None:
    cache = f"{STATE}/cache"
    host.sh(f"mkdir -p {cache}; mount -t tmpfs -o size=64k tmpfs {cache}")
    outcome = host.play(nvidia_driver_upgrade=True)
    host.sh(f"umount {cache}")
    refused(outcome, "MiB free", "nothing was changed")


def test_after_all_that_the_driver_moves(host: DriverHost, renewed: None) -> None:
    outcome = host.play(nvidia_driver_upgrade=True)
    assert outcome.code == 0, outcome.output
    assert host.driver() == {NEW}
