"""What the operator asked for, and the first phase of every verb on hosts: read all input, collect every fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from provision.catalog import Catalog, load_catalog, load_tier
from provision.errors import ProvisionError
from provision.hardware_file import read_hardware
from provision.inventory import Inventory, parse_target, read_inventory
from provision.model import Hardware, Host, Refusal, Tier
from provision.resolve import Choice, Layer, check
from provision.settings import parse_set

T = TypeVar("T")


@dataclass(frozen=True)
class Secrets:
    """Never written, never on a command line. `vault_files` are paths of files that hold vault passwords."""

    become_password: str | None = None
    vault_password: str | None = None
    vault_files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return "Secrets(...)"


@dataclass(frozen=True)
class Request:
    """The hosts and the wishes of one call. `targets` are hosts, or choose from `inventories` where some are given."""

    targets: tuple[str, ...] = ()
    inventories: tuple[Path, ...] = ()
    limit: str | None = None
    tier: str | None = None
    sets: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    assume_gpu: str = ""  # a product, for cards that the catalogue does not know
    hardware: str | None = None  # a file that tells of the boxes, so that none is looked at; `-` is standard input
    os: str | None = None  # what that file does not tell: ubuntu-22.04
    accept_hardware: bool = False
    jobs: int = 5
    transport: str = "ssh"
    secrets: Secrets = Secrets()
    argv: tuple[str, ...] = ()  # the command line after `provision`, kept so that the report can offer it again
    faults: tuple[Refusal, ...] = ()  # what the caller found wrong, to be told with all the rest


@dataclass(frozen=True)
class Input:
    """The request, read and found sound: which hosts, each with its tier, and the typed `--set` values."""

    hosts: tuple[Host, ...]
    tiers: Mapping[str, Tier]
    sets: Mapping[str, Any]
    catalog: Catalog
    choice: Choice
    boxes: Mapping[str, Hardware] = field(default_factory=dict)  # by host, where a file tells of them

    def layers(self, host: Host) -> tuple[Layer, ...]:
        """Where a host's settings come from above its tier, the last word last."""
        return (("inventory", host.variables), ("--set", self.sets))

    def secrets(self) -> tuple[str, ...]:
        """The values of settings whose specs call them secret: nothing that is kept may show them."""
        secret = {name for name, setting in self.catalog.settings.settings.items() if setting.secret}
        layers = [values for host in self.hosts for _, values in self.layers(host)]
        layers += [tier.settings for tier in self.tiers.values()]
        return tuple({str(values[name]) for values in layers for name in secret & values.keys() if values[name]})


class Faults:
    """Collects refusals, so that one call shows everything that is wrong with the input."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def take(self, read: Callable[[], T], otherwise: T) -> T:
        """What `read` returns, or `otherwise` with its refusals kept."""
        try:
            return read()
        except ProvisionError as error:
            self.add(error.refusals)
            return otherwise

    def add(self, refusals: Iterable[Refusal]) -> None:
        self.refusals += [refusal for refusal in refusals if refusal not in self.refusals]

    def end(self) -> None:
        """Raise what was collected, if anything was."""
        if self.refusals:
            raise ProvisionError(self.refusals)


def read_request(request: Request) -> Input:
    """Read tier, settings and hosts without touching the network.

    Raises:
        ProvisionError: every fault of the input at once.
    """
    faults = Faults()
    faults.add(request.faults)
    catalog = load_catalog()
    nothing: dict[str, Any] = {}
    sets = faults.take(lambda: parse_set(request.sets, catalog.settings), nothing)
    boxes = _boxes(request, catalog, faults)
    hosts = tuple(map(Host, boxes)) if request.hardware is not None else _hosts(request, faults)
    choice = Choice(request.only, request.skip, request.assume_gpu)
    given = Input(hosts, _tiers(request, hosts, faults), sets, catalog, choice, boxes)
    for host in hosts:
        faults.add(check(host.name, given.tiers.get(host.name), given.layers(host), catalog, given.choice))
    faults.end()
    return given


def _boxes(request: Request, catalog: Catalog, faults: Faults) -> Mapping[str, Hardware]:
    """What `--hardware` tells, by the names that are given or that stand in the file."""
    if request.hardware is None:
        if request.os is not None:
            fact = "says what a hardware file does not tell, and none was given"
            faults.add([Refusal("--os", fact, "add --hardware FILE, or leave it out")])
        return {}
    if request.inventories or request.limit:
        faults.add([Refusal("--hardware", "and -i both say which hosts", "give one of the two")])
    path, system = request.hardware, request.os
    nothing: Mapping[str, Hardware] = {}

    def read() -> Mapping[str, Hardware]:
        return read_hardware(path, system, catalog).choose([parse_target(name).name for name in request.targets])

    return faults.take(read, nothing)


def _hosts(request: Request, faults: Faults) -> tuple[Host, ...]:
    if not request.targets and not request.inventories:
        faults.add([Refusal("no host", "was named", "name one (provision plan HOST), or give -i INVENTORY")])
    if request.limit and not request.inventories:
        faults.add([Refusal("--limit", "chooses from an inventory, and none was given", "add -i INVENTORY")])
    if request.limit and request.inventories and request.targets:
        hint = "give one of the two; a HOST is a pattern too"
        faults.add([Refusal("--limit", "and HOST both choose from the inventory", hint)])
    hosts: list[Host] = []
    if request.inventories:  # a HOST chooses from them, so that no call reaches more hosts than it names
        words = request.targets or ((request.limit,) if request.limit is not None else ())
        pattern = ",".join(words) or None
        if not all(word.strip(" ,:") for word in words):  # a script's unset variable does not mean the whole fleet
            hint = "name hosts, or leave it out for all"
            faults.add([Refusal("an empty pattern", "was given to choose hosts", hint)])
        secrets = request.secrets
        inventory = faults.take(
            lambda: read_inventory(request.inventories, pattern, secrets.vault_files, secrets.vault_password),
            Inventory(),
        )
        faults.add(inventory.refusals)
        hosts += inventory.hosts
    else:
        for target in request.targets:
            hosts += faults.take(lambda target=target: (parse_target(target),), ())  # type: ignore[misc]
    twice = sorted({host.name for host in hosts if sum(other.name == host.name for other in hosts) > 1})
    faults.add(Refusal(f"host {name}", "was named twice", "name it once") for name in twice)
    return tuple(hosts)


def _tiers(request: Request, hosts: tuple[Host, ...], faults: Faults) -> dict[str, Tier]:
    """The tier of each host: `--tier` for all, else the host's inventory variable `tier`."""
    if request.tier is not None:
        tier = faults.take(lambda: load_tier(str(request.tier)), None)
        return {host.name: tier for host in hosts} if tier else {}
    loaded: dict[str, Tier] = {}
    for host in hosts:
        wanted = host.variables.get("tier")
        if wanted is None:
            hint = "give --tier NAME, or set `tier` in the inventory; provision tiers lists them"
            faults.add([Refusal(f"host {host.name}", "has no tier", hint)])
            continue
        tier = faults.take(lambda wanted=wanted: load_tier(str(wanted)), None)  # type: ignore[misc]
        if tier:
            loaded[host.name] = tier
    return loaded
