"""The command line: parse, call one operation, show its report, exit with its code.

Commands are imported when they are called, so that `provision --help` and completion stay quick.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import traceback

import click

VERBS = {
    "apply": ("provision.cli.hosts", "Make hosts what their tier says, and prove it."),
    "plan": ("provision.cli.hosts", "Show what would be decided for hosts, and why. Changes nothing."),
    "explain": ("provision.cli.explain", "Show why it would be decided so: each choice, and what was rejected."),
    "verify": ("provision.cli.hosts", "Prove that hosts are what their tier says. Changes nothing."),
    "netcheck": ("provision.cli.netcheck", "Measure the network between two hosts and judge it against their link."),
    "trust": ("provision.cli.trust", "Show a host's key and remember it in your known_hosts."),
    "tiers": ("provision.cli.tiers", "List the tiers, or show what one means."),
    "catalog": ("provision.cli.catalog", "Say what of the facts about GPUs, drivers and frameworks is unsound or old."),
    "history": ("provision.cli.history", "List the runs that were kept."),
    "show": ("provision.cli.history", "Show one run again: its report, as text, JSON, JUnit or a page."),
    "doctor": ("provision.cli.doctor", "Say whether this machine can provision others."),
    "lab": ("provision.cli.lab", "Throwaway targets to try things on."),
    "completion": ("provision.cli.completion", "Print the completion script for your shell."),
}

EPILOG = """\b
First steps:
  provision doctor                              is this machine able?
  provision trust gpu1.example                  check and remember the host's key
  provision plan --tier budget gpu1.example     what would be done, and why
  provision apply --tier budget gpu1.example    do it and prove it
\b
Exit codes:
  0 as declared    1 a host failed    2 input wrong, nothing touched    3 only unreachable hosts
  4 converged, but verification disagrees    5 halted by policy    130 interrupted
"""


class Verbs(click.Group):
    """A group whose commands are imported when needed, with the nearest name for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            meant = f"did you mean: provision {near[0]}" if near else "see: provision --help"
            raise click.UsageError(f"there is no command {args[0]!r}; {meant}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="provision")
def cli() -> None:
    """Turn a bare Ubuntu or Debian box into a documented AI server, and prove it."""


def run() -> None:
    """The one place where exceptions end. A traceback goes to a log, never to the operator's screen."""
    from provision.errors import ProvisionError

    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--output=json" in sys.argv or ("--output", "json") in itertools.pairwise(sys.argv):
            _show_usage_error(error)
        error.show()
        sys.exit(error.exit_code)
    except ProvisionError as error:  # a verb that failed before it had a report to show
        for refusal in error.refusals:
            click.echo(f"provision: {refusal}\n  {refusal.hint}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("provision: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `provision history | head`
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the last line of defence: a person reads one sentence, a developer the log
        click.echo(f"provision: internal error: {type(error).__name__}: {error}\n  {_keep_traceback()}", err=True)
        sys.exit(1)


def _show_usage_error(error: click.ClickException) -> None:
    """A wrong call as the same document as every other refusal, for the program that asked for one."""
    from provision.cli.present import show
    from provision.model import Refusal
    from provision.report import Report

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "provision"
    verb = command.partition(" ")[2] or "provision"
    refusal = Refusal(command, f"was called wrongly: {error.format_message()}", f"{command} --help")
    show(Report(verb, refusals=(refusal,)), "json")


def _keep_traceback() -> str:
    from provision.ledger import state_home

    path = state_home() / "crash.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8")
        path.chmod(0o600)
    except OSError as error:
        return f"the traceback could not be kept in {path}: {error.strerror}"
    return f"the traceback is in {path}; please report it"
