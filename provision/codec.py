"""Dataclasses to plain JSON data and back. Reading collects every fault instead of stopping at the first."""

from __future__ import annotations

from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from provision.errors import ProvisionError
from provision.model import Refusal

T = TypeVar("T")

_converter = make_converter(forbid_extra_keys=True)


def to_data(value: Any) -> Any:
    """Plain dicts, lists and scalars for a dataclass of the project."""
    return _converter.unstructure(value)


def from_data(cls: type[T], data: Any, subject: str) -> T:
    """Build `cls` from plain data.

    Raises:
        ProvisionError: with one refusal for each fault in the data; `subject` names where it came from.
    """
    try:
        return _converter.structure(data, cls)
    except cattrs.BaseValidationError as error:
        faults = cattrs.transform_error(error, path=cls.__name__)
        hint = "compare it with what `provision plan --output json` writes"
        raise ProvisionError([Refusal(subject, f"is not valid: {fault}", hint) for fault in faults]) from error
