"""`provision lab`: throwaway targets."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from provision.cli import complete
from provision.cli.asroot import become_root, give_back
from provision.cli.present import attempt, leave, output_option
from provision.report import Report


@click.group()
def lab() -> None:
    """Throwaway targets that boot systemd and are reached over SSH: containers, and virtual machines.

    \b
    provision lab up demo
    provision apply --tier budget -i "$(provision lab inventory)" --limit demo --accept-hardware
    provision lab down demo
    """


def _run(verb: str, operation: Callable[[], Report], output: str) -> None:
    """Do something with targets, as root where that is needed, and say meanwhile what takes long."""
    from provision.lab import told_to

    def as_who_may() -> Report:
        become_root()
        with told_to(lambda line: click.echo(f"lab: {line}", err=True)):
            try:
                return operation()
            finally:
                give_back()

    leave(attempt(verb, as_who_may), output)


@lab.command()
@click.argument("name", default="demo")
@click.option(
    "--image",
    default="",
    shell_complete=complete.image,
    help="`provision lab images` lists them.  [default: debian-12, vm-debian-12 with --vm]",
)
@click.option("--vm", is_flag=True, help="A virtual machine: disks, kernel and boot loader of its own; it reboots.")
@output_option
def up(name: str, image: str, vm: bool, output: str) -> None:
    """Bring up a target. The first one makes the image: a minute, or two for a virtual machine."""
    from provision.operations.lab import bring_up

    _run("lab up", lambda: bring_up(name, image, vm=vm), output)


@lab.command("list")
@output_option
def list_(output: str) -> None:
    """List the targets that are up."""
    from provision.operations.lab import list_targets

    _run("lab list", list_targets, output)


@lab.command()
@output_option
def images(output: str) -> None:
    """List what a target can be made from."""
    from provision.operations.lab import list_images

    leave(attempt("lab images", list_images), output)


@lab.command()
@click.argument("names", nargs=-1, metavar="[IMAGE]...", shell_complete=complete.image)
@output_option
def build(names: tuple[str, ...], output: str) -> None:
    """Make images before they are needed, side by side; those that are there are left alone.

    Without names: those of `provision lab up` and `provision lab up --vm`.
    """
    from provision.operations.lab import build_images

    _run("lab build", lambda: build_images(names), output)


@lab.command()
def inventory() -> None:
    """Print the path of the inventory that lists the targets."""
    from provision.lab import inventory_path

    click.echo(inventory_path())


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", shell_complete=complete.target)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--user", default="", help="admin (the default), needpass or nosudo.")
def ssh(name: str, command: tuple[str, ...], user: str) -> None:
    """Log in to a target, or run a command there."""
    from provision.lab import ssh_argv

    argv = [*ssh_argv(name, user), *command]
    os.execvp(argv[0], argv)  # noqa: S606  the terminal becomes ssh's


@lab.command()
@click.argument("name", required=False, shell_complete=complete.target)
@click.option("--all", "every", is_flag=True, help="Every target of the lab.")
@output_option
def down(name: str | None, every: bool, output: str) -> None:
    """Remove a target and everything it left behind."""
    from provision.operations.lab import take_down

    _run("lab down", lambda: take_down(name, every=every), output)
