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


def simulated(groups, accuracy, labelled, audits):
    """Share of audits whose corrected intervals hold the truth, of RD and of shares, and of the uncorrected RD."""
    rng, rd_held, share_held, plain_held = np.random.default_rng(2), [], [], []
    rates = np.full((groups, groups), (1 - accuracy) / (groups - 1))
    np.fill_diagonal(rates, accuracy)
    names = tuple("abcdefgh"[:groups])
    for audit in range(audits):
        shares = rng.dirichlet(np.ones(groups), 20)
        truth = np.mean([np.mean([abs(a - b) for i, a in enumerate(r) for b in r[:i]]) for r in shares])
        confusion = ConfusionMatrix(names, np.stack([rng.multinomial(labelled, row) for row in rates]))
        counted = run(np.stack([rng.multinomial(160, row @ rates) for row in shares]), names)
        found, plain = correct_disparity(counted, confusion, seed=audit), disparity(counted, seed=audit).estimates[0]
        rd_held.append(found.rd.low <= truth <= found.rd.high)
        plain_held.append(plain.low <= truth <= plain.high)
        for row, estimates in zip(shares, found.shares.values(), strict=True):
            share_held += [one.low <= true <= one.high for one, true in zip(estimates, row, strict=True)]
    return np.mean(rd_held), np.mean(share_held), np.mean(plain_held)


def test_coverage_with_a_known_noisy_classifier():
    rd, shares, plain = simulated(2, 0.85, 200, 15)
    assert rd >= 0.8
    assert shares >= 0.92
    assert plain < 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "accuracy", "labelled"), [(2, 0.9, 100), (2, 0.8, 200), (4, 0.85, 100), (8, 0.9, 200)]
)
def test_coverage_over_200_audits(groups, accuracy, labelled):
    rd, shares, plain = simulated(groups, accuracy, labelled, 200)
    print(f"\n{groups} groups, {accuracy}, {labelled}: RD {rd:.3f}, shares {shares:.3f}, plain {plain:.3f}", end="")
    assert rd >= 0.91
    assert shares >= 0.93
