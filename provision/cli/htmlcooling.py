"""A fan curve drawn: from temperature to duty, with its hysteresis, its floor and its failsafe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from provision.cli.htmlsvg import add, drawing, markup, number

LEFT, RIGHT, TOP, BOTTOM = 44.0, 340.0, 20.0, 192.0
COLDEST, HOTTEST = 20.0, 100.0  # degrees Celsius, unless the curve goes beyond

FIXED = "\N{NO-BREAK SPACE}"  # keeps a number with its unit

Point = tuple[float, float]


def points_of(curve: Mapping[str, Any]) -> list[Point]:
    """(Celsius, percent), in the order of temperature."""
    given = curve.get("points") or ()
    return sorted(
        (number(pair[0]), number(pair[1])) for pair in given if isinstance(pair, list | tuple) and len(pair) == 2
    )


def told(curve: Mapping[str, Any]) -> str:
    """The same in words: what a screen reader reads, and what stands below the drawing."""
    steps = ", ".join(f"{percent:g} % at {celsius:g} °C" for celsius, percent in points_of(curve))
    sources = [str(source) for source in curve.get("sources") or ("no sensor",)]
    outputs = " and ".join(map(str, curve.get("outputs") or ("no fan",)))
    by = f"the hottest of {' and '.join(sources)}" if len(sources) > 1 else sources[0]
    parts = [
        f"{outputs} by {by}: {steps or 'no points'}",
        f"slower again only {number(curve.get('hysteresis_c')):g} °C below",
        f"never under {number(curve.get('floor_percent')):g} %",
        f"{number(curve.get('failsafe_percent'), 100):g} % when the sensor or the controller is lost",
    ]
    return "; ".join(parts).replace(" %", f"{FIXED}%").replace(" °C", f"{FIXED}°C")


def svg(name: str, curve: Mapping[str, Any]) -> Markup:
    """The drawing of one entry of the setting `cooling_curves`; `name` is unique on the page."""
    root = drawing(name, f"Fan curve {curve.get('name', '')}", told(curve), viewBox="0 0 360 230", class_="curve")
    points = points_of(curve)
    warmth = [celsius for celsius, _ in points]
    scale = _Scale(min([COLDEST, *warmth]), max([HOTTEST, *warmth]))
    _axes(root, scale)
    if points:
        whole = [(scale.low, points[0][1]), *points, (scale.high, points[-1][1])]
        later = [(celsius - number(curve.get("hysteresis_c")), percent) for celsius, percent in whole]
        add(root, "polygon", points=_joined(scale, [*whole, *reversed(later)]), class_="band")
        add(root, "polyline", points=_joined(scale, whole), class_="line")
    for words, default, at, anchor in (("floor", 0.0, RIGHT, "end"), ("failsafe", 100.0, LEFT, "start")):
        percent = number(curve.get(f"{words}_percent"), default)
        _, y = scale.place(scale.low, percent)
        add(root, "line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_=words)
        add(root, "text", f"{words} {percent:g} %", x=at, y=y - 5, text_anchor=anchor, class_=f"small {words}-word")
    for celsius, percent in points:
        x, y = scale.place(celsius, percent)
        dot = add(root, "circle", cx=x, cy=y, r=3.5, class_="dot")
        add(dot, "title", f"{celsius:g} °C: {percent:g} %")
    return markup(root)


@dataclass(frozen=True)
class _Scale:
    """From degrees and percent to places in the drawing; what lies outside is put on its edge."""

    low: float
    high: float

    def place(self, celsius: float, percent: float) -> Point:
        across = (min(max(celsius, self.low), self.high) - self.low) / (self.high - self.low)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - min(max(percent, 0.0), 100.0) / 100 * (BOTTOM - TOP)


def _axes(root: ET.Element, scale: _Scale) -> None:
    for percent in (0, 25, 50, 75, 100):
        _, y = scale.place(scale.low, percent)
        add(root, "line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid")
        add(root, "text", f"{percent} %", x=LEFT - 6, y=y + 4, text_anchor="end", class_="small")
    for step in range(5):
        celsius = scale.low + (scale.high - scale.low) * step / 4
        x, _ = scale.place(celsius, 0)
        add(root, "text", f"{celsius:g} °C", x=x, y=BOTTOM + 18, text_anchor="middle", class_="small")
    words = "temperature → duty"
    add(root, "text", words, x=(LEFT + RIGHT) / 2, y=BOTTOM + 35, text_anchor="middle", class_="small")


def _joined(scale: _Scale, points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (scale.place(*point) for point in points))
