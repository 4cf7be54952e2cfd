"""What the values of label files mean: the two that are easily swapped, and every name of FairFace."""

import pytest

from evenhand.classify.encodings import Encoding
from evenhand.errors import LabelsError


def test_fairface_and_facet_count_the_other_way_round():
    assert [Encoding.FAIRFACE_GENDER.group(cell) for cell in ("Female", "Male", "0", "1")] == [
        *("female", "male", "female", "male")
    ]
    assert [Encoding.FACET_GENDER.group(cell) for cell in ("0", "1")] == ["male", "female"]


def test_the_seven_race_names_fill_six_groups():
    # East Asian and Southeast Asian are one group of ours.
    assert len(Encoding.FAIRFACE_RACE.groups) == 7
    assert set(Encoding.FAIRFACE_RACE.groups.values()) == {
        *("white", "black", "latino", "asian", "indian", "middle eastern")
    }
    assert Encoding.FAIRFACE_RACE.group("Latino_Hispanic") == "latino"


@pytest.mark.parametrize("cell", ["", "female", "2", "Male "])
def test_an_unknown_value_is_refused(cell):
    with pytest.raises(LabelsError, match="FAIRFACE_GENDER"):
        Encoding.FAIRFACE_GENDER.group(cell)
