"""The toolkit is of one version and describes the cards when the driver changes; containers see and keep them."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from provision.model import HostPlan

PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
PREFERENCES = "/etc/apt/preferences.d/nvidia-container-toolkit.pref"
SOURCE = "/etc/apt/sources.list.d/nvidia-container-toolkit.sources"
LEFTOVERS = (
    "/etc/apt/sources.list.d/nvidia-docker.list",
    "/etc/apt/sources.list.d/libnvidia-container.list",
    "/etc/apt/sources.list.d/nvidia-container-toolkit.list",
    "/etc/apt/sources.list.d/nvidia-container-runtime.list",
    "/etc/cdi/nvidia.yaml",
)
KNOWS_CDI = 25  # the first major version of Docker's engine that does

# An image out of the host's shell and what nvidia-smi is linked to; the driver's own files come in by CDI. Engines that
# know no CDI devices leave them to the runtime. Asked before and after what makes old hooks lose their devices.
CONTAINER = r"""
set -eu
name=provision-verify-gpu-$$
trap 'docker rm --force --volumes $name >/dev/null 2>&1 || :; docker rmi --force $name >/dev/null 2>&1 || :' EXIT
libraries=$(ldd /bin/sh $(command -v nvidia-smi) | grep -o ' /[^ ]*' | sort -u)
tar --create --dereference --file - /bin/sh /etc/hostname $libraries 2>/dev/null | docker import - $name >/dev/null
if [ "$(docker version --format '{{.Server.Version}}' | cut -d. -f1)" -ge KNOWS_CDI ]; then
    cards="--device nvidia.com/gpu=all"
else
    cards="--runtime nvidia --env NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all"
fi
docker run --detach --interactive --name $name $cards $name /bin/sh -c 'read line' >/dev/null
docker exec $name nvidia-smi -L
systemctl daemon-reload
sleep 1
echo ---
docker exec $name nvidia-smi -L
""".replace("KNOWS_CDI", str(KNOWS_CDI))


def unit(host: Host) -> str:
    """The packages' own since 1.18, ours before."""
    packaged = "nvidia-cdi-refresh"
    return packaged if host.run(f"systemctl cat {packaged}.path").rc == 0 else "provision-nvidia-cdi"


def cards(text: str) -> list[str]:
    """The UUIDs in an answer of `nvidia-smi -L`."""
    return sorted(re.findall(r"\(UUID: (GPU-[0-9a-f-]+)\)", text))


@pytest.fixture(scope="module")
def versions(host: Host) -> dict[str, str]:
    form = "dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\\n' " + " ".join(PACKAGES)
    rows = [line.split(" ") for line in host.run(form).stdout.splitlines()]
    return {name: version for state, name, version in rows if state == "installed"}


def test_all_packages_have_the_declared_version(plan: HostPlan, versions: dict[str, str]) -> None:
    assert sorted(versions) == sorted(PACKAGES)
    assert len(set(versions.values())) == 1, versions
    upstream = versions[PACKAGES[0]].rpartition("-")[0]
    assert plan.settings["nvidia_container_toolkit_version"] in ("", upstream)


def test_upgrades_leave_the_version(host: Host, versions: dict[str, str]) -> None:
    for name, version in versions.items():
        policy = host.run(f"LC_ALL=C apt-cache policy {name}").stdout
        assert f"Candidate: {version}\n" in policy
        assert f"*** {version} 1001\n" in policy, f"{name} is not held by {PREFERENCES}"


def test_it_comes_from_the_declared_repository(host: Host, plan: HostPlan) -> None:
    source = host.file(SOURCE).content_string
    assert f"URIs: {plan.settings['nvidia_container_toolkit_repository_url'].rstrip('/')}/" in source
    assert [path for path in LEFTOVERS if host.file(path).exists] == []
    assert host.run("apt-get indextargets").rc == 0, "apt cannot read its sources"


def test_the_tool_answers_with_its_version(host: Host, versions: dict[str, str]) -> None:
    answer = host.run("nvidia-ctk --version && nvidia-container-runtime --version")
    upstream = versions[PACKAGES[0]].rpartition("-")[0]
    assert answer.stdout.count(upstream) >= 2, f"not of {upstream}: {answer}"


def test_devices_are_described_at_boot_and_when_the_driver_changes(host: Host) -> None:
    watch, describe = host.service(f"{unit(host)}.path"), host.service(f"{unit(host)}.service")
    assert watch.is_running, f"{unit(host)}.path does not watch"
    assert watch.is_enabled, f"{unit(host)}.path does not start at boot"
    assert describe.is_enabled, f"{unit(host)}.service does not run at boot"
    shown = host.check_output(f"systemctl show --property RemainAfterExit {unit(host)}.service")
    assert shown == "RemainAfterExit=no", "the description is not written again while its unit counts as running"


@pytest.mark.gpu
def test_every_card_is_described(host: Host, plan: HostPlan) -> None:
    there = cards(host.check_output("nvidia-smi -L"))
    described = host.check_output("nvidia-ctk cdi list")
    assert len(there) == len(plan.cards)
    assert [card for card in there if f"nvidia.com/gpu={card}" not in described] == [], described
    assert "nvidia.com/gpu=all" in described


@pytest.mark.gpu
def test_a_container_sees_the_cards_and_keeps_them(host: Host, plan: HostPlan) -> None:
    there = cards(host.check_output("nvidia-smi -L"))
    if "docker" in plan.roles:
        with host.sudo():
            answer = host.run(CONTAINER)
        before, _, after = answer.stdout.partition("---\n")
        assert cards(before) == there, f"at its start: {answer}"
        assert cards(after) == there, f"after systemctl daemon-reload: {answer}"
    else:
        assert host.run("nvidia-container-cli info").rc == 0
