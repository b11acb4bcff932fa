"""Targets that are containers: systemd as process 1 on the controller's kernel."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from provision.errors import refuse
from provision.lab import files, images, mirrors, paths, record
from provision.lab.podman import LABEL, Podman, network, storage_lock
from provision.lab.record import LabHost
from provision.lab.system import locked

IMAGES = images.IMAGES
LOGIN = "admin"
READY_SECONDS = 90
# On the controller's file system dockerd can use overlay2; inside the container's own overlay it could not.
VOLUMES = ("/var/lib/docker", "/var/lib/containerd")


def create(name: str, image: str) -> tuple[LabHost, dict[str, Any]]:
    """Start a target whose leftovers are gone; how it is reached, and its mirrors.

    What a failure leaves, the caller removes.
    """
    podman = Podman()
    login_key, password = files.shared_secrets()
    folder = paths.host_folder(name)
    host_key = files.make_key(folder / "ssh_host_ed25519_key", name)
    reachable = mirrors.controller_mirrors(images.find(image).codename)
    container = _container(name)
    with locked(storage_lock()):
        tag = images.ensure(podman, image)
        podman.ensure_network()
        podman.make_room(len(podman.containers()) + 1)
        podman.call("create", *_options(podman, name, reachable), tag, timeout=120)
    podman.call("cp", "--archive=false", "-", f"{container}:/", stdin=files.identity_archive(host_key, login_key))
    podman.start(container)
    podman.call("exec", "--interactive", container, "chpasswd", stdin=f"needpass:{password.read_text().strip()}\n")
    address, port, controller = _address(podman, container)
    known_hosts = folder / "known_hosts"
    files.write_private(known_hosts, files.known_hosts_line(address, port, host_key))
    inventory = str(paths.inventory_file())
    host = LabHost(
        name, address, port, LOGIN, image, str(login_key), str(known_hosts), inventory, controller=controller
    )  # fmt: skip
    _wait(podman, host)
    return host, reachable


def states() -> dict[str, str]:
    """State ("running", "exited", ...) of each target of this lab by name, of those too that did not come up."""
    if not (paths.cache_root() / "storage").exists():  # no container was ever made, and podman may be missing
        return {}
    prefix = _container("")
    containers = Podman().containers(lab=paths.lab_id())
    return {name.removeprefix(prefix): state for name, state in containers.items()}


def remove(name: str) -> None:
    """Remove a target's container, if there is one."""
    if (paths.cache_root() / "storage").exists():
        Podman().remove(_container(name))


def wind_down() -> None:
    """When the last target is gone, take away what all of them shared."""
    if (paths.cache_root() / "storage").exists():
        Podman().wind_down()


def _options(podman: Podman, name: str, reachable: Mapping[str, Any]) -> list[str]:
    """The options of `podman create` for one target."""
    options = ["--name", _container(name), "--hostname", name, *podman.isolation()]
    options += ["--label", f"{LABEL}=1", "--label", f"{LABEL}.id={paths.lab_id()}"]
    options += [f"--volume={folder}" for folder in VOLUMES]
    for folder in mirrors.folders(reachable):
        options += ["--volume", f"{folder}:{folder}:ro"]
    if podman.machine.root:
        options += ["--network", network()]
    else:
        # A user's container network is not routed from the machine: only a published port reaches it.
        options += ["--publish", "127.0.0.1::22"]
    return options


def _address(podman: Podman, container: str) -> tuple[str, int, str]:
    """Where the controller reaches a running target's SSH server, and the target the controller."""
    if not podman.machine.root:
        address, _, port = podman.call("port", container, "22/tcp").strip().rpartition(":")
        return address, int(port), "host.containers.internal"
    settings = f'(index .NetworkSettings.Networks "{network()}")'
    template = f"{{{{{settings}.IPAddress}}}} {{{{{settings}.Gateway}}}}"
    address, controller = podman.call("inspect", "--format", template, container).split()
    return address, 22, controller


def _wait(podman: Podman, host: LabHost) -> None:
    """Wait until systemd has finished booting and the SSH server greets; refuse after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    command = ("exec", _container(host.name), "systemctl", "is-system-running", "--wait")
    state = podman.attempt(*command, timeout=READY_SECONDS)[1].strip()
    while state in {"", "offline", "initializing", "starting"} and time.monotonic() < deadline:
        time.sleep(0.2)
        state = podman.attempt(*command, timeout=READY_SECONDS)[1].strip()
    if state != "running":
        failed = podman.attempt("exec", _container(host.name), "systemctl", "--failed", "--plain", "--no-legend")[1]
        units = ", ".join(line.split()[0] for line in failed.splitlines() if line.split()) or "no unit named"
        fact = f"did not boot properly: systemd says {state or 'nothing'} ({units})"
        raise refuse(f"lab target {host.name}", fact, "see what this machine lacks: provision doctor")
    while not record.greets(host.address, host.port):
        if time.monotonic() > deadline:
            fact = f"does not answer SSH at {host.address} port {host.port}"
            raise refuse(f"lab target {host.name}", fact, "look at this machine's firewall: sudo nft list ruleset")
        time.sleep(0.1)


def _container(name: str) -> str:
    return f"provision-{paths.lab_id()}-{name}"
