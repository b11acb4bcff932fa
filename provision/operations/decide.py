"""What the resolver says of one host, as an event."""

from __future__ import annotations

from provision.errors import ProvisionError
from provision.events import HostPlanned, InputRejected
from provision.model import Hardware, Host
from provision.operations.request import Input
from provision.resolve import resolve


def decide(run: str, given: Input, host: Host, hardware: Hardware) -> HostPlanned | InputRejected:
    """The host's plan, or why it has none. `run` is the run's id."""
    try:
        plan = resolve(host.name, hardware, given.tiers[host.name], given.layers(host), given.catalog, given.choice)
    except ProvisionError as error:
        return InputRejected(run, error.refusals, host.name)
    return HostPlanned(run, host.name, plan)
