"""The numbers of a location for programs. In: the records. Out: JSON values, NaN and infinities as null."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from math import isfinite

from evenhand.located import Located
from evenhand.records import Estimate
from evenhand.report.numbers import estimate_as_dict, plain_text

__all__ = ["location_as_dict"]


def location_as_dict(found: Sequence[Located], *, title: str) -> dict[str, object]:
    """What ``locate.json`` holds: every field of the records, of the page's pictures their SHA-256."""
    return {
        "format": "evenhand location 1",
        "title": plain_text(title),
        "locations": [_value(one) for one in found],
    }


def _value(value: object) -> object:
    if isinstance(value, Estimate):
        return estimate_as_dict(value)
    if is_dataclass(value):
        return {field.name: _value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {plain_text(str(name)): _value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_value(part) for part in value]
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else plain_text(str(value))
