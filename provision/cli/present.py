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

YOURS = "give it a path in a folder that is there and yours"

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


def report_option(command: F) -> F:
    """`--report FILE.html`, which the verbs that make a run have."""
    return click.option(
        "--report",
        "page",
        metavar="FILE.html",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Also write the report as a page: one file that needs no network and no script.",
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


def leave(
    report: Report, output: str, *, verbose: bool = False, junit: Path | None = None, page: Path | None = None
) -> NoReturn:
    """Print the report, write its checks as JUnit XML and its page where a path was given, and exit with its code."""
    show(report, output, verbose=verbose)
    if junit:
        _write_junit(report, junit)
    if page:
        _write_page(report, page)
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
    if path is None or os.access(path, os.W_OK) or (not os.access(path, os.F_OK) and _writable_folder(path)):
        return ()
    return (Refusal(f"--junit {path}", "cannot be written", YOURS),)


def no_page(path: Path | None, option: str = "--report") -> tuple[Refusal, ...]:
    """The same for a page, which replaces what stood there."""
    if path is None:
        return ()
    if path.suffix.lower() != ".html":
        hint = f"let it end in .html: {option} {path.with_suffix('.html')}"
        before = "; RUN comes before --html" if option == "--html" else ""
        return (Refusal(f"{option} {path}", "is not the name of a page", hint + before),)
    return () if _writable_folder(path) else (Refusal(f"{option} {path}", "cannot be written", YOURS),)


def _writable_folder(path: Path) -> bool:
    return os.access(f"{path.absolute().parent}/", os.W_OK | os.X_OK)  # the slash: a file is none


def _write_page(report: Report, path: Path) -> None:
    """Whole or not at all, and for its owner's eyes only: a page tells much about a host."""
    if set(no_page(path)) & set(report.refusals):  # told already
        return
    from tempfile import NamedTemporaryFile

    from provision.cli.html import html

    try:
        with NamedTemporaryFile("wb", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(html(report).encode(errors="replace"))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        click.echo(f"provision: the page {path} could not be written: {error.strerror}", err=True)


def _write_junit(report: Report, path: Path) -> None:
    """The report was shown and its code stands, whatever becomes of the file."""
    from provision.cli.junit import junit

    try:
        path.write_text(junit(report), encoding="utf-8")
    except OSError as error:
        if not set(unwritable(path)) & set(report.refusals):  # those were told already
            click.echo(f"provision: --junit {path} could not be written: {error.strerror}", err=True)
