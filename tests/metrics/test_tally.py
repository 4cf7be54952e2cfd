"""Labels to counts: what is in a denominator, and that nothing is dropped in silence."""

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.tally import (
    Tally,
    pool_prompts,
    product_groups,
    product_labels,
    select_prompts,
    tally,
    tally_counts,
)
from evenhand.records import Label

GROUPS = ("male", "female")


def label(k, group=None, reason=None, *, prompt="sewer", attribute="gender", confidence=1.0):
    return Label(prompt, k, attribute, group, reason, confidence)


# 3 male (one of them at 0.6), 1 female, 1 no face, 1 several faces, 1 uncertain, 1 error.
LABELS = [
    label(0, "male"),
    label(1, "male"),
    label(2, "male", confidence=0.6),
    label(3, "female"),
    label(4, reason="no face"),
    label(5, reason="several faces"),
    label(6, reason="uncertain"),
    label(7, reason="error"),
]


@pytest.mark.parametrize(
    ("denominator", "counts", "base"),
    [("all", [3, 1], 7), ("face", [3, 1], 6), ("confident", [2, 1], 3)],
)
def test_denominators_by_hand(denominator, counts, base):
    found = tally(LABELS, groups=GROUPS, denominator=denominator)
    assert found.counts.tolist() == [counts]
    assert found.base.tolist() == [base]
    unknown = {"no face": 1, "several faces": 1, "uncertain": 1, "error": 1}
    assert found.unknown[0] == (unknown | {"low confidence": 1} if denominator == "confident" else unknown)
    # Nothing is dropped: groups and reasons add up to the labels.
    assert found.counts.sum() + sum(found.unknown[0].values()) == len(LABELS)


def test_prompts_without_labels_stay():
    found = tally(LABELS, groups=GROUPS, prompts=["baker", "sewer"])
    assert found.prompts == ("baker", "sewer")
    assert found.counts.tolist() == [[0, 0], [3, 1]]
    assert found.base.tolist() == [0, 6]


def test_product_by_hand():
    gender = [label(0, "male"), label(1, "female", confidence=0.9), label(2, reason="no face"), label(3, "male")]
    race = [
        label(3, reason="uncertain", attribute="race"),
        label(2, reason="no face", attribute="race"),
        label(1, "Black", attribute="race", confidence=0.7),
        label(0, "Asian", attribute="race"),
    ]
    found = product_labels(gender, race)
    assert [one.group for one in found] == ["male x Asian", "female x Black", None, None]
    assert [one.reason for one in found] == [None, None, "no face", "uncertain"]
    assert found[1].confidence == 0.7
    assert found[0].attribute == "gender x race"
    groups = product_groups(GROUPS, ("Asian", "Black"))
    assert groups == ("male x Asian", "male x Black", "female x Asian", "female x Black")
    assert tally(found, groups=groups).counts.tolist() == [[1, 0, 0, 1]]


def test_select_prompts_keeps_rows_together():
    counted = tally_counts({"a": [1, 2], "b": [3, 4], "c": [5, 6]}, groups=GROUPS)
    found = select_prompts(counted, ["c", "a"])
    assert found.counts.tolist() == [[5, 6], [1, 2]]
    with pytest.raises(BadInputError, match="'z' is not in the tally"):
        select_prompts(counted, ["z"])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS, {"denominator": "some"}, "unknown denominator: got 'some'"),
        (LABELS, {"min_confidence": 2.0}, "min_confidence: got 2.0"),
        (LABELS, {"groups": ("male",)}, "two or more different names"),
        (LABELS, {"groups": ("male", "male")}, "two or more different names"),
        (LABELS, {"prompts": ["baker"]}, "'sewer', which is not listed"),
        ([*LABELS, label(8, "other")], {}, "got group 'other', allowed: male, female"),
        ([*LABELS, label(8)], {}, "no group and no reason"),
        ([*LABELS, label(0, "male")], {}, "two labels of sample 0"),
        ([*LABELS, label(8, "male", attribute="age")], {}, "several attributes: got age, gender"),
    ],
)
def test_what_is_not_allowed(labels, options, message):
    with pytest.raises(BadInputError, match=message):
        tally(labels, **{"groups": GROUPS, **options})


def test_counts_that_are_not_allowed():
    with pytest.raises(BadInputError, match="one per group"):
        tally_counts({"a": [1]}, groups=GROUPS)
    with pytest.raises(BadInputError, match="counts of 0 or more"):
        tally_counts({"a": [1, -1]}, groups=GROUPS)
    with pytest.raises(TooFewSamplesError, match="got 0"):
        tally_counts({}, groups=GROUPS)
    with pytest.raises(BadInputError, match="not of the same samples"):
        product_labels([label(0, "male")], [label(1, "Asian", attribute="race")])
    assert np.array_equal(tally_counts({"a": [0, 2]}, groups=GROUPS).base, [2])


def test_prompts_of_one_occupation_are_counted_together():
    counts = np.array([[1, 2], [3, 4], [5, 6]])
    unknown = ({"no face": 1}, {}, {"no face": 2, "error": 1})
    counted = Tally("gender", ("a", "b"), "all", ("x/1", "y/1", "x/2"), counts, np.array([4, 7, 13]), unknown)
    pooled = pool_prompts(counted, {"x/1": "x", "x/2": "x"})
    assert pooled.prompts == ("x",)
    assert pooled.counts.tolist() == [[6, 8]]
    assert pooled.base.tolist() == [17]
    assert pooled.unknown == ({"no face": 3, "error": 1},)
    with pytest.raises(TooFewSamplesError):
        pool_prompts(counted, {})
