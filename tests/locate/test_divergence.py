"""Divergence against closed forms: mixtures of product-categorical distributions whose groups share no code."""

import math

import numpy as np
import pytest

from evenhand.errors import BadInputError
from evenhand.locate.divergence import (
    implied_share,
    mixture_divergence,
    naive_divergence,
    pooled_divergence,
    responsibilities,
    sequence_divergence,
)

_CODES, _PLACES = 12, 8


def _mixture(share, pictures, drawn_by, *, apart=True):
    """Codes and log p under (neutral, first group, second group); groups have codes 0-5 and 6-11, or overlap."""
    near = np.r_[np.full(6, 1 / 6), np.zeros(6)] if apart else np.r_[np.full(6, 0.14), np.full(6, 0.16 / 6)]
    groups = np.stack([near, near[::-1]])
    which = (drawn_by.random(pictures) >= share).astype(int)
    codes = np.stack([drawn_by.choice(_CODES, _PLACES, p=groups[one]) for one in which])
    with np.errstate(divide="ignore"):
        own = np.log(groups)[:, codes].sum(-1).T
        prior = np.log([share, 1 - share])
    return codes, np.column_stack([np.logaddexp(own[:, 0] + prior[0], own[:, 1] + prior[1]), own])


def test_the_closed_form_by_hand():
    # Share 1/2: (log 4/3 + 1/2 log 2/3 + 1/2 log 2) / 2.
    assert mixture_divergence(0.5) == pytest.approx((math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2)
    assert (mixture_divergence(0), mixture_divergence(1)) == (pytest.approx(math.log(2)), pytest.approx(0))
    for share in (0.01, 0.05, 0.3, 0.95):
        assert implied_share(mixture_divergence(share)) == pytest.approx(share, abs=1e-6)


def test_two_pictures_by_hand():
    # r = log 3 of the neutral one, -log 2 of the other: log 2 - (log 4/3 + log 3/2) / 2 = log 2 - (log 2) / 2.
    found = sequence_divergence(np.log([[0.3, 0.1]]), np.log([[0.1, 0.2]]), seed=0)
    assert found.value == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_intervals_hold_the_closed_form(share):
    # 200 audits of 160 pictures: of 95 % intervals, fewer than 178 has probability 2e-4.
    held, shares = 0, 0
    for seed in range(200):
        drawn_by = np.random.default_rng([seed, round(share * 100)])
        _, neutral = _mixture(share, 160, drawn_by)
        _, asked = _mixture(1.0, 160, drawn_by)
        asked[:, 0] = asked[:, 1] + math.log(share)
        found = sequence_divergence(neutral[:, :2], asked[:, :2], seed=seed)
        held += found.low <= mixture_divergence(share) <= found.high
        drawn = responsibilities(neutral[:, 1:], ("first", "second"), seed=seed)["first"]
        shares += drawn.low <= share <= drawn.high
    assert held >= 178
    assert shares >= 178


def test_overlapping_groups_against_the_exact_sum():
    # Two places, two codes: all four sequences are summed.
    groups = np.array([[0.7, 0.3], [0.4, 0.6]])
    every = np.array([(a, b) for a in range(2) for b in range(2)])
    own = groups[:, every].prod(-1)
    neutral = 0.3 * own[0] + 0.7 * own[1]
    middle = (neutral + own[0]) / 2
    exact = ((neutral * np.log(neutral / middle)).sum() + (own[0] * np.log(own[0] / middle)).sum()) / 2
    drawn_by, held = np.random.default_rng(0), 0
    logs = np.log(np.column_stack([neutral, own[0]]))
    for seed in range(200):
        first, second = (logs[drawn_by.choice(4, 160, p=shares)] for shares in (neutral, own[0]))
        found = sequence_divergence(first, second, seed=seed)
        held += found.low <= exact <= found.high
    assert held >= 178


def test_counting_sequences_says_log_2_of_anything():
    drawn_by = np.random.default_rng(0)
    same = drawn_by.integers(0, 16384, (2, 50, 576))
    assert naive_divergence(*same) == pytest.approx(math.log(2))
    assert naive_divergence(same[0], same[0]) == 0


def test_the_published_estimate_has_a_null_beside_it():
    # Specification 6.2: two sets of 16 from one distribution over 16,384 codes, 1,024 codes each, show .27 bits.
    drawn_by = np.random.default_rng(0)
    shares = drawn_by.dirichlet(np.full(16384, 0.3))
    first, second = (drawn_by.choice(16384, (16, 1024), p=shares) for _ in range(2))
    seen, null, reached = pooled_divergence(first, second, codebook=16384, seed=0, permutations=50)
    assert seen == pytest.approx(null, rel=0.05)
    assert seen > 0.1
    assert reached > 0.01


def test_published_bits_by_hand():
    # Codes 0, 0 against 0, 1: shares (1, 0) and (1/2, 1/2), middle (3/4, 1/4).
    wanted = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2
    seen, _, _ = pooled_divergence(np.array([[0, 0]]), np.array([[0, 1]]), codebook=2, seed=0)
    assert seen == pytest.approx(wanted)


def test_bad_input_is_refused():
    good = np.log([[0.3, 0.1]])
    with pytest.raises(BadInputError, match="impossible under the prompt"):
        sequence_divergence(np.array([[-np.inf, -1.0]]), good, seed=0)
    with pytest.raises(BadInputError, match="NaN"):
        sequence_divergence(np.array([[np.nan, -1.0]]), good, seed=0)
    with pytest.raises(BadInputError, match="0 to log 2"):
        implied_share(0.8)
    with pytest.raises(BadInputError, match="equally many"):
        pooled_divergence(np.zeros((2, 3), int), np.zeros((1, 3), int), codebook=2, seed=0)
    with pytest.raises(BadInputError, match="a column for each"):
        responsibilities(good, ("male", "female", "other"), seed=0)
