"""`provision catalog check`."""

from __future__ import annotations

import click

from provision.cli.present import attempt, leave, output_option


@click.group()
def catalog() -> None:
    """The facts that plans are made of: GPUs, drivers, CUDA, frameworks."""


@catalog.command()
@output_option
def check(output: str) -> None:
    """Say what of the catalogue is unsound, has ended or ends soon, and where it has holes.

    Exit code 1 where a hole breaks planning, else 0.
    """
    from provision.operations.catalog import check as examine

    leave(attempt("catalog check", examine), output)
