"""A host's run on a line of time: a lane for each role, with its tasks, and then its checks.

Places are percentages, so that the words keep their size on a phone and on a wide screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from provision.cli.hosttext import duration
from provision.cli.htmlsvg import add, drawing, markup
from provision.events import CheckFinished, TaskFinished
from provision.report import HostOutcome

LANE, BAR = 42.0, 14.0
THINNEST = 0.35  # percent: what took no time is still seen
WRONG = ("failed", "unreachable", "check-failed", "check-error")
UNPROVED = "check-skipped"  # no failure, and no pass either
PREPARATION = "preparation"  # tasks of no role

Step = TaskFinished | CheckFinished
Span = tuple[float, float]


def span(outcomes: Iterable[HostOutcome]) -> Span | None:
    """From the first step's begin to the last one's end over all hosts, in Unix time; None where none is known."""
    steps = [step for outcome in outcomes for step in _timed(outcome)]
    if not steps:
        return None
    first = min(step.started for step in steps)
    return first, max(first + 0.1, *(step.started + step.seconds for step in steps))


def told(outcome: HostOutcome) -> str:
    """The same in words: what a screen reader reads."""
    lanes = _lanes(outcome)
    return "; ".join(f"{role}: {_sum(steps)}" for role, steps in lanes.items())


def svg(name: str, outcome: HostOutcome, over: Span) -> Markup:
    """The drawing of one host; `over` is the time that the whole width stands for, `name` is unique on the page."""
    lanes = _lanes(outcome)
    height = LANE * len(lanes) + 22
    title = f"Timeline of {outcome.host}"
    root = drawing(name, title, told(outcome), width="100%", height=height, class_="timeline")
    begin, end = over
    for row, (role, steps) in enumerate(lanes.items()):
        y = row * LANE
        add(root, "text", role, x=0, y=y + 15, class_="lane")
        add(root, "text", _brief(steps), x="100%", y=y + 15, text_anchor="end", class_="small")
        add(root, "rect", x=0, y=y + 22, width="100%", height=BAR, rx=3, class_="track")
        for step in steps:
            at = (step.started - begin) / (end - begin) * 100
            width = max(THINNEST, step.seconds / (end - begin) * 100)
            place = {"x": f"{min(at, 100 - THINNEST):.2f}%", "width": f"{min(width, 100 - at):.2f}%"}
            bar = add(root, "rect", y=y + 22, height=BAR, class_=f"step {_kind(step)}", **place)
            add(bar, "title", f"{_named(step)}: {step.state}, {duration(step.seconds)}")
    for x, anchor, share in (("0", "start", 0.0), ("50%", "middle", 0.5), ("100%", "end", 1.0)):
        words = duration((end - begin) * share) if share else "0 s"
        add(root, "text", words, x=x, y=height - 6, text_anchor=anchor, class_="small")
    return markup(root)


def _timed(outcome: HostOutcome) -> list[Step]:
    steps: list[Step] = [*outcome.tasks, *outcome.checks]
    return [step for step in steps if step.started]


def _lanes(outcome: HostOutcome) -> dict[str, list[Step]]:
    lanes: dict[str, list[Step]] = {}
    for step in _timed(outcome):
        lanes.setdefault(step.role or PREPARATION, []).append(step)
    return lanes


def _named(step: Step) -> str:
    return f"check {step.check}" if isinstance(step, CheckFinished) else step.task


def _kind(step: Step) -> str:
    return f"check-{step.state}" if isinstance(step, CheckFinished) else step.state


def _brief(steps: Sequence[Step]) -> str:
    """`9 s, 1 failed`: on a phone no more has room beside the role's name."""
    kinds = [_kind(step) for step in steps]
    bad, unproved = sum(kind in WRONG for kind in kinds), kinds.count(UNPROVED)
    words = f", {bad} failed" if bad else f", {unproved} unproved" if unproved else ""
    return duration(sum(step.seconds for step in steps)) + words


def _sum(steps: Sequence[Step]) -> str:
    """`9 s, 2 changed, 4 checks`."""
    states = Counter(step.state for step in steps if isinstance(step, TaskFinished))
    checks = [step for step in steps if isinstance(step, CheckFinished)]
    bad = sum(check.state != "passed" for check in checks)
    parts = [duration(sum(step.seconds for step in steps))]
    parts += [f"{states[state]} {state}" for state in ("changed", "failed", "unreachable") if states[state]]
    parts += [f"{len(checks)} check{'' if len(checks) == 1 else 's'}"] if checks else []
    parts += [f"{bad} not passed"] if bad else []
    return ", ".join(parts)
