"""Draws of sums: closed forms, pairing with the draws of rates, what is refused."""

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.draws import drawn_estimate, resample_sums
from evenhand.stats import Event, resample_rates


def units(n):
    return [f"u{index:04}" for index in range(n)]


def test_sums_by_hand():
    # Units a: 1 + 2 = 3, b: 10; the second column counts rows: 3.
    sums = resample_sums(np.array([[1.0, 1], [10, 1], [2, 1]]), ["a", "b", "a"], seed=0, replicates=100)
    assert sums.value.tolist() == [13.0, 3.0]
    assert sums.n == 2


def test_spread_of_a_mean_is_the_closed_form():
    # Bayesian bootstrap of a mean over n units: variance = (population variance) / (n + 1) (Rubin 1981).
    x = np.array([0.0, 0.0, 1.0, 3.0])
    sums = resample_sums(np.column_stack([x, np.ones(4)]), units(4), seed=1, replicates=40_000)
    means = sums.draws[:, 0] / sums.draws[:, 1]
    assert means.mean() == pytest.approx(x.mean(), abs=0.01)
    assert means.var() == pytest.approx(x.var() / 5, rel=0.03)


def test_weights_are_those_of_the_rates():
    # A rate's draw is (sum of weights of hits + pseudo success) / ...; with many units the pseudo-observations vanish
    # and the draws of the two must move together.
    hit = np.random.default_rng(0).random(3000) < 0.3
    sums = resample_sums(np.column_stack([hit, np.ones(3000)]).astype(float), units(3000), seed=5, replicates=300)
    (rate,) = resample_rates([Event("x", hit, np.ones(3000, dtype=np.bool_))], units(3000), seed=5, replicates=300)
    assert np.corrcoef(sums.draws[:, 0] / sums.draws[:, 1], rate.draws)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("rows", "unit", "options", "message"),
    [
        ([[1.0]], ["a"], {}, "got 1, allowed: 2 or more"),
        ([[1.0], [2.0]], ["a"], {}, "got 2 rows and 1 units"),
        ([[np.nan], [2.0]], ["a", "b"], {}, "got NaN or infinity"),
        ([[1.0], [2.0]], ["a", "b"], {"seed": -1}, "seed -1"),
        ([[1.0], [2.0]], ["a", "b"], {"replicates": 99}, "99 replicates"),
    ],
)
def test_refused(rows, unit, options, message):
    with pytest.raises((BadInputError, TooFewSamplesError), match=message):
        resample_sums(np.array(rows), unit, **{"seed": 0, "replicates": 100, **options})


def test_an_estimate_holds_its_value():
    found = drawn_estimate(
        "x", 0.9, np.linspace(0, 0.5, 101), level=0.9, n=3, unit_name="scene", method="m", largest=1.0
    )
    assert (found.low, found.high) == (pytest.approx(0.025), 0.9)
    with pytest.raises(BadInputError, match="unit_name"):
        drawn_estimate("x", 0.9, np.zeros(100), level=0.9, n=3, unit_name="row", method="m", largest=1.0)
