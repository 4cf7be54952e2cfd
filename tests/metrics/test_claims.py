"""The picture signal's claims on hand-made rows."""

from math import isnan

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.claims import claim_quality, claimed_group
from evenhand.records import Claim

GROUPS = ("male", "female")
RACES = ("white", "black", "asian")


def measure(claims, truth, *, groups=GROUPS, unit=None, **options):
    unit = unit or [f"p{index:04}" for index in range(len(claims))]
    found = claim_quality(claims, truth, unit, groups=groups, unit_name="picture", seed=0, **options)
    return {one.name: one for one in found}


@pytest.mark.parametrize(
    ("claim", "groups", "expected"),
    [
        (Claim(0.6, "faces agree", 1), GROUPS, ("male", 0.8)),
        (Claim(-1.0, "given"), GROUPS, ("female", 1.0)),
        (Claim(None, "no face", 0), GROUPS, None),
        (Claim(0.0, "given"), GROUPS, None),
        (Claim(0.0, "neutral", shares=(0.5, 0.5)), GROUPS, None),
        (Claim(0.4, "faces agree", 1, (0.2, 0.7, 0.1)), RACES, ("black", 0.7)),
        (Claim(0.0, "faces agree", 1, (0.4, 0.4, 0.2)), RACES, ("white", 0.4)),
        (Claim(None, "uncertain", 1, (0.4, 0.4, 0.2)), RACES, None),
    ],
)
def test_claimed_group(claim, groups, expected):
    assert claimed_group(claim, groups) == (None if expected is None else (expected[0], pytest.approx(expected[1])))


def test_eight_rows_by_hand():
    # Asked: 7 of 8. A claim: rows 1, 2, 3, 5, 6 of those 7. Right: 1, 2, 5 (row 3 says male of a woman, row 6 female of
    # a man). Accuracy 3 of 5. Two bins on (0, 1]: all shares lie in (0.5, 1]: |3 right - (1 + .9 + .8 + .95 + .75)| / 5
    # = |3 - 4.4| / 5 = 0.28.
    claims = [
        Claim(1.0, "faces agree", 1),
        Claim(0.8, "faces agree", 1),
        Claim(0.6, "faces agree", 1),
        Claim(None, "no face", 0),
        Claim(-0.9, "faces agree", 2),
        Claim(-0.5, "faces agree", 1),
        Claim(None, "faces disagree", 2),
        None,
    ]
    truth = ["male", "male", "female", "female", "female", "male", "female", "female"]
    found = measure(claims, truth, bins=2)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "claim_asked": 7 / 8,
            "claim_coverage": 5 / 7,
            "claim_right": 3 / 7,
            "claim_accuracy": 3 / 5,
            "claim_ece": 0.28,
        }
    )
    assert [one.n for one in found.values()] == [8, 7, 7, 5, 5]


def test_calibration_bins_by_hand():
    # 15 bins: shares 0.8 (bin 12, of which 0.8 is the upper end) and 0.95. Four claims of 0.8, 3 right: |3 - 3.2|; two
    # of 0.95, both right: |2 - 1.9|. (0.2 + 0.1) / 6 = 0.05.
    claims = [Claim(0.6, "x")] * 4 + [Claim(0.9, "x")] * 2
    truth = ["male"] * 3 + ["female"] + ["male"] * 2
    assert measure(claims, truth)["claim_ece"].value == pytest.approx(0.05)


def test_upper_end_belongs_to_a_bin_by_hand():
    # Two bins: 0.5 and 0.4 share (0, 0.5]: |(1 - 0.5) + (0 - 0.4)| / 2 = 0.05; apart it would be 0.45.
    claims = [Claim(0.2, "x", 1, (0.5, 0.25, 0.25)), Claim(0.1, "x", 1, (0.4, 0.35, 0.25))]
    found = measure(claims, ["white", "asian"], groups=RACES, bins=2)
    assert found["claim_ece"].value == pytest.approx(0.05)


def test_calibrated_and_certain():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.5, 1.0, 4000)
    truth = ["male" if hit else "female" for hit in rng.random(4000) < share]
    found = measure([Claim(2 * float(p) - 1, "x") for p in share], truth, replicates=200)
    assert found["claim_ece"].value < 0.03
    # Sure and always wrong: accuracy 0, ECE 1.
    wrong = measure([Claim(1.0, "x")] * 10, ["female"] * 10)
    assert (wrong["claim_ece"].value, wrong["claim_accuracy"].value) == (1.0, 0.0)


def test_many_groups():
    shares = [(0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.5, 0.25, 0.25)]
    found = measure([Claim(0.3, "x", 1, one) for one in shares], ["white", "asian", "white"], groups=RACES)
    assert found["claim_accuracy"].value == pytest.approx(2 / 3)


def test_nothing_asked_is_undefined_not_zero():
    found = measure([None] * 4, ["male", "female"] * 2)
    assert found["claim_asked"].value == 0.0
    for name in ("claim_coverage", "claim_right", "claim_accuracy", "claim_ece"):
        assert isnan(found[name].value)
        assert found[name].method.startswith("undefined: no ")
    silent = measure([Claim(None, "no face", 0)] * 4, ["male", "female"] * 2)
    assert silent["claim_coverage"].value == silent["claim_right"].value == 0.0
    assert isnan(silent["claim_accuracy"].value)


@pytest.mark.parametrize(
    ("claims", "truth", "groups", "message"),
    [
        ([Claim(0.5, "x")], ["male", "female"], GROUPS, "got 1 claims, 2 groups"),
        ([None, None], ["male", "x"], GROUPS, "got 'x'"),
        ([Claim(1.5, "x"), None], ["male", "male"], GROUPS, "s = 1.5"),
        ([Claim(float("nan"), "x"), None], ["male", "male"], GROUPS, "s = nan"),
        ([Claim(0.5, "x"), None], ["white", "white"], RACES, "no shares for 3 groups"),
        ([Claim(0.5, "x", 1, (0.5, 0.5)), None], ["white", "white"], RACES, "one per group"),
        ([Claim(0.5, "x", 1, (0.5, 0.6)), None], ["male", "male"], GROUPS, "of sum 1"),
        ([Claim(0.5, "x", 1, (1.5, -0.5)), None], ["male", "male"], GROUPS, "of sum 1"),
        ([], [], GROUPS, "got 0 pictures"),
    ],
)
def test_refused(claims, truth, groups, message):
    with pytest.raises((BadInputError, TooFewSamplesError), match=message):
        measure(claims, truth, groups=groups, unit=[f"p{index}" for index in range(len(truth))])
