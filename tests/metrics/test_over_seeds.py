"""Several trainings together: by hand."""

import math

import pytest

from evenhand.errors import BadInputError
from evenhand.metrics.over_seeds import over_seeds
from evenhand.records import Estimate


def estimate(value, low, high, *, name="RD", floor=0.06, n=20):
    return Estimate(name, value, low, high, 0.95, n, "prompt", "bootstrap", 1.0, floor)


def test_the_mean_and_what_they_span():
    found = over_seeds([estimate(0.1, 0.05, 0.2), estimate(0.3, 0.25, 0.4, floor=0.08), estimate(0.2, 0.15, 0.25)])
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (0.05, 0.4)
    assert found.floor == pytest.approx(0.2 / 3)
    assert (found.n, found.unit) == (3, "seed")


def test_one_seed_is_itself():
    one = estimate(0.1, 0.05, 0.2)
    assert over_seeds([one]) is one


def test_floors_that_are_not_there_stay_so():
    assert math.isnan(over_seeds([estimate(0.1, 0, 1, floor=math.nan), estimate(0.2, 0, 1, floor=math.nan)]).floor)


@pytest.mark.parametrize("given", [[], [estimate(0.1, 0, 1), estimate(0.1, 0, 1, name="TV")]])
def test_what_is_no_statistic_of_one_kind(given):
    with pytest.raises(BadInputError, match="one statistic"):
        over_seeds(given)
