"""Shows a report in the form that was asked for and leaves with its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from provision.errors import ProvisionError, refuse
from provision.report import Report

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


def leave(report: Report, output: str, *, verbose: bool = False) -> NoReturn:
    """Print the report and exit with its code."""
    show(report, output, verbose=verbose)
    sys.exit(report.exit_code)


def attempt(verb: str, operation: Callable[[], Report]) -> Report:
    """Run an operation; what it refuses becomes a report like any other, so that JSON readers see it too."""
    try:
        return operation()
    except ProvisionError as error:
        if error.exit_code != 2:
            raise
        return Report(verb=verb, refusals=error.refusals)


def write_junit(report: Report, path: Path | None) -> None:
    """Write the checks of the report as JUnit XML, where a path was given."""
    if path is None:
        return
    from provision.cli.junit import junit

    try:
        path.write_text(junit(report), encoding="utf-8")
    except OSError as error:
        raise refuse(str(path), f"could not be written: {error.strerror}", "give --junit another path") from error
