"""Pictures needed, against audits simulated apart from the planner."""

import numpy as np
import pytest

from evenhand.errors import BadInputError
from evenhand.metrics.disparity import disparity
from evenhand.metrics.planning import expected_half_width, pictures_needed
from evenhand.metrics.tally import tally_counts


def test_far_from_even_it_is_the_closed_form():
    # 20 prompts at 0.9: sd of the mean of 2f - 1 is 2 sqrt(0.09 / n / 20), so 1.96 sd = 0.02 needs n = 173.
    shares = np.tile([0.9, 0.1], (20, 1))
    plan = pictures_needed(0.02, prompts=20, groups=2, seed=0, shares=shares)
    assert plan.pictures == pytest.approx(173, rel=0.08)
    assert plan.half_width <= 0.02


def test_the_planned_audit_is_as_narrow_as_wanted():
    rng = np.random.default_rng(9)
    shares = rng.dirichlet(np.ones(4), 15)
    plan, widths = pictures_needed(0.02, prompts=15, groups=4, seed=1, shares=shares), []
    for audit in range(10):
        rows = rng.multinomial(plan.pictures, shares)
        counted = tally_counts({str(i): row.tolist() for i, row in enumerate(rows)}, groups=tuple("abcd"))
        rd = disparity(counted, seed=audit).estimates[0]
        widths.append((rd.high - rd.low) / 2)
    assert np.mean(widths) == pytest.approx(0.02, rel=0.08)


def test_more_precision_and_fewer_prompts_need_more():
    needed = {
        (half, prompts): pictures_needed(half, prompts=prompts, groups=2, seed=0, audits=3).pictures
        for half, prompts in ((0.05, 20), (0.1, 20), (0.1, 5))
    }
    assert needed[0.05, 20] > needed[0.1, 20]
    assert needed[0.1, 5] > needed[0.1, 20]


def test_without_shares_the_widest_table_is_planned_for():
    plan = pictures_needed(0.08, prompts=20, groups=2, seed=0, audits=5)
    for top in (0.5, 0.55, 0.6, 0.7):
        shares = np.tile([top, 1 - top], (20, 1))
        assert expected_half_width(shares, plan.pictures, seed=5, audits=5) <= 0.08 * 1.1


def test_what_is_not_allowed():
    for half, prompts in ((0.0, 5), (0.6, 5), (0.1, 0)):
        with pytest.raises(BadInputError, match="plan: got a half-width"):
            pictures_needed(half, prompts=prompts, groups=2, seed=0)
    with pytest.raises(BadInputError, match="more than 100000 pictures"):
        pictures_needed(1e-5, prompts=5, groups=2, seed=0, audits=1)
    with pytest.raises(BadInputError, match="sums 1"):
        expected_half_width(np.array([[0.5, 0.6]]), 10, seed=0)
