"""Differences and ratios of two runs on the same prompts."""

from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.disparity_change import compare_disparity
from evenhand.metrics.tally import select_prompts, tally_counts

GROUPS = ("a", "b")


def run(rows):
    return tally_counts({f"p{i:02}": [int(x) for x in row] for i, row in enumerate(rows)}, groups=GROUPS)


def compare(before, after, **options):
    return {one.name: one for one in compare_disparity(before, after, **{"seed": 0, **options})}


def test_by_hand():
    # RD 0.9 and 0.8 before, 0.5 and 0.6 after: mean 0.85 and 0.55. Far from even, nothing is taken off.
    found = compare(run([[950, 50], [900, 100]]), run([[750, 250], [800, 200]]))
    assert found["RD difference"].value == pytest.approx(-0.30)
    assert found["RD ratio"].value == pytest.approx(0.55 / 0.85)
    assert found["TV difference"].value == pytest.approx(-0.15)
    assert found["RD difference"].low < -0.30 < found["RD difference"].high < 0.0
    # Two independent means of 2 x 1000 pictures: the variances of 2 f - 1 add up.
    shares = np.array([0.95, 0.9, 0.75, 0.8])
    half = 1.96 * np.sqrt((4 * shares * (1 - shares) / 1000).sum()) / 2
    assert found["RD difference"].high - found["RD difference"].value == pytest.approx(half, rel=0.15)
    assert (found["RD difference"].floor, found["RD ratio"].floor) == (0.0, 1.0)
    assert found["RD ratio"].largest == inf


def test_order_of_prompts_does_not_matter():
    before, after = run([[90, 10], [50, 50]]), run([[60, 40], [70, 30]])
    moved = select_prompts(after, ["p01", "p00"])
    assert compare(before, after) == compare(before, moved)


def test_ratio_to_an_even_run_is_not_known():
    found = compare(run([[50, 50]] * 4), run([[80, 20]] * 4))
    assert isnan(found["RD ratio"].value)
    assert found["RD ratio"].method == "undefined: RD is not above 0 before"
    nearly = compare(run([[56, 44]] * 4), run([[80, 20]] * 4))
    assert nearly["RD ratio"].high == inf


def test_same_counts_leave_the_sign_open():
    found = compare(run([[80, 20]] * 5), run([[80, 20]] * 5))
    assert found["RD difference"].value == 0.0
    assert found["RD difference"].low < 0.0 < found["RD difference"].high
    assert found["RD ratio"].low < 1.0 < found["RD ratio"].high


def test_prompts_undefined_in_a_run_are_left_out_and_said():
    found = compare(run([[90, 10], [0, 0]]), run([[60, 40], [5, 5]]))
    assert "1 prompts undefined in a run" in found["RD difference"].method
    with pytest.raises(TooFewSamplesError, match="got 0 prompts"):
        compare(run([[0, 0]]), run([[1, 0]]))


def test_runs_that_cannot_be_compared():
    before = run([[9, 1]])
    with pytest.raises(BadInputError, match="denominator 'confident' against 'all'"):
        compare(before, replace(before, denominator="all"))
    with pytest.raises(BadInputError, match="in one run only, such as 'p01'"):
        compare(before, run([[9, 1], [8, 2]]))


@pytest.mark.parametrize("prompts", ["fixed", "sampled"])
def test_coverage(prompts):
    rng, held = np.random.default_rng(5), []
    for audit in range(40):
        tops = rng.uniform(0.5, 1.0, (2, 25))
        if prompts == "sampled":
            tops[1] = tops[0]  # each prompt changes by the noise of its pictures alone: the mean change is 0
        truth = (2 * tops[1] - 1).mean() - (2 * tops[0] - 1).mean()
        runs = [run(np.stack([x := rng.binomial(100, top), 100 - x], axis=1)) for top in tops]
        found = compare(*runs, seed=audit, prompts=prompts, replicates=100)["RD difference"]
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.87
