"""Rates as the papers print them: middle and half width by hand, and against the binomial."""

from math import hypot, sqrt

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.published import PrintedRate, printed_misclassification, printed_rate

GROUPS = ("male", "female")


def test_midpoint_and_half_width_by_hand():
    # 41 draws 0, 1, 4, ... 1600: the 2.5th percentile is the second (1), the 97.5th the last but one (39^2 = 1521).
    # Middle 761 and half width 760; the mean would be 540 and the value in the middle 400.
    found = printed_rate("x", np.arange(41.0)[::-1] ** 2)
    assert isinstance(found, PrintedRate)
    assert (found.name, found.midpoint, found.half_width) == ("x", pytest.approx(761.0), pytest.approx(760.0))


def printed(truth, said, **options):
    return {one.name: one for one in printed_misclassification(truth, said, groups=GROUPS, seed=0, **options)}


def test_what_does_not_vary_has_no_width():
    # Every woman called a man, no man a woman: MR_female 100 and MR_male 0 in every draw; MR_O is the women's share.
    found = printed(["male"] * 50 + ["female"] * 50, ["male"] * 100, draws=1000)
    assert (found["MR_female"].midpoint, found["MR_female"].half_width) == (100.0, 0.0)
    assert (found["MR_male"].midpoint, found["MR_male"].half_width) == (0.0, 0.0)
    # Half of 1000 with standard error sqrt(0.25 / 1000) = 1.58 points; 1.96 of them are 3.10.
    assert found["MR_O"].midpoint == pytest.approx(50.0, abs=0.5)
    assert found["MR_O"].half_width == pytest.approx(196 * sqrt(0.25 / 1000), abs=0.4)
    assert found["MR_C"].midpoint == pytest.approx(hypot(50, 100), abs=0.3)


def test_both_neutral_none_are_no_errors():
    truth = ["male", "male", "female", "female"] * 10
    found = printed(truth, ["both", "neutral", "none", "female"] * 10)
    assert all(one.midpoint == one.half_width == 0.0 for one in found.values())


def test_the_size_of_a_draw_sets_the_width():
    truth, said = ["male", "female"] * 200, ["male", "male"] * 100 + ["male", "female"] * 100
    small, large = (printed(truth, said, size=size, draws=1000)["MR_O"] for size in (100, 10_000))
    assert small.half_width == pytest.approx(10 * large.half_width, rel=0.15)


def test_refused():
    with pytest.raises(BadInputError, match="said 'error'"):
        printed(["male"], ["error"])
    with pytest.raises(BadInputError, match="0 draws"):
        printed(["male"], ["male"], draws=0)
    with pytest.raises(TooFewSamplesError, match="got 0 pictures"):
        printed([], [])
