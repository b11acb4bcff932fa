"""Shows a report in the form that was asked for and leaves with its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from provision.errors import ProvisionError
from provision.model import Refusal
from provision.report import EXIT_UNREACHABLE, HostOutcome, Report

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """`--output text|json`, which every verb that prints has."""
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print the answer; json is one documented document (docs/report.md).",
    )(command)


def colour_wanted(stream: Any = None) -> bool:
    """Colour only for a person: a terminal, and NO_COLOR not set (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and bool((stream or sys.stdout).isatty())


def show(report: Report, output: str, *, verbose: bool = False) -> None:
    """Print the report to standard output."""
    from provision.cli import render

    if output == "json":
        import json

        click.echo(json.dumps(render.json_document(report), indent=2))
    else:
        click.echo(render.text(report, color=colour_wanted(), verbose=verbose), nl=False)


def leave(report: Report, output: str, *, verbose: bool = False, junit: Path | None = None) -> NoReturn:
    """Print the report, write its checks as JUnit XML where a path was given, and exit with its code."""
    show(report, output, verbose=verbose)
    if junit:
        _write_junit(report, junit)
    sys.exit(report.exit_code)


def attempt(verb: str, operation: Callable[[], Report]) -> Report:
    """Run an operation; what it refuses becomes a report like any other, so that JSON readers see it too."""
    try:
        return operation()
    except ProvisionError as error:
        if error.exit_code != EXIT_UNREACHABLE:
            return Report(verb, refusals=error.refusals)
        lost = (HostOutcome(refusal.subject, "unreachable", failure=refusal) for refusal in error.refusals)
        return Report(verb, hosts=tuple(lost))


def unwritable(path: Path | None) -> tuple[Refusal, ...]:
    """Why nothing can be written to `--junit PATH`, for a verb that is about to work for what shall stand there."""
    if path is None or os.access(path, os.W_OK):
        return ()
    if not os.access(path, os.F_OK) and os.access(f"{path.absolute().parent}/", os.W_OK):  # the slash: a file is none
        return ()
    return (Refusal(f"--junit {path}", "cannot be written", "give it a path in a folder that is there and yours"),)


def _write_junit(report: Report, path: Path) -> None:
    """The report was shown and its code stands, whatever becomes of the file."""
    from provision.cli.junit import junit

    try:
        path.write_text(junit(report), encoding="utf-8")
    except OSError as error:
        if not set(unwritable(path)) & set(report.refusals):  # those were told already
            click.echo(f"provision: --junit {path} could not be written: {error.strerror}", err=True)
