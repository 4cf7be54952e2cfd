"""What noise adds to an absolute value: checked against closed forms and by enumeration of all counts."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from evenhand.metrics.folding import critical_value, unfold, unfold_pairs

Z = np.linspace(-12, 12, 4801)


def normal_bias(theta, sharing):
    """Mean of the unfolded |theta + z| less theta, and the mean bound, by summing over z."""
    chance = norm.pdf(Z) / norm.pdf(Z).sum()
    found = unfold(np.abs(theta + Z), np.ones_like(Z), sharing=sharing)
    return chance @ found.value - theta, chance @ found.bound


def test_folding_adds_what_the_folded_normal_says():
    # E|z| = sqrt(2 / pi) = 0.798: the check of the sum over z that the next tests lean on.
    assert norm.pdf(Z) @ np.abs(Z) / norm.pdf(Z).sum() == pytest.approx(np.sqrt(2 / np.pi), abs=1e-4)


@pytest.mark.parametrize("sharing", [2, 20, 100, 1000])
@pytest.mark.parametrize("theta", [0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 2.9])
def test_bias_that_is_left_is_within_its_bound(theta, sharing):
    bias, bound = normal_bias(theta, sharing)
    assert abs(bias) <= bound + 0.01


def test_more_sharing_leaves_less_bias():
    left = [abs(normal_bias(0.0, sharing)[0]) for sharing in (2, 20, 200, 1000)]
    assert left == sorted(left, reverse=True)
    assert left[2] < 0.25 < np.sqrt(2 / np.pi)


def test_far_from_even_nothing_is_changed():
    found = unfold(np.array([5.0, 50.0]), np.array([1.0, 0.0]), sharing=100)
    assert found.value.tolist() == [5.0, 50.0]
    assert found.bound[0] < 0.01
    assert found.bound[1] == 0.0


@pytest.mark.parametrize("total", [1, 2, 3, 7, 8, 20, 40, 41, 160])
@pytest.mark.parametrize("share", [0.5, 0.55, 0.7, 0.9, 1.0])
def test_bias_of_pairs_by_enumeration(total, share):
    first = np.arange(total + 1)
    chance = binom.pmf(first, total, share)
    found = unfold_pairs(first, total - first, sharing=100)
    bias = chance @ found.value - total * abs(2 * share - 1)
    assert abs(bias) <= chance @ found.bound + 0.02 * np.sqrt(total)
    if total >= 8 and share == 0.5:
        # A fair coin's |2x - m| is 0.8 sqrt(m) on average; most of it is gone.
        assert abs(bias) < 0.35 * np.sqrt(total)


def test_one_group_only_stays_as_it_is():
    assert unfold_pairs(np.array([100, 32, 8]), np.array([0, 0, 0]), sharing=100).value.tolist() == [100.0, 32.0, 8.0]
    assert unfold_pairs(np.array([0]), np.array([0]), sharing=100).value.tolist() == [0.0]


def test_critical_value():
    # |N(0, 1)| stays below 1.96 in 95%; with a large bias only one side is left: bias + 1.645.
    found = critical_value(np.array([0.0, 1.0, 8.0]), level=0.95)
    assert found[0] == pytest.approx(1.95996, abs=1e-4)
    assert norm.cdf(found[1] - 1) - norm.cdf(-found[1] - 1) == pytest.approx(0.95, abs=1e-6)
    assert found[2] == pytest.approx(8 + 1.64485, abs=1e-3)
