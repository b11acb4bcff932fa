"""What takes long in the lab, told while it happens to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str], None]
_listeners: list[Listener] = []


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell this listener of every step that begins or ends meanwhile, in any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Something that takes long: told when it begins, and with its seconds when it ends."""
    _tell(f"{what} ...")
    began = time.monotonic()
    try:
        yield
    except BaseException:
        _tell(f"{what}: failed after {time.monotonic() - began:.0f} s")
        raise
    _tell(f"{what}: {time.monotonic() - began:.0f} s")


def _tell(line: str) -> None:
    for listener in list(_listeners):
        listener(line)
