"""`provision apply`: look, plan, act, prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from provision.engine.checks import check
from provision.engine.converge import ConvergeOptions, converge
from provision.events import HostUnreachable, InputRejected, TaskFinished
from provision.fold import DECLINED, preview
from provision.model import Refusal
from provision.operations.look import Planned, look_and_plan
from provision.operations.request import Request, read_request
from provision.operations.run import Run, Verb, Watcher, conduct
from provision.report import Report


@dataclass(frozen=True)
class ApplyOptions:
    """How to apply. `verify` False leaves the proof out, and the report says so."""

    check: bool = False
    diff: bool = False
    verify: bool = True
    reboot: str = "never"


def apply_hosts(
    request: Request, options: ApplyOptions, watcher: Watcher, confirm: Callable[[Report], bool] | None
) -> Report:
    """Make each host what its plan says and prove it. `confirm` is shown the plan and may decline; None asks nobody.

    A host whose input is refused stops all of them before anything is touched; one that does not answer stops only
    itself.
    """
    given = read_request(request)

    def work(run: Run) -> None:
        planned = look_and_plan(run, request, given)
        if not options.check:
            _demand_documented_hardware(run, request, planned)
        if not planned or any(isinstance(event, InputRejected) for event in run.events):
            return
        if confirm and not confirm(preview(run.events)):
            run.emit(InputRejected(run.id, (DECLINED,)))
            return
        with run.phase("act"):
            converge(run.workspace, planned, _converge_options(request, options), run.emit)
        if options.verify and not options.check:
            with run.phase("prove"):
                check(run.workspace, _converged(run, planned), request.jobs, run.emit)

    verb = Verb("apply", check_mode=options.check, proves=options.verify)
    return conduct(verb, request, given, watcher, work)


def _demand_documented_hardware(run: Run, request: Request, planned: Mapping[str, Planned]) -> None:
    """A box that is less than its tier documents is applied only when somebody says that this is known."""
    if request.accept_hardware:
        return
    for name, host in planned.items():
        if host.plan.shortfalls:
            lacks = "; ".join(f"{lack.subject}: {lack.documented}, found {lack.found}" for lack in host.plan.shortfalls)
            fact = f"has less than tier {host.plan.tier} documents: {lacks}"
            hint = "if that is meant, add --accept-hardware; or choose another tier: provision tiers"
            run.emit(InputRejected(run.id, (Refusal(name, fact, hint),), name))


def _converge_options(request: Request, options: ApplyOptions) -> ConvergeOptions:
    return ConvergeOptions(
        inventories=request.inventories,
        check=options.check,
        diff=options.diff,
        reboot=options.reboot == "allow",
        forks=request.jobs,
        transport=request.transport,
        vault_password=request.secrets.vault_password,
        vault_files=request.secrets.vault_files,
    )


def _converged(run: Run, planned: Mapping[str, Planned]) -> dict[str, Planned]:
    """The hosts on which no task failed: only they have something to prove."""
    lost = {event.host for event in run.events if isinstance(event, HostUnreachable)}
    lost |= {event.host for event in run.events if isinstance(event, TaskFinished) and event.state == "failed"}
    return {name: host for name, host in planned.items() if name not in lost}
