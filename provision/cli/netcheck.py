"""`provision netcheck A B`."""

from __future__ import annotations

from pathlib import Path

import click

from provision.cli.present import attempt, leave, output_option


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "-i",
    "--inventory",
    "inventories",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Where A and B are described; may be repeated.",
)
@click.option("--address", default="", help="B's address as A reaches it, where it is not the one of SSH.")
@click.option("--seconds", type=click.IntRange(1, 600), default=5, show_default=True, help="For each direction.")
@click.option("--streams", type=click.IntRange(1, 64), default=4, show_default=True, help="At the same time.")
@click.option("--port", type=click.IntRange(1, 65535), default=5201, show_default=True, help="Where B listens.")
@output_option
def netcheck(first: str, second: str, inventories: tuple[Path, ...], output: str, **given: str | int) -> None:
    """Measure the network between two hosts with iperf3, both ways, and judge it against their link.

    Nothing is changed on the hosts; both need iperf3, which the role network brings.

    \b
    provision netcheck gpu1.example gpu2.example
    provision netcheck -i inventories/prod gpu1 gpu2 --address 198.51.100.2 --seconds 10
    """
    from provision.operations.netcheck import Wish
    from provision.operations.netcheck import netcheck as measure

    wish = Wish((first, second), inventories, **given)  # type: ignore[arg-type]  # click has typed them
    leave(attempt("netcheck", lambda: measure(wish)), output)
