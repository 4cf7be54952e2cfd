"""The classifier's errors taken off: by hand, by maximising the likelihood, with a known noisy classifier."""

import numpy as np
import pytest
from scipy.optimize import minimize

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.correction import ConfusionMatrix, correct_disparity, correct_shares
from evenhand.metrics.disparity import disparity
from evenhand.metrics.tally import tally_counts

GROUPS = ("a", "b")
# 10% of a are read as b, 20% of b as a.
NOISY = np.array([[180, 20], [40, 160]])


def matrix(counts, groups=GROUPS):
    return ConfusionMatrix(groups, np.array(counts))


def run(rows, groups=GROUPS):
    return tally_counts({f"p{i:02}": [int(x) for x in row] for i, row in enumerate(rows)}, groups=groups)


def test_by_hand():
    # True shares (0.5, 0.5) are read as 0.5 * 0.9 + 0.5 * 0.2 = 0.55: so 55 of 100 read as a are 0.5.
    assert correct_shares(np.array([[0.55, 0.45]]), matrix(NOISY).rates)[0] == pytest.approx([0.5, 0.5])
    found = correct_disparity(run([[550, 450]]), matrix(NOISY), seed=0)
    assert [one.value for one in found.shares["p00"]] == pytest.approx([0.5, 0.5])
    # Read as a at most in 90% of pictures: 95% can only be all a.
    assert correct_shares(np.array([[0.95, 0.05]]), matrix(NOISY).rates)[0] == pytest.approx([1.0, 0.0], abs=1e-6)


def test_a_perfect_classifier_changes_nothing():
    found = correct_disparity(run([[700, 300]]), matrix([[10**7, 0], [0, 10**7]]), seed=0)
    assert found.shares["p00"][0].value == pytest.approx(0.7)
    plain = disparity(run([[700, 300]]), seed=0).estimates[0]
    assert (found.rd.value, found.rd.low, found.rd.high) == pytest.approx((0.4, plain.low, plain.high), abs=0.01)


@pytest.mark.parametrize("seen", [[0.95, 0.03, 0.02], [0.02, 0.9, 0.08], [0.05, 0.05, 0.9]])
def test_outside_the_simplex_it_is_the_maximum_of_the_likelihood(seen):
    rates = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.2, 0.75]])
    seen = np.array(seen)
    assert (seen @ np.linalg.inv(rates)).min() < 0

    def loss(free):
        shares = np.exp(free - free.max())
        return -(seen * np.log(shares / shares.sum() @ rates)).sum()

    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000})
    (found,) = correct_shares(seen[None], rates)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1.0)
    assert -(seen * np.log(found @ rates)).sum() <= best.fun + 1e-6


def test_intervals_are_wider_than_without_the_correction():
    counted = run([[300, 100], [120, 280], [220, 180]])
    plain, found = disparity(counted, seed=0), correct_disparity(counted, matrix(NOISY), seed=0)
    assert found.rd.high - found.rd.low > plain.estimates[0].high - plain.estimates[0].low
    for prompt in plain.prompts:
        for before, after in zip(prompt.shares, found.shares[prompt.prompt_id], strict=True):
            assert after.high - after.low > before.high - before.low


def test_fewer_labelled_pictures_widen_the_interval():
    counted = run([[300, 100]] * 10)
    widths = []
    for scale in (1, 10, 100):
        found = correct_disparity(counted, matrix(NOISY * scale // 10), seed=0).rd
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("labelled", [100, 400])
def test_at_the_ceiling_an_interval_says_something_and_not_everything(labelled):
    # All male, read by a classifier that is right in 90%: on average 0.9 of pictures read male, share 1, RD 1. What the
    # labelled set leaves open of 0.9 is sqrt(0.09 / labelled); RD is 2 (a - read) / (2a - 1) away from 1, so its
    # standard deviation is 2.5 times that: 0.075 and 0.0375, and the interval reaches about twice as far down.
    confusion = matrix(np.array([[90, 10], [10, 90]]) * labelled // 100)
    found = correct_disparity(run([[144, 16]] * 25 + [[146, 14]] * 25), confusion, seed=0).rd
    deviation = 2.5 * np.sqrt(0.09 / labelled)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 1 - 2.6 * deviation < found.low < 1 - 1.6 * deviation


def test_all_of_one_group_has_intervals_with_a_width():
    found = correct_disparity(run([[160, 0], [0, 160]]), matrix([[190, 10], [10, 190]]), seed=0)
    for first, second in found.shares.values():
        for one in (first, second):
            edge = round(one.value)
            assert one.value == pytest.approx(edge, abs=1e-9)
            assert 0.01 < one.high - one.low < 0.2
            assert edge in (pytest.approx(one.low, abs=1e-9), pytest.approx(one.high, abs=1e-9))
    one = correct_disparity(run([[152, 8]]), matrix([[190, 10], [10, 190]]), seed=0)
    assert (one.rd.value, one.rd.high) == (1.0, 1.0)
    assert 0.7 < one.rd.low < 0.95
    assert 0.9 < one.shares["p00"][0].low < 0.97


def test_the_floor_is_what_even_models_leave():
    # 300 even models of 10 prompts, each with a labelled set of its own, corrected: the mean of their RD.
    rng, left, floors = np.random.default_rng(5), [], []
    for audit in range(300):
        a, b = rng.binomial(200, 0.9, 2)
        first = rng.binomial(160, 0.5, 10)
        found = correct_disparity(
            run(np.stack([first, 160 - first], axis=1)),
            matrix([[a, 200 - a], [200 - b, b]]),
            seed=audit,
            replicates=100,
        )
        left.append(found.rd.value)
        floors.append(found.rd.floor)
    assert np.mean(floors) == pytest.approx(np.mean(left), abs=0.008)
    assert 0.0 < np.mean(floors) < 0.06


def test_rd_and_share_of_two_groups_and_one_prompt_say_the_same():
    # RD is |2 share - 1|: near one group the ends of both intervals are those of one estimate. As without a correction,
    # RD's score interval reaches about z^2 pictures, 3.84 * 2 / 160 = 0.048, further down at the ceiling itself.
    for first in (130, 140, 150):
        found = correct_disparity(run([[first, 160 - first]]), matrix([[360, 40], [40, 360]]), seed=0)
        share = found.shares["p00"][0]
        assert 2 * share.low - 1 - 0.048 - 0.02 < found.rd.low < 2 * share.low - 1 + 0.02
        assert found.rd.high == pytest.approx(2 * share.high - 1, abs=0.02)


def test_a_classifier_that_does_not_tell_groups_apart_is_refused():
    with pytest.raises(BadInputError, match="reads 'a' and 'b' most alike"):
        matrix([[50, 50], [50, 50]])
    with pytest.raises(BadInputError, match="reads 'y' and 'z' most alike"):
        matrix([[90, 5, 5], [10, 45, 45], [10, 45, 45]], ("x", "y", "z"))


def test_what_is_not_allowed():
    with pytest.raises(TooFewSamplesError, match="0 labelled pictures of b"):
        matrix([[5, 1], [0, 0]])
    with pytest.raises(BadInputError, match="counts of 0 or more"):
        matrix([[5, 1], [-1, 3]])
    with pytest.raises(BadInputError, match="confusion matrix of b, a, allowed: a, b"):
        correct_disparity(run([[1, 2]]), matrix(NOISY, ("b", "a")), seed=0)


def any_shares(rng, groups):
    return rng.dirichlet(np.ones(groups), 20)


def near_one_group(rng, groups):
    """20 prompts, the first group's share between 0.97 and 1."""
    first = rng.uniform(0.97, 1.0, (20, 1))
    return np.concatenate([first, (1 - first) * rng.dirichlet(np.ones(groups - 1), 20)], axis=1)


def one_group(rng, groups):
    return np.eye(groups)[np.zeros(20, dtype=int)]


def simulated(groups, accuracy, labelled, audits, table=any_shares):
    """Share of audits whose corrected intervals hold the truth, of RD and of shares, of the uncorrected RD; the width.

    The width is the corrected RD's median, as a share of the largest RD.
    """
    rng, rd_held, share_held, plain_held, widths = np.random.default_rng(2), [], [], [], []
    rates = np.full((groups, groups), (1 - accuracy) / (groups - 1))
    np.fill_diagonal(rates, accuracy)
    names = tuple("abcdefgh"[:groups])
    for audit in range(audits):
        shares = table(rng, groups)
        truth = np.mean([np.mean([abs(a - b) for i, a in enumerate(r) for b in r[:i]]) for r in shares])
        confusion = ConfusionMatrix(names, np.stack([rng.multinomial(labelled, row) for row in rates]))
        counted = run(np.stack([rng.multinomial(160, row @ rates) for row in shares]), names)
        found, plain = correct_disparity(counted, confusion, seed=audit), disparity(counted, seed=audit).estimates[0]
        rd_held.append(found.rd.low - 1e-9 <= truth <= found.rd.high + 1e-9)
        plain_held.append(plain.low <= truth <= plain.high)
        widths.append((found.rd.high - found.rd.low) * groups / 2)
        for row, estimates in zip(shares, found.shares.values(), strict=True):
            share_held += [one.low - 1e-9 <= true <= one.high + 1e-9 for one, true in zip(estimates, row, strict=True)]
    return np.mean(rd_held), np.mean(share_held), np.mean(plain_held), np.median(widths)


def test_coverage_with_a_known_noisy_classifier():
    rd, shares, plain, _ = simulated(2, 0.85, 200, 15)
    assert rd >= 0.8
    assert shares >= 0.92
    assert plain < 0.4


@pytest.mark.parametrize("table", [near_one_group, one_group])
def test_coverage_where_nearly_all_are_of_one_group(table):
    rd, shares, plain, width = simulated(2, 0.9, 200, 20, table)
    assert rd >= 0.85
    assert shares >= 0.9
    assert plain < 0.1
    assert 0.03 < width < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("table", [any_shares, near_one_group, one_group])
@pytest.mark.parametrize(
    ("groups", "accuracy", "labelled"),
    [(2, 0.98, 100), (2, 0.9, 100), (2, 0.8, 200), (4, 0.95, 200), (4, 0.85, 100), (8, 0.9, 200)],
)
def test_coverage_over_200_audits(groups, accuracy, labelled, table):
    rd, shares, plain, width = simulated(groups, accuracy, labelled, 200, table)
    print(
        f"\n{table.__name__}, {groups} groups, {accuracy}, {labelled}: RD {rd:.3f}, shares {shares:.3f}, "
        f"plain {plain:.3f}, width {width:.3f}",
        end="",
    )
    assert rd >= 0.91
    assert shares >= 0.93
    assert width < 0.45
