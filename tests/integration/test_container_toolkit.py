"""NVIDIA's container toolkit from a stand-in repository, and Docker beside it, on one target.

The stand-in's runtime hands over to runc and its containers see no GPU: shown is the set-up, not the cards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.conftest import Outcome, Target
from tests.integration.driver_host import Ground
from tests.standins import nvidia_container
from tests.standins.nvidia_archives import Archives

pytestmark = pytest.mark.lab

OLD, NEW = nvidia_container.VERSIONS
ANCIENT = "1.17.8"  # before the packages brought units
KNOW, HOLD, INSTALL = (
    "Let apt know the toolkit's repository and nothing that rivals it",
    "Hold the version and describe the devices whenever the driver changes",
    "Install the toolkit in one version",
)
UNITS = "systemctl is-enabled {0}.path {0}.service; systemctl is-active {0}.path"
# A container that lives on: a shell that waits for a line that never comes.
CONTAINER = """
tar --create --dereference --file - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') 2>/dev/null | docker import - waiting
docker run --detach --interactive --name waiting --runtime nvidia waiting /bin/sh -c 'read line'
systemctl daemon-reload
docker exec waiting /bin/sh -c 'echo alive'
docker rm --force waiting
"""


class ToolkitHost(Ground):
    """The toolkit's role, and Docker beside it."""

    def toolkit(self, *words: str, **settings: Any) -> Outcome:
        return self.play_roles(["nvidia_container_toolkit"], settings, *words)

    def docker(self, **settings: Any) -> Outcome:
        return self.target.play(["docker"], {"docker_source": "distribution", **settings})

    def daemon(self) -> dict[str, Any]:
        options = json.loads(self.sh("cat /etc/docker/daemon.json"))
        assert isinstance(options, dict)
        return options

    def versions(self) -> set[str]:
        """The versions of the four packages: more than one would be a broken toolkit."""
        form = "dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia-container*'"
        rows = [line.split(" ") for line in self.sh(form).splitlines()]
        return {version for _, version in rows if version}


@pytest.fixture(scope="module")
def ground(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolkitHost]:
    with Archives(tmp_path_factory.mktemp("archives")) as archives:
        yield ToolkitHost(new_target("toolkit"), archives)


@pytest.fixture(scope="module")
def foretold(ground: ToolkitHost) -> Outcome:
    """Check mode on the bare target."""
    return ground.toolkit("--check")


@pytest.fixture(scope="module")
def applied(ground: ToolkitHost, foretold: Outcome) -> Outcome:
    done = ground.toolkit()
    assert done.code == 0, done.output
    assert ground.versions() == {f"{OLD}-1"}
    return done


@pytest.fixture(scope="module")
def renewed(ground: ToolkitHost, applied: Outcome) -> None:
    """Once it is installed, its archive gets a newer release."""
    ground.archives.renew()
    ground.sh("apt-get -q update")


def test_check_mode_foretells_what_a_bare_host_then_becomes(
    ground: ToolkitHost, foretold: Outcome, applied: Outcome
) -> None:
    assert applied.changed == foretold.changed == [KNOW, HOLD, INSTALL]
    assert ground.sh(UNITS.format("nvidia-cdi-refresh")).split() == ["enabled", "enabled", "active"]
    assert ground.toolkit().came_to == (0, [])


@pytest.mark.usefixtures("renewed")
def test_a_newer_release_leaves_what_is_held(ground: ToolkitHost) -> None:
    ground.sh("DEBIAN_FRONTEND=noninteractive apt-get -qy dist-upgrade")
    assert ground.versions() == {f"{OLD}-1"}
    assert ground.toolkit().came_to == (0, [])


@pytest.mark.usefixtures("renewed")
def test_a_declared_version_is_brought_and_an_unknown_one_refused(ground: ToolkitHost) -> None:
    assert ground.toolkit(nvidia_container_toolkit_version=NEW).changed == [HOLD, INSTALL]
    assert ground.versions() == {f"{NEW}-1"}
    assert ground.toolkit().came_to == (0, []), "what is installed is what is held"
    refused = ground.toolkit(nvidia_container_toolkit_version="9.9.9")
    assert refused.code == 2
    assert f"apt offers no nvidia-container-toolkit 9.9.9, only {NEW}-1, {OLD}-1" in refused.output
    assert ground.toolkit(nvidia_container_toolkit_version=OLD).changed == [HOLD, INSTALL]
    assert ground.versions() == {f"{OLD}-1"}


@pytest.mark.usefixtures("applied")
def test_what_an_older_set_up_left_goes(ground: ToolkitHost) -> None:
    ground.sh(
        "for name in nvidia-docker libnvidia-container; do"
        " echo 'deb https://nvidia.github.io/libnvidia-container/stable/ubuntu18.04/amd64 /'"
        " > /etc/apt/sources.list.d/$name.list; done;"
        " mkdir -p /etc/cdi; echo 'devices: []' > /etc/cdi/nvidia.yaml"
    )
    outcome = ground.toolkit("-v")
    assert outcome.changed == [KNOW, HOLD]
    assert '"/etc/apt/sources.list.d/nvidia-docker.list"' in outcome.output
    assert ground.sh("ls /etc/cdi") == "nvidia.yaml.provision.disabled\n"
    assert ground.sh("LC_ALL=C apt-get -q update 2>&1 | grep '^[EW]:' || :") == ""
    assert ground.toolkit().came_to == (0, [])


@pytest.mark.usefixtures("applied")
def test_docker_learns_the_runtime_and_forgets_it_beside_those_of_others(ground: ToolkitHost) -> None:
    ground.sh(
        'mkdir -p /etc/docker; echo \'{"runtimes": {"mine": {"path": "/usr/bin/mine"}}}\' > /etc/docker/daemon.json'
    )
    applied = ground.docker(docker_nvidia=True)
    assert applied.code == 0, applied.output
    options = ground.daemon()
    assert options["runtimes"] == {
        "mine": {"path": "/usr/bin/mine"},
        "nvidia": {"path": "nvidia-container-runtime", "args": []},
    }
    assert options["features"] == {"cdi": True}
    assert "nvidia" in json.loads(ground.sh("docker info --format '{{json .Runtimes}}'"))
    assert "alive\n" in ground.sh(CONTAINER)
    assert ground.toolkit().came_to == (0, [])
    assert ground.daemon() == options, "the toolkit leaves daemon.json alone"
    assert ground.docker(docker_nvidia=True).came_to == (0, [])
    assert "Configure Docker" in ground.docker(docker_nvidia=False).changed
    assert (ground.daemon()["runtimes"], "features" in ground.daemon()) == ({"mine": {"path": "/usr/bin/mine"}}, False)
    assert "nvidia" not in json.loads(ground.sh("docker info --format '{{json .Runtimes}}'"))


@pytest.mark.usefixtures("applied")
def test_a_version_without_units_gets_the_role_s(ground: ToolkitHost) -> None:
    for package in nvidia_container.packages(ANCIENT):
        files = {path: text for path, text in package.files.items() if "nvidia-cdi-refresh" not in path}
        ground.archives.toolkit.add(replace(package, files=files))
    ground.archives.toolkit.publish()
    ground.sh("apt-get -q update")
    outcome = ground.toolkit(nvidia_container_toolkit_version=ANCIENT)
    assert outcome.code == 0, outcome.output
    assert ground.versions() == {f"{ANCIENT}-1"}
    assert ground.sh(UNITS.format("provision-nvidia-cdi")).split() == ["enabled", "enabled", "active"]
    assert ground.toolkit(nvidia_container_toolkit_version=ANCIENT).came_to == (0, [])
    # What a card's device node would let happen; the stand-in describes no device.
    ground.sh("touch /dev/nvidiactl; systemctl start provision-nvidia-cdi.service")
    assert "kind: nvidia.com/gpu" in ground.sh("cat /var/run/cdi/nvidia.yaml; rm /dev/nvidiactl")
