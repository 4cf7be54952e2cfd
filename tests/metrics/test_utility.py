"""Accuracy per group by hand, paired changes, McNemar's test against tables, coverage of the intervals."""

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.utility import answer_accuracy, compare_accuracy, exact_mcnemar

GROUPS = ("male", "female")
# row       1       2         3           4       5         6         7         8
TRUTH = ["male", "male", "male", "male", "female", "female", "female", "female"]
SAID = ["male", "male", "male", "unparsed", "female", "male", "unparsed", "male"]
AFTER = ["male", "female", "male", "male", "female", "female", "unparsed", "female"]


def pictures(n):
    return [f"p{index:05}" for index in range(n)]


def measure(truth, said, unit=None, *, groups=GROUPS, **options):
    options = {"unit_name": "picture", "seed": 0, **options}
    found = answer_accuracy(truth, said, unit or pictures(len(truth)), groups=groups, **options)
    return {one.name: one for one in found}


def compare(truth, before, after, **options):
    options = {"unit_name": "picture", "seed": 0, "groups": GROUPS, **options}
    return {one.name: one for one in compare_accuracy(truth, before, after, pictures(len(truth)), **options)}


def test_by_hand():
    # Right: rows 1, 2, 3 of the men, row 5 of the women. Unparsed (4, 7) is wrong and counted.
    found = measure(TRUTH, SAID)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "accuracy": 4 / 8,
            "accuracy_male": 3 / 4,
            "accuracy_female": 1 / 4,
            "worst_group_accuracy": 1 / 4,
            "accuracy_gap": 2 / 4,
            "unparsed_rate": 2 / 8,
        }
    )
    assert [one.n for one in found.values()] == [8, 4, 4, 8, 8, 8]
    assert all(one.low <= one.value <= one.high <= one.largest == 1.0 for one in found.values())


def test_floors_by_hand():
    # 4 right on 8 labels, 4 of each: k fall on the men with chance C(4,k)^2 / 70 = 1, 16, 36, 16, 1 of 70. The gap is
    # |2k - 4| / 4: (2 * 1 + 32 * 0.5) / 70 = 0.2571; the worse is min(k, 4 - k) / 4: (32 * 0.25 + 36 * 0.5) / 70.
    found = measure(TRUTH, SAID)
    assert found["accuracy_gap"].floor == pytest.approx(18 / 70, abs=0.03)
    assert found["worst_group_accuracy"].floor == pytest.approx(26 / 70, abs=0.02)
    assert found["accuracy"].floor == 0.0


def test_cells_by_hand():
    # Gender and occupation: men nurses rows 1, 2 (2 of 2), men pilots 3, 4 (1 of 2), women nurses 5, 6 (1 of 2),
    # women pilots 7, 8 (0 of 2).
    cells = ["male nurse"] * 2 + ["male pilot"] * 2 + ["female nurse"] * 2 + ["female pilot"] * 2
    found = measure(TRUTH, SAID, cells=cells)
    assert [name for name in found if name.startswith("accuracy_")] == [
        "accuracy_female nurse",
        "accuracy_female pilot",
        "accuracy_male nurse",
        "accuracy_male pilot",
        "accuracy_gap",
    ]
    assert found["worst_group_accuracy"].value == 0.0
    assert found["accuracy_gap"].value == 1.0


def test_changes_by_hand():
    # After: men 1, 3, 4 right (3 of 4: row 2 lost, row 4 won), women 5, 6, 8 (3 of 4: 6 and 8 won).
    found = compare(TRUTH, SAID, AFTER)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "accuracy difference": 2 / 8,
            "accuracy_male difference": 0.0,
            "accuracy_female difference": 2 / 4,
            "worst_group_accuracy difference": 3 / 4 - 1 / 4,
            "accuracy_gap difference": 0.0 - 2 / 4,
            "unparsed_rate difference": -1 / 8,
            "worst_group_change": 0.0,
        }
    )


def test_the_two_readings_differ_by_hand():
    # Men 4 of 4 -> 2 of 4, women 1 of 4 -> 1 of 4: the worst group's accuracy stays, the men lose 0.5.
    before = ["male"] * 4 + ["female"] + ["male"] * 3
    after = ["male", "male", "female", "female", "female"] + ["male"] * 3
    found = compare(TRUTH, before, after)
    assert found["worst_group_accuracy difference"].value == 0.0
    assert found["worst_group_change"].value == -0.5


def test_same_answers_do_not_change():
    for one in compare(TRUTH, SAID, list(SAID)).values():
        assert (one.low, one.value, one.high) == (0.0, 0.0, 0.0)


def test_one_changed_answer_is_not_a_sure_change():
    truth = ["male", "female"] * 20
    found = compare(truth, truth, ["unparsed", *truth[1:]])["accuracy difference"]
    assert found.value == pytest.approx(-1 / 40)
    assert found.low < found.value < 0 < found.high


def test_several_groups():
    groups = ("white", "middle eastern", "latino")
    found = measure(
        ["white", "middle eastern", "latino", "latino"], ["white", "white", "latino", "white"], groups=groups
    )
    assert found["accuracy_middle eastern"].value == 0.0
    assert found["accuracy_latino"].value == 0.5
    assert found["accuracy_gap"].value == 1.0


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # Changes 1 against 5: two-sided exact binomial 2 * (1 + 6) / 64 = 0.21875.
        ([1] * 3 + [1] + [0] * 5 + [0], [1] * 3 + [0] + [1] * 5 + [0], (3, 1, 5, 1, 14 / 64)),
        # 0 against 6: 2 / 64.
        ([0] * 6, [1] * 6, (0, 0, 6, 0, 2 / 64)),
        # 3 against 3: 1.
        ([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], (0, 3, 3, 0, 1.0)),
        ([1, 0], [1, 0], (1, 0, 0, 1, 1.0)),
    ],
)
def test_mcnemar_by_hand(before, after, expected):
    found = exact_mcnemar([bool(x) for x in before], [bool(x) for x in after])
    counts = (found.both, found.only_before, found.only_after, found.neither)
    assert counts == expected[:4]
    assert found.p == pytest.approx(expected[4])


def test_intervals_cover():
    # 120 pictures, men right with 0.9, women with 0.7: true worst 0.7, true gap 0.2. 95% asked of 200 runs: 3 standard
    # errors are 4.6 points; both lie above 90%.
    rng = np.random.default_rng(7)
    truth = ["male", "female"] * 60
    covered = {"worst_group_accuracy": 0, "accuracy_gap": 0}
    for run in range(200):
        right = rng.random(120) < np.where(np.arange(120) % 2, 0.7, 0.9)
        said = [group if hit else "unparsed" for group, hit in zip(truth, right, strict=True)]
        found = measure(truth, said, seed=run, replicates=400)
        for name, value in (("worst_group_accuracy", 0.7), ("accuracy_gap", 0.2)):
            covered[name] += found[name].low <= value <= found[name].high
    assert min(covered.values()) >= 0.90 * 200


def test_the_gap_of_an_even_model_may_be_none():
    # Both groups right with 0.8: resampling adds to the gap, and an interval that kept that would never reach 0.
    rng = np.random.default_rng(3)
    truth = ["male", "female"] * 50
    reached = 0
    for run in range(100):
        said = [group if hit else "unparsed" for group, hit in zip(truth, rng.random(100) < 0.8, strict=True)]
        reached += measure(truth, said, seed=run, replicates=300)["accuracy_gap"].low == 0.0
    assert reached >= 90


@pytest.mark.parametrize(
    ("truth", "said", "options", "error", "message"),
    [
        (TRUTH, SAID[:-1], {}, BadInputError, "got 7 for 8"),
        (TRUTH, ["both", *SAID[1:]], {}, BadInputError, "got 'both', allowed: male, female, and unparsed"),
        (["x", *TRUTH[1:]], SAID, {}, BadInputError, "got 'x'"),
        (TRUTH[:4], SAID[:4], {}, TooFewSamplesError, "without pictures: female"),
        (TRUTH, SAID, {"cells": ["one"] * 8}, TooFewSamplesError, "got 1 groups"),
        (TRUTH, SAID, {"cells": ["one"] * 7}, BadInputError, "7 cells"),
        (TRUTH, SAID, {"unit": ["u"] * 8}, TooFewSamplesError, "independent units"),
    ],
)
def test_refused(truth, said, options, error, message):
    with pytest.raises(error, match=message):
        measure(truth, said, options.pop("unit", None), **options)


def test_mcnemar_refused():
    with pytest.raises(BadInputError, match="give pairs"):
        exact_mcnemar([True], [])
    with pytest.raises(TooFewSamplesError, match="got 0"):
        exact_mcnemar([], [])
