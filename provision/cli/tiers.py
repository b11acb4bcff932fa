"""`provision tiers` and `provision tiers show`."""

from __future__ import annotations

import click

from provision.cli import complete
from provision.cli.present import attempt, leave, output_option


@click.group(invoke_without_command=True)
@output_option
@click.pass_context
def tiers(ctx: click.Context, output: str) -> None:
    """List the tiers, or show what one means.

    \b
    provision tiers
    provision tiers show workstation
    provision tiers show ./mine.yml
    """
    if ctx.invoked_subcommand is None:
        from provision.operations.tiers import list_tiers

        leave(attempt("tiers", list_tiers), output)


@tiers.command()
@click.argument("tier", metavar="NAME|FILE", shell_complete=complete.tier)
@output_option
def show(tier: str, output: str) -> None:
    """Show what a tier means: hardware, roles, settings, workloads, what is not managed yet."""
    from provision.operations.tiers import show_tier

    leave(attempt("tiers show", lambda: show_tier(tier)), output)
