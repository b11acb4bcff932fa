"""Look at every host and plan it: preflight, probe, resolve. What every verb on hosts begins with."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from provision.catalog import Catalog
from provision.engine.preflight import Found, Requirements, Unfit, preflight
from provision.engine.probe import probe
from provision.errors import ProvisionError
from provision.events import HostLooked, HostPlanned, HostUnreachable, InputRejected
from provision.model import Hardware, Host, HostPlan, Refusal
from provision.operations.decide import decide
from provision.operations.request import Input, Request
from provision.operations.run import Run


@dataclass(frozen=True)
class Planned:
    """A host that answered and for which there is a plan."""

    found: Found
    plan: HostPlan


def look_and_plan(run: Run, request: Request, given: Input) -> dict[str, Planned]:
    """The hosts that can be worked on, by name; of the others the events say why not."""
    with run.phase("look"):
        looked = preflight(run.workspace, _requirements(given.catalog), request.secrets.become_password)
        for unfit in looked.values():
            if isinstance(unfit, Unfit):
                _reject(run, unfit)
        fit = {name: found for name, found in looked.items() if isinstance(found, Found)}
        hardware = _probe_all(run, fit)
    with run.phase("plan"):
        plans = {host.name: _plan(run, given, host, hardware[host.name])
                 for host in given.hosts if host.name in hardware}  # fmt: skip
    return {name: Planned(fit[name], plan) for name, plan in plans.items() if plan}


def _requirements(catalog: Catalog) -> Requirements:
    return Requirements(distributions=frozenset((known.id, known.version) for known in catalog.distributions))


def _reject(run: Run, unfit: Unfit) -> None:
    name = unfit.host.name
    if unfit.unreachable:
        run.emit(HostUnreachable(run.id, name, unfit.refusals[0]))
    else:
        run.emit(InputRejected(run.id, unfit.refusals, name))


def _probe_all(run: Run, fit: Mapping[str, Found]) -> dict[str, Hardware]:
    """What each host is made of. One that cannot be probed is rejected, the others go on."""

    def one(found: Found) -> Hardware | Refusal:
        try:
            return probe(run.workspace, found)
        except ProvisionError as error:
            return error.refusals[0]

    hardware: dict[str, Hardware] = {}
    if not fit:
        return hardware
    with ThreadPoolExecutor(min(16, len(fit))) as pool:
        for name, seen in zip(fit, pool.map(one, fit.values()), strict=True):
            if isinstance(seen, Refusal):
                run.emit(InputRejected(run.id, (seen,), name))
            else:
                hardware[name] = seen
                run.emit(HostLooked(run.id, name, seen))
    return hardware


def _plan(run: Run, given: Input, host: Host, hardware: Hardware) -> HostPlan | None:
    decided = decide(run.id, given, host, hardware)
    run.emit(decided)
    return decided.plan if isinstance(decided, HostPlanned) else None
