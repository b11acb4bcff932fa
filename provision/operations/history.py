"""The runs that were kept."""

from __future__ import annotations

from provision.ledger import Ledger
from provision.report import Report


def list_runs(limit: int) -> Report:
    """The newest `limit` runs, and of interrupted ones that nothing has made good yet how to go on."""
    ledger = Ledger.open()
    runs = [run.as_row() for run in ledger.history(limit)]
    left = [f"{record.run} was interrupted; how to go on: provision show {record.run}" for record in ledger.resumable()]
    return Report("history", data={"runs": runs}, next_steps=(*left, "provision show RUN") if runs else ())


def show_run(run: str) -> Report:
    """One run's report, folded again from its events. `run` is an id, a unique beginning of one, or `last`."""
    return Ledger.open().show(run)
