"""Records for programs. In: a record, whatever is in it. Out: JSON values, NaN and infinities as null."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from math import isfinite

from evenhand.records import Estimate
from evenhand.report.numbers import estimate_as_dict, plain_text

__all__ = ["as_json_values"]


def as_json_values(value: object) -> object:
    """A record with everything in it as JSON values; NaN and infinities are null, bytes their SHA-256."""
    if isinstance(value, Estimate):
        return estimate_as_dict(value)
    if is_dataclass(value):
        return {field.name: as_json_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {plain_text(str(name)): as_json_values(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json_values(part) for part in value]
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else plain_text(str(value))
