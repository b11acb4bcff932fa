"""`provision trust HOST`."""

from __future__ import annotations

import sys

import click

from provision.cli.present import attempt, leave, output_option
from provision.model import Refusal
from provision.report import Report


@click.command()
@click.argument("host")
@click.option("--replace", is_flag=True, help="The host's key has changed and you know why: forget the old one.")
@click.option("--fingerprint", metavar="SHA256:...", help="Remember the key only if it has this fingerprint.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Only as safe as the network you are on.")
@output_option
def trust(host: str, replace: bool, fingerprint: str | None, yes: bool, output: str) -> None:
    """Show a host's key and remember it in your known_hosts.

    Compare the fingerprint with what the host's console shows:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    from provision.operations.trust import trust_host

    def confirm(shown: str) -> bool:
        click.echo(f"{host} shows the key {shown}", err=True)
        return yes or click.confirm("Remember it?", err=True)

    if not (yes or fingerprint or sys.stdin.isatty()):
        refusal = Refusal("trust", "has no terminal to ask on", "add --fingerprint SHA256:..., or --yes")
        leave(Report("trust", refusals=(refusal,)), output)
    leave(attempt("trust", lambda: trust_host(host, fingerprint, confirm, replace=replace)), output)
