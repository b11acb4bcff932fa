"""`provision completion SHELL`: click's own completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for your shell.

    \b
    bash: provision completion bash > ~/.local/share/bash-completion/completions/provision
    zsh:  provision completion zsh > "${fpath[1]}/_provision"
    fish: provision completion fish > ~/.config/fish/completions/provision.fish
    """
    from provision.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # the choices above are click's own three
    click.echo(kind(cli, {}, "provision", "_PROVISION_COMPLETE").source())
