"""`provision doctor`."""

from __future__ import annotations

import click

from provision.cli.present import attempt, leave, output_option


@click.command()
@output_option
def doctor(output: str) -> None:
    """Say whether this machine can provision others; each fault with its remedy."""
    from provision.operations.doctor import examine

    leave(attempt("doctor", examine), output)
