"""Dataclasses to plain JSON data and back. Reading collects every fault instead of stopping at the first."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from provision import events
from provision.errors import ProvisionError
from provision.model import Refusal

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

T = TypeVar("T")

EVENT_TYPES: dict[str, type[events.Event]] = {
    cls.__name__: cls
    for cls in (
        events.RunStarted,
        events.HostLooked,
        events.HostPlanned,
        events.InputRejected,
        events.HostUnreachable,
        events.TaskStarted,
        events.TaskFinished,
        events.CheckFinished,
        events.RunFinished,
    )
}


@cache
def _converter() -> JsonConverter:
    # cattrs takes 30 ms to import, and `provision --help` needs none of it.
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)


def to_data(value: Any) -> Any:
    """Plain dicts, lists and scalars for a dataclass of the project."""
    return _converter().unstructure(value)


def from_data(cls: type[T], data: Any, subject: str) -> T:
    """Build `cls` from plain data.

    Raises:
        ProvisionError: with one refusal for each fault in the data; `subject` names where it came from.
    """
    import cattrs

    try:
        return _converter().structure(data, cls)
    except cattrs.BaseValidationError as error:
        faults = cattrs.transform_error(error, path=cls.__name__)
        hint = "compare it with what `provision plan --output json` writes"
        raise ProvisionError([Refusal(subject, f"is not valid: {fault}", hint) for fault in faults]) from error


def encode_event(event: events.Event) -> dict[str, Any]:
    """An event as plain data; `type` says which one it is."""
    return {"type": type(event).__name__, **to_data(event)}


def decode_event(data: Any, subject: str) -> events.Event:
    """The event that `encode_event` wrote.

    Raises:
        ProvisionError: the data is no event that this version knows; `subject` names where it came from.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    if kind not in EVENT_TYPES:
        hint = "it was written by another version of provision, or changed by hand"
        raise ProvisionError(Refusal(subject, f"is not an event: its type is {kind!r}", hint))
    fields = {key: value for key, value in data.items() if key != "type"}
    return from_data(EVENT_TYPES[kind], fields, subject)
