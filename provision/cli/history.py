"""`provision history` and `provision show RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from provision.cli import complete
from provision.cli.present import attempt, leave, output_option


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@output_option
def history(limit: int, output: str) -> None:
    """List the runs that were kept, newest first."""
    from provision.operations.history import list_runs

    leave(attempt("history", lambda: list_runs(limit)), output)


@click.command()
@click.argument("run", default="last", metavar="[RUN]", shell_complete=complete.run)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write the checks as JUnit XML.")
@click.option("-v", "--verbose", is_flag=True, help="Show every task and check.")
@output_option
def show(run: str, junit: Path | None, verbose: bool, output: str) -> None:
    """Show one run again. RUN is its id, the beginning of one, or `last`."""
    from provision.operations.history import show_run

    leave(attempt("show", lambda: show_run(run)), output, verbose=verbose, junit=junit)
