"""The one exception type: a list of refusals, raised anywhere, caught once by the command line."""

from __future__ import annotations

from collections.abc import Iterable

from provision.model import Refusal


class ProvisionError(Exception):
    """Input or circumstances forbid the run; nothing on any host was touched.

    Carries every fault found, so that an operator mends a file once and not fault by fault.
    """

    def __init__(self, refusals: Refusal | Iterable[Refusal], exit_code: int = 2) -> None:
        self.refusals: tuple[Refusal, ...] = (refusals,) if isinstance(refusals, Refusal) else tuple(refusals)
        self.exit_code = exit_code
        super().__init__("; ".join(str(refusal) for refusal in self.refusals))


def refuse(subject: str, fact: str, hint: str) -> ProvisionError:
    """One refusal as an exception, ready to be raised."""
    return ProvisionError(Refusal(subject, fact, hint))
