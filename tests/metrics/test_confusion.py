"""The confusion matrix by hand."""

import pytest

from evenhand.errors import BadInputError
from evenhand.metrics.confusion import confusion
from evenhand.metrics.misclassification import misclassification

GROUPS = ("male", "female")
TRUTH = ["male", "male", "male", "male", "female", "female", "female", "female"]
SAID = ["male", "female", "both", "neutral", "male", "male", "female", "none"]


def test_eight_rows_by_hand():
    assert confusion(TRUTH, SAID, groups=GROUPS) == {
        "male": {"male": 1, "female": 1, "both": 1, "neutral": 1, "none": 0},
        "female": {"male": 2, "female": 1, "both": 0, "neutral": 0, "none": 1},
    }


def test_misclassification_follows_from_it():
    # MR_M = 1/4, MR_F = 2/4, MR_O = 3/8 are sums of the matrix's off-diagonal cells.
    table = confusion(TRUTH, SAID, groups=GROUPS)
    found = {
        one.name: one.value
        for one in misclassification(TRUTH, SAID, list("abcdefgh"), groups=GROUPS, unit_name="picture", seed=0)
    }
    assert found["MR_M"] == table["male"]["female"] / sum(table["male"].values())
    assert found["MR_F"] == table["female"]["male"] / sum(table["female"].values())


def test_no_pictures():
    assert sum(sum(row.values()) for row in confusion([], [], groups=GROUPS).values()) == 0


@pytest.mark.parametrize(
    ("truth", "said"), [(["male"], []), (["x"], ["male"]), (["male"], ["error"]), (["both"], ["male"])]
)
def test_refused(truth, said):
    with pytest.raises(BadInputError):
        confusion(truth, said, groups=GROUPS)
