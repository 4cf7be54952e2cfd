"""Which pictures are kept: counted by hand."""

import pytest

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.selection import select
from evenhand.records import Label

GROUPS = ("male", "female")
ASKED = {f"{who}/{group}": (who, group) for who in ("nurse", "sewer") for group in GROUPS}


def label(prompt, k, group, confidence=0.9, reason=None):
    return Label(prompt, k, "gender", group, reason, confidence)


def test_by_hand():
    labels = [
        label("nurse/male", 0, "male"),
        label("nurse/male", 1, "female"),
        label("nurse/male", 2, "male", 0.95),
        label("nurse/female", 0, "female", 0.79),  # not sure enough
        label("nurse/female", 1, "female", 0.8),
        label("nurse/female", 2, None, 0.0, "error"),  # no picture
        label("sewer/male", 0, None, 0.0, "no face"),
        label("sewer/male", 1, "female"),
        label("sewer/female", 0, "female"),
        label("sewer/female", 1, "female"),
    ]
    found = select(labels, ASKED, groups=GROUPS)
    assert found.pictures["nurse"] == ((("nurse/male", 0, 0.9), ("nurse/male", 2, 0.95)), (("nurse/female", 1, 0.8),))
    assert found.pictures["sewer"] == ((), (("sewer/female", 0, 0.9), ("sewer/female", 1, 0.9)))
    male, female = found.groups
    assert (male.asked, male.kept, male.instead) == (5, 2, {"female": 2, "no face": 1})
    assert (female.asked, female.kept, female.instead) == (4, 3, {"low confidence": 1})
    assert found.lacking == {"sewer": ("male",)}
    assert found.tuples == 1  # min(2, 1) of nurse, none of sewer


def test_nothing_asked_is_nothing():
    found = select([], ASKED, groups=GROUPS)
    assert found.tuples == 0
    assert found.lacking == {"nurse": GROUPS, "sewer": GROUPS}


def test_refused():
    with pytest.raises(BadInputError, match="asks for nobody"):
        select([label("nurse", 0, "male")], ASKED, groups=GROUPS)
    with pytest.raises(BadInputError, match="0 to 1"):
        select([], ASKED, groups=GROUPS, min_confidence=1.2)
