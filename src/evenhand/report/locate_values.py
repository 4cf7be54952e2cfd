"""The numbers of a location for programs. In: the records. Out: JSON values."""

from collections.abc import Sequence

from evenhand.located import Located
from evenhand.report.numbers import plain_text
from evenhand.report.record_values import as_json_values

__all__ = ["location_as_dict"]


def location_as_dict(found: Sequence[Located], *, title: str) -> dict[str, object]:
    """What ``locate.json`` holds: every field of the records, of the page's pictures their SHA-256."""
    return {
        "format": "evenhand location 1",
        "title": plain_text(title),
        "locations": [as_json_values(one) for one in found],
    }
