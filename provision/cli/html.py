"""A report as one page of HTML: no script and nothing from elsewhere; legible on a phone, in the dark and on paper.

The page is made of the JSON document, so that what is hidden there is hidden here; the templates escape all of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from provision import link_speed
from provision.cli import htmlcooling, htmldisks, htmltimeline, plantext, render
from provision.cli.hosttext import STATE_STYLES, counts, duration
from provision.cli.page import GREEN, RED, YELLOW, plain
from provision.report import HostOutcome, Report

TONES = {GREEN: "good", YELLOW: "warn", RED: "bad"}  # the text's colours, which light and dark have their own shades of
CHECK_TONES = {"passed": "good", "skipped": "warn"}
TASK_TONES = {"ok": "calm", "changed": "new", "skipped": "none", "unreachable": "warn"}
MARKS = {"good": "✓", "warn": "!", "bad": "✕", "new": "•", "calm": "✓", "none": "·"}
COMMAND = re.compile(r": ((?:provision|ssh) .*)$")  # at the end of a next step's sentence
UNFOLDED = 3  # of more hosts than this, those that are well are folded up


def html(report: Report) -> str:
    """The page as text."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "duration": duration,
        "size": htmldisks.size,
        "memory": lambda count: f"{count / 2**30:.0f} GiB",
        "speed": link_speed.say,
        "compact": lambda value: value if value and isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "soft": _soft,
        "step": _step,
        "check_tone": lambda state: CHECK_TONES.get(state, "bad"),
        "worst": _worst,
        "task_tone": lambda state: TASK_TONES.get(state, "bad"),
        "mark": MARKS.__getitem__,
    }
    templates.filters.update(filters)
    document = _clean(render.json_document(report))
    span = htmltimeline.span(report.hosts)
    hosts = [
        {**told, **_drawn(f"h{place}", outcome, told, report), "timeline": _timeline(f"h{place}", outcome, span)}
        for place, (outcome, told) in enumerate(zip(report.hosts, document["hosts"], strict=True), start=1)
    ]
    running = bool(report.data.get("running"))
    return templates.get_template("report.html.j2").render(
        document=document,
        hosts=hosts,
        headline=plain(render.headline(report)),
        meaning="still running" if running else render.meaning(report),
        tone=TONES[render.STYLES["running" if running else report.status]],
        unfolded=UNFOLDED,
    )


def _drawn(name: str, outcome: HostOutcome, told: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """What the page says of a host beyond the document: the same words as the text, and the drawings."""
    plan, hardware = told["plan"], told["hardware"]
    settings = plan["settings"] if plan else {}
    layout, curves = _rows(settings.get("storage_layout")), _rows(settings.get("cooling_curves"))
    disks = hardware["disks"] if hardware else []
    checks = [{**check, "place": f"check{n}"} for n, check in enumerate(told["checks"], start=1)]
    return {
        "name": name,
        "tone": TONES[STATE_STYLES[outcome.state]],
        "counts": counts(outcome, report),
        "stack": _clean(plantext.stack(outcome.plan)) if outcome.plan else [],
        "checks": checks,
        "checks_by_role": _by_role(checks),
        "layout": htmldisks.svg(f"{name}-disks", layout, disks) if layout else "",
        "curves": [
            {
                "name": plain(str(curve.get("name", ""))),
                "drawing": htmlcooling.svg(f"{name}-curve{n}", curve),
                "told": plain(htmlcooling.told(curve)),
            }
            for n, curve in enumerate(curves, start=1)
        ],
    }


def _timeline(name: str, outcome: HostOutcome, span: htmltimeline.Span | None) -> Markup | str:
    timed = span and htmltimeline.span([outcome])
    return htmltimeline.svg(f"{name}-timeline", outcome, span) if span and timed else ""


def _by_role(checks: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    roles: dict[str, list[Mapping[str, Any]]] = {}
    for check in checks:
        roles.setdefault(check["role"] or "verification", []).append(check)
    return roles


def _worst(tones: Iterable[str]) -> str:
    return max(tones, key=("good", "warn", "bad").index)


def _rows(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a setting; one that somebody pinned to another shape is told among the settings only."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def _step(sentence: str) -> tuple[str, str]:
    """A next step as its words and the command at its end."""
    found = COMMAND.search(sentence)
    return (sentence[: found.start()], found[1]) if found else ("", sentence)


def _soft(text: str) -> Markup:
    """Long names break after an underscore before they break anywhere."""
    return Markup("_<wbr>").join(text.split("_"))


def _clean(data: Any) -> Any:
    """Plain data whose text cannot carry control characters or secrets."""
    if isinstance(data, str):
        return plain(data)
    if isinstance(data, Mapping):
        return {plain(str(key)): _clean(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_clean(item) for item in data]
    return data
