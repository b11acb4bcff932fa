"""A trace of temperature and duty over time as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

WIDTH, HEIGHT, LEFT, TOP = 1400, 420, 50, 40


def plot(rows: Sequence[Sequence[Any]]) -> str:
    """`rows` are seconds, phase, Celsius, the PWM register (0 to 255) and its control bits."""
    end = rows[-1][0] or 1

    def place(seconds: float, percent: float) -> str:
        return f"{LEFT + seconds / end * (WIDTH - 2 * LEFT):.1f},{TOP + (1 - percent / 100) * (HEIGHT - 2 * TOP):.1f}"

    def line(points: Iterable[str], colour: str) -> str:
        return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(points)}"/>'

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for index, (phase, group) in enumerate(groupby(rows, key=lambda row: row[1])):
        x = place(next(group)[0], 0).split(",")[0]
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - TOP}" stroke="#ccc"/>')
        parts.append(f'<text x="{x}" y="{12 + index % 3 * 11}" font-size="10">{phase}</text>')
    for percent in (0, 25, 50, 75, 100):
        y = place(0, percent).split(",")[1]
        parts.append(f'<text x="{LEFT - 8}" y="{y}" font-size="10" text-anchor="end">{percent}</text>')
    # A faulty input reads -128 in the register: it is drawn at the bottom.
    heat = (place(row[0], row[2] if row[2] < 128 else 0) for row in rows)
    parts.append(line(heat, "#c0392b"))
    parts.append(line((place(row[0], row[3] / 2.55) for row in rows), "#2471a3"))
    told = '<tspan fill="#c0392b">Celsius</tspan>, <tspan fill="#2471a3">percent in the register</tspan>'
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 12}" font-size="12">{told}; seconds 0 to {end:.0f}</text></svg>')
    return "\n".join(parts)
