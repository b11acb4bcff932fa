"""`provision explain`: why."""

from __future__ import annotations

from typing import Any

import click

from provision.cli import complete
from provision.cli.hosts import from_file, planned, request_of, selection
from provision.cli.present import leave


@click.command()
@click.argument("words", nargs=-1, metavar="[HOST] [SUBJECT]...", shell_complete=complete.subject)
@selection
@from_file
def explain(output: str, words: tuple[str, ...], **given: Any) -> None:
    """Show why it would be decided so: each choice, on what it rests, and what was rejected. Changes nothing.

    HOST comes first, unless -i or --hardware says which hosts. A SUBJECT is a setting, a role, or one of cards, driver,
    cuda, torch, tensorflow, python, roles, distribution; it is shown with everything it rests on.

    \b
    provision explain --tier workstation gpu1.example driver
    provision explain --tier datacenter --hardware lspci.txt --os ubuntu-24.04 torch python
    """
    from provision.operations.explain import explained, unknown

    named = given["hardware"] is not None or given["inventories"]
    hosts, subjects = ((), words) if named else (words[:1], words[1:])
    request = request_of({**given, "hosts": hosts}, *unknown(subjects))
    leave(explained(planned("explain", request), subjects), output)
