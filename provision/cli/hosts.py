"""The verbs that work on hosts: apply, plan, verify."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from provision.cli import complete
from provision.cli.present import attempt, colour_wanted, leave, no_page, output_option, report_option, unwritable
from provision.model import Refusal
from provision.report import Report

if TYPE_CHECKING:
    from provision.operations.request import Request

NOBODY_TO_ASK = Refusal(
    "apply", "changes hosts and there is no terminal to ask on", "add --yes, or look first with --check"
)

F = TypeVar("F", bound=Callable[..., Any])

HOSTS = click.argument("hosts", nargs=-1, metavar="[HOST]...")
_SELECTION = [
    click.option("-i", "--inventory", "inventories", multiple=True, type=click.Path(path_type=Path),
                 help="An inventory in any form Ansible reads; may be repeated."),
    click.option("--limit", metavar="PATTERN", help="Which hosts of the inventory, as an Ansible pattern."),
    click.option("--tier", metavar="NAME|FILE", shell_complete=complete.tier,
                 help="A tier's name, or your own file that extends one."),
    click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", shell_complete=complete.setting,
                 help="Override one setting, typed as YAML; may be repeated. See docs/settings.md."),
    click.option("--only", multiple=True, metavar="ROLE", shell_complete=complete.role,
                 help="Only this role; may be repeated."),
    click.option("--skip", multiple=True, metavar="ROLE", shell_complete=complete.role,
                 help="All but this role; may be repeated."),
    click.option("--assume-gpu", default="", metavar="PRODUCT", shell_complete=complete.gpu,
                 help="What to take GPUs for that the catalogue does not know, or that a box does not show."),
    click.option("--jobs", type=click.IntRange(1, 500), default=5, show_default=True, help="Hosts at the same time."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the sudo password."),
    click.option("--become-password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="Read the sudo password from this file."),
    click.option("--ask-vault-pass", is_flag=True, help="Ask for the vault password of the inventory."),
    click.option("--vault-password-file", "vault_files", multiple=True,
                 type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="A file with a vault password; may be repeated."),
]  # fmt: skip


_FROM_FILE = [
    click.option("--hardware", metavar="FILE", type=click.Path(path_type=str),
                 help="Look at no host: FILE is what `lspci -nn` or `plan --output json` printed, or - for stdin."),
    click.option("--os", metavar="ID-VERSION", shell_complete=complete.system,
                 help="The operating system, which lspci does not tell: ubuntu-22.04."),
]  # fmt: skip


def selection(command: F) -> F:
    """The options that say which hosts, which tier and which settings."""
    for option in reversed(_SELECTION):
        command = option(command)
    return output_option(command)


def from_file(command: F) -> F:
    """The options of the verbs that only decide, and so can do without the hosts."""
    for option in reversed(_FROM_FILE):
        command = option(command)
    return command


@click.command()
@HOSTS
@selection
@click.option("--accept-hardware", is_flag=True, help="Apply although the box is less than its tier documents.")
@click.option("--check", is_flag=True, help="Foretell what would change; write nothing.")
@click.option("--diff", is_flag=True, help="Show the differences of files.")
@click.option("--no-verify", is_flag=True, help="Do not prove the result. The report says so.")
@click.option("--reboot", type=click.Choice(["never", "allow"]), default="never", show_default=True,
              help="May a host be rebooted where a role needs it.")  # fmt: skip
@click.option("--transport", type=click.Choice(["ssh", "mitogen"]), default="ssh", show_default=True,
              help="mitogen is faster and needs: uv pip install 'mitogen>=0.3.54,<0.4'.")  # fmt: skip
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write the checks as JUnit XML.")
@report_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask before changing hosts.")
@click.option("-v", "--verbose", is_flag=True, help="Show every task and check.")
def apply(output: str, verbose: bool, junit: Path | None, page: Path | None, **given: Any) -> None:
    """Make hosts what their tier says, and prove it.

    HOST is a name, user@host:port, an IPv6 address, or an alias from your ssh configuration. With -i, it chooses from
    the inventory, as --limit does.

    \b
    provision apply --tier workstation gpu1.example
    provision apply -i inventories/prod --limit 'studio:!gpu3' --check --diff
    provision apply --tier budget gpu1.example --set docker_live_restore=false --only docker
    """
    from provision.cli.progress import Progress
    from provision.operations.apply import ApplyOptions, apply_hosts

    options = ApplyOptions(
        check=given.pop("check"),
        diff=given.pop("diff"),
        verify=not given.pop("no_verify"),
        reboot=given.pop("reboot"),
    )
    ask = not given.pop("yes") and not options.check
    nobody = (NOBODY_TO_ASK,) if ask and not sys.stdin.isatty() else ()
    request = request_of(given, *nobody, *unwritable(junit), *no_page(page))
    with Progress() as progress:
        confirm = progress.paused(_ask) if ask else None
        report = attempt("apply", lambda: apply_hosts(request, options, progress, confirm))
    leave(report, output, verbose=verbose, junit=junit, page=page)


@click.command()
@HOSTS
@selection
@from_file
@report_option
@click.option("-v", "--verbose", is_flag=True, help="Show every setting, and what was not chosen.")
def plan(output: str, verbose: bool, page: Path | None, **given: Any) -> None:
    """Show what would be decided for hosts, and why. Changes nothing.

    \b
    provision plan --tier budget gpu1.example
    provision plan -i inventories/prod --output json
    ssh gpu1.example lspci -nn | provision plan --tier budget --hardware - --os ubuntu-22.04
    """
    leave(planned("plan", request_of(given, *no_page(page))), output, verbose=verbose, page=page)


@click.command()
@HOSTS
@selection
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write the checks as JUnit XML.")
@report_option
@click.option("-v", "--verbose", is_flag=True, help="Show every check.")
def verify(output: str, verbose: bool, junit: Path | None, page: Path | None, **given: Any) -> None:
    """Prove that hosts are what their tier says. Changes nothing.

    \b
    provision verify --tier budget gpu1.example
    provision verify -i inventories/prod --jobs 20 --junit verify.xml
    """
    from provision.cli.progress import Progress
    from provision.operations.verify import verify_hosts

    request = request_of(given, *unwritable(junit), *no_page(page))
    with Progress() as progress:
        report = attempt("verify", lambda: verify_hosts(request, progress))
    leave(report, output, verbose=verbose, junit=junit, page=page)


def planned(verb: str, request: Request) -> Report:
    """Decide for the hosts, with their progress on the terminal, or for the boxes of a file."""
    from provision.cli.progress import Progress
    from provision.operations.plan import plan_file, plan_hosts

    if request.hardware is not None:
        return attempt(verb, lambda: plan_file(request, verb))
    with Progress() as progress:
        return attempt(verb, lambda: plan_hosts(request, progress, verb))


def request_of(given: dict[str, Any], *faults: Refusal) -> Request:
    """The request, with the faults that only the command line can know of."""
    from provision.operations.request import Request, Secrets

    asked = {"become": given.pop("ask_become_pass"), "vault": given.pop("ask_vault_pass")}
    if not sys.stdin.isatty():
        faults += tuple(
            Refusal(f"--ask-{kind}-pass", "has no terminal to ask on", f"give --{kind}-password-file FILE")
            for kind, wanted in asked.items()
            if wanted
        )
        asked = {}
    become = click.prompt("sudo password", hide_input=True, err=True) if asked.get("become") else None
    password_file = given.pop("become_password_file")
    if password_file and become is None:
        become = password_file.read_text(encoding="utf-8").rstrip("\n")
    vault = click.prompt("vault password", hide_input=True, err=True) if asked.get("vault") else None
    secrets = Secrets(become_password=become, vault_password=vault, vault_files=tuple(given.pop("vault_files")))
    return Request(targets=given.pop("hosts"), secrets=secrets, argv=tuple(sys.argv[1:]), faults=faults, **given)


def _ask(report: Report) -> bool:
    from provision.cli.render import text

    click.echo(text(report, color=colour_wanted(sys.stderr), verdict=False), err=True)
    count = len(report.hosts)
    return click.confirm(f"Apply this to {count} host{'s' if count != 1 else ''}?", err=True)
