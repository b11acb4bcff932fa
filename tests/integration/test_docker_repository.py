"""Docker CE from a signed repository, on stand-ins: Debian dressed as Ubuntu 22.04, Docker's names, a throwaway key.

The role is run by plain ansible-playbook. A bare target refuses, then installs, then changes; whatever asks for the
installed role, or for the container on it, makes the target pass the stations before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Outcome, Target
from tests.standins import docker_ce
from tests.standins.apt_repository import Repository, Server, SigningKey

pytestmark = pytest.mark.lab

RELEASE, NEXT = "20.10.24", "20.10.25"
DOCKERS_OWN = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
SOURCE = "/etc/apt/sources.list.d/docker.sources"
FILES = f"{SOURCE} /etc/apt/keyrings/docker.asc /etc/docker/daemon.json"
# A container that lives on: a shell that waits for a line that never comes.
CONTAINER = """
tar --create --dereference --file - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') 2>/dev/null | docker import - waiting
docker run --detach --interactive --name waiting waiting /bin/sh -c 'read line'
"""


@dataclass(frozen=True)
class Ground:
    """The target and the stand-in repository it sees."""

    target: Target
    folder: Path
    repository: Repository
    url: str

    def sh(self, script: str) -> str:
        return self.target.sh(script)

    def apply(self, *words: str, **settings: Any) -> Outcome:
        """Run the role with these settings over the stand-in's own."""
        given = {
            "docker_repository_url": self.url,
            "docker_repository_key_fingerprint": self.repository.key.fingerprint,
            **settings,
        }
        return self.target.play(["docker"], given, *words)

    def engine(self) -> str:
        """Name and version of the installed engine, upstream's part."""
        return self.sh("dpkg-query -W -f '${Package} ${Version}\\n' docker-ce docker.io 2>/dev/null | grep ' .' || :")

    def daemon(self) -> str:
        """What changes when the daemon is restarted."""
        return self.sh("systemctl show --property MainPID,ActiveEnterTimestampMonotonic docker.service")

    def options(self) -> dict[str, Any]:
        options = json.loads(self.sh("cat /etc/docker/daemon.json"))
        assert isinstance(options, dict)
        return options


@pytest.fixture(scope="module")
def ground(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("docker-ce")
    key = SigningKey()
    repository = Repository(folder / "web" / "ubuntu", key, suite="jammy", component="stable")
    docker_ce.fill(repository, docker_ce.binaries(folder / "debs"), RELEASE)
    repository.publish()
    target = new_target("docker-ce", "ubuntu-22.04-standin")
    with Server(folder / "web") as server:
        yield Ground(target, folder, repository, server.url_for(target.host.address))


@dataclass(frozen=True)
class Tried:
    """A run on the bare target that installs nothing, and what of Docker was there afterwards."""

    outcome: Outcome
    left: list[str]
    engine: str


def on_bare(ground: Ground, *words: str, **settings: Any) -> Tried:
    outcome = ground.apply(*words, **settings)
    return Tried(outcome, ground.sh(f"ls {FILES} 2>/dev/null || :").split(), ground.engine())


@pytest.fixture(scope="module")
def another_fingerprint(ground: Ground) -> Tried:
    return on_bare(ground, docker_repository_key_fingerprint=DOCKERS_OWN)


@pytest.fixture(scope="module")
def bad_signature(ground: Ground, another_fingerprint: Tried) -> Tried:
    ground.repository.publish(signer=SigningKey("stranger"))
    refused = on_bare(ground)
    ground.repository.publish()
    return refused


@pytest.fixture(scope="module")
def foretold(ground: Ground, bad_signature: Tried) -> Tried:
    """Check mode on the bare target."""
    return on_bare(ground, "--check")


@pytest.fixture(scope="module")
def applied(ground: Ground, foretold: Tried) -> Outcome:
    return ground.apply()


@pytest.fixture(scope="module")
def docker(ground: Ground, applied: Outcome) -> Ground:
    """The target with the role applied."""
    assert applied.code == 0, applied.output
    return ground


@pytest.fixture(scope="module")
def waiting(docker: Ground) -> Ground:
    """The target with a container that lives on."""
    docker.sh(CONTAINER)
    return docker


@dataclass(frozen=True)
class Restart:
    """A run that restarted the daemon for an option, and what the daemon and the container were before and after."""

    outcome: Outcome
    daemons: tuple[str, str]
    containers: tuple[str, str]


@pytest.fixture(scope="module")
def restarted(waiting: Ground) -> Restart:
    process = "docker inspect --format '{{.State.Pid}}' waiting"
    daemon, container = waiting.daemon(), waiting.sh(process)
    outcome = waiting.apply(docker_daemon_options={"max-concurrent-downloads": 2})
    return Restart(outcome, (daemon, waiting.daemon()), (container, waiting.sh(process)))


def test_a_key_with_another_fingerprint_is_refused_and_nothing_is_written(
    ground: Ground, another_fingerprint: Tried
) -> None:
    outcome = another_fingerprint.outcome
    assert outcome.code == 2
    assert f"has fingerprint {ground.repository.key.fingerprint}, expected {DOCKERS_OWN}" in outcome.output
    assert another_fingerprint.left == []
    assert another_fingerprint.engine == ""


def test_a_bad_signature_is_refused_and_the_source_withdrawn(ground: Ground, bad_signature: Tried) -> None:
    outcome = bad_signature.outcome
    assert outcome.code == 2
    assert f"Docker was not installed from {ground.url}/ubuntu: " in outcome.output
    assert "is not signed" in outcome.output
    assert SOURCE not in bad_signature.left
    assert bad_signature.engine == ""


def test_check_mode_foretells_what_a_bare_host_then_becomes(docker: Ground, foretold: Tried, applied: Outcome) -> None:
    assert foretold.outcome.code == 0, foretold.outcome.output
    assert SOURCE not in foretold.left
    assert applied.changed == foretold.outcome.changed != []
    assert docker.engine() == f"docker-ce 5:{RELEASE}-1~standin\n"
    assert "docker compose version" in docker.sh("docker compose version")


@pytest.mark.usefixtures("docker")
def test_a_second_run_changes_and_restarts_nothing(ground: Ground) -> None:
    before = ground.daemon()
    again = ground.apply()
    assert again.came_to == (0, []), again.output
    assert ground.daemon() == before


@pytest.mark.usefixtures("docker")
def test_auto_stays_with_what_is_installed_when_the_repository_goes_away(ground: Ground) -> None:
    outcome = ground.apply(docker_repository_url="http://127.0.0.1:9", docker_repository_key_url=f"{ground.url}/gpg")
    assert ground.engine().startswith("docker-ce ")
    assert outcome.changed == ["Hold Docker's repository"]
    assert ground.apply().changed == ["Hold Docker's repository"]


def test_containers_outlive_a_restart_of_the_daemon(restarted: Restart) -> None:
    assert restarted.outcome.changed == ["Configure Docker", "Restart dockerd"], restarted.outcome.output
    before, after = restarted.daemons
    assert after != before
    before, after = restarted.containers
    assert after == before != ""


@pytest.mark.usefixtures("restarted")
def test_a_key_no_longer_declared_goes_and_a_foreign_one_stays(ground: Ground) -> None:
    found = {**ground.options(), "debug": True}
    ground.sh(f"cat > /etc/docker/daemon.json <<'END'\n{json.dumps(found)}\nEND")
    assert found["max-concurrent-downloads"] == 2
    assert "Configure Docker" in ground.apply().changed
    options = ground.options()
    assert "max-concurrent-downloads" not in options
    assert options["debug"] is True
    assert options["log-opts"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.usefixtures("docker")
def test_a_restart_that_an_earlier_run_owed_is_made_good(ground: Ground) -> None:
    before = ground.daemon()
    ground.sh("touch /var/lib/provision/pending/restart-docker")
    assert "Restart dockerd" in ground.apply().changed
    assert ground.daemon() != before
    assert ground.apply().came_to == (0, [])


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("script", "settings", "said"),
    [
        ("echo '{\"debug\": true,' > /etc/docker/daemon.json", {}, "/etc/docker/daemon.json line 2 column 1: "),
        ("", {"docker_daemon_options": {"nonsense": 1}}, "don't match any configuration option: nonsense"),
        ("", {"docker_daemon_options": {"hosts": ["unix:///x"]}}, "dockerd is started with -H (/"),
        (
            "mkdir -p /etc/systemd/system/docker.service.d; printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/dockerd"
            " --log-driver=journald\\n' > /etc/systemd/system/docker.service.d/override.conf",
            {},
            "dockerd is started with --log-driver (/etc/systemd/system/docker.service.d/override.conf)",
        ),
        ("", {"docker_users": ["nobodyatall"]}, "docker_users names nobodyatall"),
        ("", {"docker_data_root": "/srv/docker"}, "1 containers run from /var/lib/docker"),
    ],
    ids=["broken json", "unknown key", "packaged flag", "drop-in flag", "unknown user", "moved under containers"],
)
def test_what_would_stop_the_daemon_is_refused_before(
    ground: Ground, script: str, settings: dict[str, Any], said: str
) -> None:
    ground.sh("cp /etc/docker/daemon.json /root/daemon.json")
    before = ground.daemon()
    ground.sh(script)
    outcome = ground.apply(**settings)
    ground.sh("mv /root/daemon.json /etc/docker/daemon.json; rm -rf /etc/systemd/system/docker.service.d")
    assert outcome.code == 2
    assert said in outcome.output.replace("\\n", "\n")
    assert ground.daemon() == before
    assert ground.sh("ls /var/lib/provision/pending") == "", "a restart is owed for nothing"


@pytest.mark.usefixtures("waiting")
def test_data_directories_move_and_the_old_data_stays(ground: Ground) -> None:
    # A file system of its own, as a second disk has: the root of a container holds no layers of overlay2.
    ground.sh("docker rm --force waiting; mount -t tmpfs tmpfs /srv")
    outcome = ground.apply("-v", docker_data_root="/srv/docker", docker_containerd_root="/srv/containerd")
    assert outcome.code == 0, outcome.output
    assert "remove the old copy: rm -r /var/lib/docker" in " ".join(outcome.output.split())
    assert ground.sh("docker info --format '{{.DockerRootDir}} {{.Images}}'") == "/srv/docker 1\n"
    assert ground.sh("ls /srv/containerd/io.containerd.metadata.v1.bolt") == "meta.db\n"
    assert ground.apply(docker_data_root="/srv/docker", docker_containerd_root="/srv/containerd").came_to == (0, [])
    back = ground.apply("-v")
    assert back.code == 0
    assert "stay in /srv/docker: /var/lib/docker has its own" in back.output
    assert ground.sh("docker info --format '{{.DockerRootDir}} {{.Images}}'") == "/var/lib/docker 1\n"


@pytest.mark.usefixtures("docker")
def test_a_pinned_version_is_brought_and_held(ground: Ground) -> None:
    docker_ce.fill(ground.repository, docker_ce.binaries(ground.folder / "debs"), NEXT)
    ground.repository.publish()
    assert ground.apply(docker_version=NEXT).code == 0
    assert ground.engine() == f"docker-ce 5:{NEXT}-1~standin\n"
    older = ground.apply(docker_version=RELEASE)
    assert older.code == 0, older.output
    assert ground.engine() == f"docker-ce 5:{RELEASE}-1~standin\n"
    assert f"Candidate: 5:{RELEASE}-1~standin" in ground.sh("apt-cache policy docker-ce")
    assert ground.apply(docker_version=RELEASE).came_to == (0, [])


@pytest.mark.usefixtures("docker")
def test_users_are_in_the_group_only_while_listed(ground: Ground) -> None:
    members = "getent group docker | cut -d: -f4"
    ground.sh("useradd guest; gpasswd --add guest docker")
    assert ground.apply(docker_users=["admin"]).changed[-1:] == ["Let the listed users talk to Docker"]
    assert ground.sh(members) == "guest,admin\n"
    assert ground.apply(docker_users=["admin"]).came_to == (0, [])
    assert ground.apply().changed == ["Let the listed users talk to Docker"]
    assert ground.sh(members) == "guest\n"


@pytest.mark.usefixtures("waiting")
def test_switching_to_the_distribution_and_back_keeps_the_data(ground: Ground) -> None:
    images = "docker images --quiet"
    before = ground.sh(images)
    gone = ground.apply(docker_source="distribution")
    assert gone.code == 0, gone.output
    assert ground.engine().startswith("docker.io ")
    assert ground.sh(f"ls {FILES} 2>/dev/null || :") == "/etc/docker/daemon.json\n"
    assert ground.sh(images) == before != ""
    assert ground.apply().came_to == (0, []), "auto stays with what is installed"
    back = ground.apply(docker_source="docker")
    assert back.code == 0, back.output
    assert ground.engine().startswith("docker-ce ")
    assert ground.sh(images) == before
