"""Did-you-mean: the known names that a mistyped one most resembles."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean X? ` and `otherwise`, the next command; `otherwise` alone where nothing resembles `name`."""
    near = nearest(name, known, 1)
    return f"did you mean {near[0]}? otherwise {otherwise}" if near else otherwise


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that resemble `name`, the most similar first."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)


def resembles(name: str, known: Iterable[str]) -> bool:
    """Whether `name` is so near to a known one that a slip of the finger is the likely reason."""
    return bool(difflib.get_close_matches(name, list(known), n=1, cutoff=0.85))
