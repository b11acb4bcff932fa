"""Plain text with optional colour: lines, paragraphs and tables. Nothing a host said can move the cursor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from provision.redact import redact

BOLD, DIM, GREEN, YELLOW, RED = "1", "2", "32", "33", "31"

# Whole terminal escapes (CSI, OSC), then whatever else of C0 without tab and newline, DEL and C1.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WIDEST = 52  # a fingerprint of a key has 50

Segment = str | tuple[str, str]


def plain(text: str) -> str:
    """One host's words without control characters (newlines stay) and without secrets."""
    return _CONTROL.sub("", redact(text.replace("\r\n", "\n")))


class Page:
    """Collects lines; a segment is text, or text with its colour."""

    def __init__(self, *, color: bool) -> None:
        self.color = color
        self.lines: list[str] = []

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def line(self, *segments: Segment, indent: int = 0) -> None:
        """One line. Trailing blanks are dropped, so that a plain page can be compared byte for byte."""
        words = [(segment, "") if isinstance(segment, str) else segment for segment in segments]
        told = "".join(self._paint(plain(text).replace("\n", " "), style) for text, style in words)
        self.lines.append((" " * indent + told).rstrip())

    def gap(self) -> None:
        """An empty line, unless there is one already."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def paragraph(self, text: str, *, indent: int, style: str = "", most: int | None = None) -> None:
        """Several lines as they are; of more than `most` the rest is only counted."""
        lines = plain(text).rstrip().split("\n")
        for line in lines[:most]:
            self.line((line, style), indent=indent)
        if most is not None and len(lines) > most:
            self.line((f"... {len(lines) - most} more lines: add --verbose", DIM), indent=indent)

    def table(self, rows: Iterable[Sequence[Segment]], *, indent: int = 0, head: Sequence[str] = ()) -> None:
        """Rows in aligned columns. A cell that is very wide pushes its own row only."""
        cells = [[(head_cell, DIM) for head_cell in head]] if head else []
        cells += [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
        widths = [max(min(len(text), _WIDEST) for text, _ in column) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = [
                segment
                for (text, style), width in zip(row, widths, strict=True)
                for segment in ((text, style), " " * max(0, width - len(text)) + "  ")
            ]
            self.line(*padded, indent=indent)

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style and text else text
