"""Docker runs containers as declared. The image is made on the host itself: no registry is asked."""

import json
from pathlib import Path

import pytest

from provision.content import load, playbooks_dir

KEYRING = "/etc/apt/keyrings/docker.asc"
SOURCES = "/etc/apt/sources.list.d/docker.sources"
NVIDIA = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}, "features": {"cdi": True}}
KNOWS_CDI = 25  # the first major version of the engine that does

# A shell and its libraries become an image; its container fails once, so that its restart policy has to act.
# The trap takes container and image away however this ends.
CONTAINER = r"""
set -eu
name=provision-verify-$$
trap 'docker rm --force --volumes $name >/dev/null 2>&1 || :; docker rmi --force $name >/dev/null 2>&1 || :' EXIT
libraries=$(ldd /bin/sh | grep -o '/[^ ]*')
tar --create --dereference --file - /bin/sh $libraries 2>/dev/null | docker import - $name >/dev/null
docker run --detach --name $name --restart on-failure:1 $name /bin/sh -c 'echo proof $((6 * 7)); exit 3' >/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
    case $(docker inspect --format '{{.State.Status}} {{.RestartCount}}' $name) in "exited 1") break ;; esac
    sleep 0.5
done
docker inspect $name
echo ---
docker logs $name
"""


def declared(settings):
    """What daemon.json shall say, by the plan."""
    names = {
        "data-root": "docker_data_root",
        "storage-driver": "docker_storage_driver",
        "registry-mirrors": "docker_registry_mirrors",
        "default-address-pools": "docker_default_address_pools",
        "log-driver": "docker_log_driver",
    }
    wanted = {key: settings[name] for key, name in names.items() if settings[name]}
    if settings["docker_log_driver"] and settings["docker_log_options"]:
        wanted["log-opts"] = settings["docker_log_options"]
    wanted["live-restore"] = settings["docker_live_restore"]
    wanted |= NVIDIA if settings["docker_nvidia"] else {}
    config = load(Path(__file__).parents[1] / "module_utils" / "docker_config.py")
    return config.with_texts(config.overlay(wanted, settings["docker_daemon_options"]))


def within(part, whole):
    """Whether `whole` says everything that `part` says; dicts are compared key by key."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    return part == whole


def fingerprints(text):
    """By the project's own reader of keys, since a host need not have gpg."""
    return load(playbooks_dir() / "module_utils" / "provision_openpgp.py").primary_fingerprints(text.encode())


@pytest.fixture(scope="module")
def info(host):
    """What the running daemon says of itself; empty where none answers."""
    with host.sudo():
        answer = host.run("docker info --format '{{json .}}'")
    return json.loads(answer.stdout) if answer.rc == 0 else {}


@pytest.fixture(scope="module")
def container(host):
    """A container that ran on this host: how that went, what Docker knew of it, and its log."""
    with host.sudo():
        answer = host.run(CONTAINER)
    facts, _, log = answer.stdout.partition("---\n")
    return {"told": answer.stderr, "facts": json.loads(facts)[0] if answer.rc == 0 else {}, "log": log}


def test_docker_runs_now_and_at_boot(host):
    service = host.service("docker")
    assert service.is_running, "docker.service is not running"
    assert service.is_enabled, "docker.service does not start at boot"


def test_daemon_file_says_what_is_declared(host, plan):
    with host.sudo():
        text = host.file("/etc/docker/daemon.json").content_string
    wanted = declared(plan.settings)
    assert within(wanted, json.loads(text)), f"expected {wanted} in /etc/docker/daemon.json, found {text}"


def test_running_daemon_agrees(plan, info):
    wanted = {"data-root": "/var/lib/docker", **declared(plan.settings)}
    assert info.get("DockerRootDir") == wanted["data-root"]
    assert info["LiveRestoreEnabled"] == wanted["live-restore"]
    assert info["LoggingDriver"] == wanted.get("log-driver", info["LoggingDriver"])
    assert info["Driver"] == wanted.get("storage-driver", info["Driver"])
    mirrors = {url.rstrip("/") for url in info["RegistryConfig"]["Mirrors"] or []}
    assert mirrors >= {url.rstrip("/") for url in wanted.get("registry-mirrors", [])}
    assert set(info["Runtimes"]) >= set(wanted.get("runtimes", {}))
    if plan.settings["docker_nvidia"] and int(info["ServerVersion"].split(".")[0]) >= KNOWS_CDI:
        assert info.get("CDISpecDirs"), "the daemon looks for no CDI devices"


def test_containerd_keeps_its_data_where_declared(host, plan):
    root = plan.settings["docker_containerd_root"] or "/var/lib/containerd"
    with host.sudo():
        files = host.run("ls -l /proc/$(systemctl show --property MainPID --value containerd)/fd")
    database = f"{root}/io.containerd.metadata.v1.bolt/meta.db"
    assert f" {database}\n" in files.stdout, f"no running containerd holds {database}"


def test_a_container_runs(container):
    assert container["log"].splitlines()[:1] == ["proof 42"], container["told"]


def test_a_failed_container_is_started_again(container):
    assert container["facts"].get("RestartCount") == 1, container["told"]
    assert container["log"].splitlines() == ["proof 42"] * 2


def test_a_new_container_rotates_its_log(container, plan):
    wanted = declared(plan.settings)
    found = container["facts"]["HostConfig"]["LogConfig"] if container["facts"] else {}
    assert found, container["told"]
    assert found["Type"] == wanted.get("log-driver", found["Type"])
    assert within(wanted.get("log-opts", {}), found["Config"]), found


def test_compose_answers(host):
    answer = host.run("docker compose version || docker-compose version")
    assert answer.rc == 0, f"neither docker compose nor docker-compose runs: {answer.stderr}"


def test_only_the_group_docker_reaches_the_socket(host, plan):
    socket = host.file("/run/docker.sock")
    assert socket.exists, "/run/docker.sock is missing"
    assert (socket.user, socket.group, oct(socket.mode)) == ("root", "docker", "0o660")
    missing = sorted(set(plan.settings["docker_users"]) - set(host.group("docker").members))
    assert not missing, f"not in the group docker: {missing}"


def test_packages_come_from_the_declared_source(host, plan):
    source = "docker" if host.package("docker-ce").is_installed else "distribution"
    assert plan.settings["docker_source"] in ("auto", source)
    engine = host.package("docker-ce" if source == "docker" else "docker.io")
    assert engine.version.split(":", 1)[-1].startswith(plan.settings["docker_version"])
    if source == "distribution":
        assert not host.file(SOURCES).exists, f"{SOURCES} stays behind on a host that uses docker.io"
        return
    assert f"Signed-By: {KEYRING}" in host.file(SOURCES).content_string.splitlines()
    assert fingerprints(host.file(KEYRING).content_string) == [plan.settings["docker_repository_key_fingerprint"]]
