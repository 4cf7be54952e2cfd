"""Bounds from a classifier: under the closed form of mixtures, near it where groups are apart, nothing where alike."""

import math
import re

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.locate.divergence import mixture_divergence
from evenhand.locate.exchanges import exchange_labels, hold_chance
from evenhand.locate.two_samples import two_sample_bounds
from evenhand.records import Estimate

pytest.importorskip("sklearn", reason="needs the extra `hf` (scikit-learn)")

_CODES, _PLACES = 12, 8


def _counts(share, pictures, drawn_by):
    """Counts of codes: a picture of the first group has codes 0-5, one of the second 6-11."""
    first = drawn_by.random(pictures) < share
    codes = drawn_by.integers(0, 6, (pictures, _PLACES)) + 6 * ~first[:, None]
    return np.stack([np.bincount(row, minlength=_CODES) for row in codes]).astype(float)


def _p_value(accuracy):
    return float(re.search(r"p = (\S+)$", accuracy.method).group(1))


_SLOW = [pytest.param(share, marks=pytest.mark.slow) for share in (0.2, 0.5, 0.8, 0.95)]


@pytest.mark.parametrize("share", [0.05, *_SLOW])
def test_bounds_are_under_the_closed_form(share):
    # 25 audits: of low ends that are under the truth in 97.5 %, fewer than 22 has probability .004.
    # TV of the mixture and its first group is the share of the second, 1 - share.
    under = np.zeros(2)
    for seed in range(25):
        drawn_by = np.random.default_rng([seed, round(share * 100)])
        _, variation, divergence = two_sample_bounds(
            _counts(share, 160, drawn_by), _counts(1.0, 160, drawn_by), seed=seed
        )
        under += [variation.low <= 1 - share + 1e-12, divergence.low <= mixture_divergence(share)]
    assert (under >= 22).all(), under


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_bounds_come_near_where_groups_are_apart(share):
    # Sets of 400: within .05 of the truth; standard errors are below .025 for TV and .02 nats.
    drawn_by = np.random.default_rng(round(share * 100))
    accuracy, variation, divergence = two_sample_bounds(
        _counts(share, 400, drawn_by), _counts(1.0, 400, drawn_by), seed=0
    )
    assert variation.value == pytest.approx(1 - share, abs=0.05)
    assert divergence.value == pytest.approx(mixture_divergence(share), abs=0.05)
    assert variation.value == pytest.approx(2 * accuracy.value - 1)
    assert _p_value(accuracy) == pytest.approx(0.001)


def test_sets_that_share_nothing():
    drawn_by = np.random.default_rng(0)
    accuracy, variation, divergence = two_sample_bounds(
        _counts(0.0, 100, drawn_by), _counts(1.0, 100, drawn_by), seed=0
    )
    assert (accuracy.value, variation.value) == (1, 1)
    assert math.log(2) - 0.05 < divergence.value <= math.log(2)
    # z = (1 - 1/2) 2 sqrt 200 = 14.14.
    assert "z = 14.14" in accuracy.method


def test_equal_distributions_show_nothing():
    # 40 audits: p is at most .05 in 2 of them on average; 7 and more has probability .004. So for intervals of 95 %.
    rejected, apart = 0, 0
    for seed in range(40):
        drawn_by = np.random.default_rng([seed, 1])
        accuracy, _, divergence = two_sample_bounds(_counts(0.5, 80, drawn_by), _counts(0.5, 80, drawn_by), seed=seed)
        rejected += _p_value(accuracy) <= 0.05
        apart += not accuracy.low <= 0.5 <= accuracy.high
        assert divergence.value < 0.05
        assert divergence.low < 0.01
    assert rejected < 7
    assert apart < 7


def test_the_larger_set_gives_a_part():
    drawn_by = np.random.default_rng(0)
    found = two_sample_bounds(_counts(0.5, 90, drawn_by), _counts(1.0, 30, drawn_by), seed=0)
    assert {one.n for one in found} == {60}
    assert [one.name for one in found] == ["accuracy", "TV bound", "JSD bound"]


def test_inputs_are_left_as_they_are():
    drawn_by = np.random.default_rng(0)
    first, second = _counts(0.5, 30, drawn_by), _counts(1.0, 30, drawn_by)
    kept = first.copy(), second.copy()
    once = two_sample_bounds(first, second, seed=2)
    assert once == two_sample_bounds(first, second, seed=2)
    assert np.array_equal(first, kept[0])
    assert np.array_equal(second, kept[1])


def test_exchanges_of_a_place_that_shows_all():
    labels = np.repeat([0, 1], 50)
    found = exchange_labels(labels[:, None] * 2.0, labels, groups=2, exchanges=199, seed=0)
    assert found.seen == 1
    assert found.p_value == 1 / 200
    assert found.exchanged.mean() == pytest.approx(0.5, abs=0.05)


def test_chance_is_held_by_hand():
    # .56 is 1.2 spreads of .05 from 1/2; .64 is 2.8.
    near, far = (
        Estimate("a", value, value - 0.03, value + 0.03, 0.95, 9, "picture", "", 1, 0.5) for value in (0.56, 0.64)
    )
    assert (hold_chance(near, spread=0.05).low, hold_chance(near, spread=0.05).high) == (0.5, pytest.approx(0.59))
    assert hold_chance(far, spread=0.05) == far


@pytest.mark.parametrize(
    ("first", "second", "seed", "error", "said"),
    [
        (np.zeros((20, 3)), np.zeros((20, 4)), 0, BadInputError, r"\(20, 3\), \(20, 4\)"),
        (np.zeros((20, 3)), np.zeros((9, 3)), 0, TooFewSamplesError, "got 20 and 9; allowed: 10"),
        (np.full((20, 3), np.inf), np.zeros((20, 3)), 0, BadInputError, "NaN or infinity"),
        (np.zeros((20, 3)), np.zeros((20, 3)), -1, BadInputError, "seed: got -1"),
    ],
)
def test_bad_input_is_refused(first, second, seed, error, said):
    with pytest.raises(error, match=said):
        two_sample_bounds(first, second, seed=seed)
