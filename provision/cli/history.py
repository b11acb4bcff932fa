"""`provision history` and `provision show RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from provision.cli import complete
from provision.cli.present import attempt, leave, no_page, output_option
from provision.report import Report

BY_ITS_ID = Path("RUN.html")


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
@click.option("--html", "page", is_flag=False, flag_value=str(BY_ITS_ID), metavar="[FILE.html]",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Also write it as a page: one file that needs no network and no script.")  # fmt: skip
@output_option
def show(run: str, junit: Path | None, page: Path | None, verbose: bool, output: str) -> None:
    """Show one run again. RUN is its id, the beginning of one, or `last`.

    \b
    provision show
    provision show 20261122 --html report.html
    provision show last --html            writes RUN.html, by its id, into this folder
    """
    from provision.operations.history import show_run

    faults = no_page(page, "--html")
    if faults:
        leave(Report("show", refusals=faults), output)
    report = attempt("show", lambda: show_run(run))
    if page == BY_ITS_ID:
        page = Path(f"{report.run}.html") if report.run else None
        if page:
            click.echo(f"provision: its page is {page}", err=True)
    leave(report, output, verbose=verbose, junit=junit, page=page)
