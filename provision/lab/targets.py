"""Bring throwaway container targets up and down. Nothing is printed; every wait has a limit."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from provision.errors import refuse
from provision.lab import files, images, inventory, mirrors, paths
from provision.lab.podman import LABEL, Podman, network, storage_lock, use_lock
from provision.lab.system import locked

DEFAULT_NAME = "demo"
DEFAULT_IMAGE = "debian-12"
LOGIN = "admin"
READY_SECONDS = 90
# On the controller's file system dockerd can use overlay2; inside the container's own overlay it could not.
VOLUMES = ("/var/lib/docker", "/var/lib/containerd")


@dataclass(frozen=True)
class LabHost:
    """A target of the lab: how to reach it, and the inventory that lists it. Paths are absolute."""

    name: str
    address: str
    port: int
    user: str
    image: str
    identity_file: str
    known_hosts: str
    inventory: str
    running: bool = True


def up(name: str = DEFAULT_NAME, image: str = DEFAULT_IMAGE) -> LabHost:
    """Bring a target up, or return the one that is up already. Seconds; a first use makes the image (a minute)."""
    paths.check_name(name)
    images.find(image)
    podman = Podman()
    try:
        with locked(use_lock(), shared=True), locked(paths.state_root() / "locks" / name):
            return _up(podman, name, image)
    except BaseException:
        podman.wind_down()
        raise


def _up(podman: Podman, name: str, image: str) -> LabHost:
    """`up` under the locks."""
    known = _record(name)
    if known and podman.containers(lab=paths.lab_id()).get(_container(name)) == "running":
        if known["host"]["image"] != image:
            fact = f"is up already, with image {known['host']['image']} and not {image}"
            raise refuse(f"lab target {name}", fact, f"take it down first: provision lab down {name}")
        return LabHost(**known["host"])
    _clean(podman, name)
    try:
        host = _create(podman, name, image)
    except BaseException:
        _clean(podman, name)
        raise
    _write_inventory()
    return host


def hosts() -> list[LabHost]:
    """Every target of this lab by name, with whether it runs now."""
    records = _records()
    if not records:
        return []
    with locked(use_lock(), shared=True):
        states = Podman().containers(lab=paths.lab_id())
    found = []
    for record in records:
        running = states.get(_container(record["host"]["name"])) == "running"
        found.append(LabHost(**{**record["host"], "running": running}))
    return found


def down(name: str = DEFAULT_NAME, *, every: bool = False) -> list[str]:
    """Remove a target, or every target of this lab, with all that belongs to it; the names that were removed."""
    if not every:
        paths.check_name(name)
    podman = Podman()
    try:
        with locked(use_lock(), shared=True):
            chosen = _chosen(podman, name, every)
            for each in chosen:
                with locked(paths.state_root() / "locks" / each):
                    _clean(podman, each)
            _write_inventory()
    finally:
        podman.wind_down()
    return chosen


def _chosen(podman: Podman, name: str, every: bool) -> list[str]:
    """The targets that `down` removes: those with a record, and those of which only a container is left."""
    containers = podman.containers(lab=paths.lab_id())
    present = {record["host"]["name"] for record in _records()} | {_name(container) for container in containers}
    if every:
        return sorted(present)
    if name not in present:
        raise refuse(f"lab target {name}", "does not exist", "see what there is: provision lab list")
    return [name]


def ssh_argv(name: str = DEFAULT_NAME, user: str = "") -> list[str]:
    """The command line that opens a shell on a target; append a command to run that instead."""
    paths.check_name(name)
    known = _record(name)
    if known is None:
        raise refuse(f"lab target {name}", "does not exist", f"bring it up: provision lab up {name}")
    host = LabHost(**known["host"])
    options = ["-F", "none", "-i", host.identity_file, "-p", str(host.port)]
    for option in ("IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={host.known_hosts}"):
        options += ["-o", option]
    return ["ssh", *options, f"{user or host.user}@{host.address}"]


def _create(podman: Podman, name: str, image: str) -> LabHost:
    """Make, start and wait for a target whose leftovers are gone. What a failure leaves, the caller removes."""
    with locked(paths.state_root() / "locks" / "keys.lock"):
        login_key, password = files.client_key(), files.password_file()
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
    address, port = _address(podman, container)
    known_hosts = folder / "known_hosts"
    files.write_private(known_hosts, files.known_hosts_line(address, port, host_key))
    host = LabHost(name, address, port, LOGIN, image, str(login_key), str(known_hosts), str(paths.inventory_file()))
    _wait(podman, host)
    files.write_private(folder / "host.json", json.dumps({"host": asdict(host), "mirrors": reachable}, indent=1) + "\n")
    return host


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


def _address(podman: Podman, container: str) -> tuple[str, int]:
    """Where the controller reaches a running target's SSH server."""
    if not podman.machine.root:
        address, _, port = podman.call("port", container, "22/tcp").strip().rpartition(":")
        return address, int(port)
    template = f'{{{{(index .NetworkSettings.Networks "{network()}").IPAddress}}}}'
    return podman.call("inspect", "--format", template, container).strip(), 22


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
    while not _greets(host.address, host.port):
        if time.monotonic() > deadline:
            fact = f"does not answer SSH at {host.address} port {host.port}"
            raise refuse(f"lab target {host.name}", fact, "look at this machine's firewall: sudo nft list ruleset")
        time.sleep(0.1)


def _greets(address: str, port: int) -> bool:
    """Whether an SSH server answers there now."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _clean(podman: Podman, name: str) -> None:
    """Remove whatever there is of a target, whether it came up or not."""
    podman.remove(_container(name))
    shutil.rmtree(paths.host_folder(name), ignore_errors=True)


def _write_inventory() -> None:
    with locked(paths.state_root() / "locks" / "inventory.lock"):
        inventory.write(_records())


def _records() -> list[dict[str, Any]]:
    """The records of all targets that came up, by name."""
    folder = paths.state_root() / "hosts"
    names = sorted(file.parent.name for file in folder.glob("*/host.json"))
    return [record for record in map(_record, names) if record]


def _record(name: str) -> dict[str, Any] | None:
    """One target's record, or None when it did not come up or its record is unreadable."""
    try:
        record: dict[str, Any] = json.loads((paths.host_folder(name) / "host.json").read_text())
    except (OSError, ValueError):
        return None
    return record


def _container(name: str) -> str:
    return f"provision-{paths.lab_id()}-{name}"


def _name(container: str) -> str:
    return container.removeprefix(f"provision-{paths.lab_id()}-")
