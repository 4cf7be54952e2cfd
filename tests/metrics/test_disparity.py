"""Representation Disparity by hand, its floor by enumeration, and that its intervals hold the truth."""

from itertools import product
from math import comb, factorial, isnan, prod

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.disparity import disparity
from evenhand.metrics.distances import Distance, distance_floor, even_target, measure, share_interval
from evenhand.metrics.tally import Tally, select_prompts, tally, tally_counts
from evenhand.records import Label


def names(groups):
    return tuple("abcdefgh"[:groups])


def count(*rows):
    return tally_counts({f"p{i:03}": [int(x) for x in row] for i, row in enumerate(rows)}, groups=names(len(rows[0])))


def mean_of(found):
    return {estimate.name: estimate for estimate in found.estimates}


def pairs(shares):
    return np.mean([abs(a - b) for i, a in enumerate(shares) for b in shares[:i]])


def test_by_hand():
    # 3 of 4 show a: |0.75 - 0.25| = 0.50. (2, 1, 1, 0) of 4: gaps 1, 1, 2, 0, 1, 1 of 4: 6 / 24 = 0.25.
    assert measure(Distance("RD", even_target(2)), np.array([[0.75, 0.25]])) == pytest.approx([0.5])
    assert measure(Distance("RD", even_target(4)), np.array([[0.5, 0.25, 0.25, 0.0]])) == pytest.approx([0.25])


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
def test_sorted_form_is_the_mean_over_pairs(groups):
    shares = np.random.default_rng(groups).dirichlet(np.ones(groups), 20)
    found = measure(Distance("RD", even_target(groups)), shares)
    assert found == pytest.approx([pairs(row) for row in shares])


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_a_hundred_pictures_of_one_group_are_the_largest(groups):
    found = mean_of(disparity(count([100] + [0] * (groups - 1)), seed=0))
    for name in ("RD", "RD_observed"):
        assert found[name].value == found[name].largest == found[name].high == pytest.approx(2 / groups)
        assert found[name].low < found[name].value
    assert found["RD_normalised"].value == 1.0
    assert found["TV"].value == found["TV"].largest == pytest.approx(1 - 1 / groups)


def test_mean_of_prompts_and_not_of_pooled_counts():
    # Opposite biases: pooled counts are even, each prompt is at 1.
    found = mean_of(disparity(count([50, 0], [0, 50]), seed=0))
    assert found["RD_observed"].value == found["RD"].value == 1.0


def test_target_by_hand():
    # f - t = (0.5 - 0.7, 0.5 - 0.3) = (-0.2, 0.2): RD_target 0.4, TV 0.2. Furthest: all b: (-0.7, 0.7): 1.4 and 0.7.
    found = mean_of(disparity(count([50, 50]), seed=0, target=(0.7, 0.3)))
    assert found["RD_target_observed"].value == pytest.approx(0.4)
    assert found["TV_observed"].value == pytest.approx(0.2)
    assert found["RD_target"].largest == pytest.approx(1.4)
    assert found["TV"].largest == pytest.approx(0.7)
    assert found["RD_observed"].value == 0.0
    even = mean_of(disparity(count([50, 50]), seed=0, target=(0.5, 0.5)))
    assert "RD_target" not in even


def test_at_the_target_the_distance_is_0_and_rd_is_not():
    found = mean_of(disparity(count([70, 30]), seed=0, target=(0.7, 0.3)))
    assert found["TV"].value == found["TV_observed"].value == found["RD_target_observed"].value == 0.0
    assert found["RD_observed"].value == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("pictures", "wanted"),
    [(160, (0.063, 0.045, 0.031)), (100, (0.079, 0.057, 0.040)), (60, (0.103, 0.072, 0.051))],
)
def test_floor_of_the_specification(pictures, wanted):
    found = [distance_floor(Distance("RD", even_target(k)), pictures, pictures, seed=0) for k in (2, 4, 8)]
    assert found == pytest.approx(wanted, abs=0.001)


@pytest.mark.parametrize(("groups", "pictures"), [(2, 1), (2, 5), (2, 6), (3, 4), (4, 3)])
@pytest.mark.parametrize("kind", ["RD", "TV"])
def test_floor_by_enumeration(kind, groups, pictures):
    # Every table of counts, with its multinomial chance.
    total = 0.0
    for row in product(range(pictures + 1), repeat=groups):
        if sum(row) == pictures:
            chance = factorial(pictures) / prod(factorial(x) for x in row) / groups**pictures
            shares = np.array(row) / pictures
            total += chance * (pairs(shares) if kind == "RD" else np.abs(shares - 1 / groups).sum() / 2)
    assert distance_floor(Distance(kind, even_target(groups)), pictures, pictures, seed=0) == pytest.approx(total)


def test_floor_at_a_target_by_enumeration():
    # RD to (0.7, 0.3) of 10 pictures is 2 |x / 10 - 0.7|; simulated with 4000 draws.
    wanted = sum(comb(10, x) * 0.7**x * 0.3 ** (10 - x) * 2 * abs(x / 10 - 0.7) for x in range(11))
    assert distance_floor(Distance("RD", (0.7, 0.3)), 10, 10, seed=1) == pytest.approx(wanted, rel=0.05)


def labels_of(prompt, shown, reasons):
    groups = [group for group, n in shown.items() for _ in range(n)]
    unknown = [reason for reason, n in reasons.items() for _ in range(n)]
    rows = [(group, None) for group in groups] + [(None, reason) for reason in unknown]
    return [Label(prompt, k, "gender", group, reason, 1.0) for k, (group, reason) in enumerate(rows)]


def test_denominator_scales_and_is_named():
    # 60 a, 20 b, 10 several faces, 10 no face. Known: 40/80 = 0.5. All: 40/100. Face: 40/90.
    labels = labels_of("p", {"a": 60, "b": 20}, {"several faces": 10, "no face": 10})
    for denominator, wanted in (("all", 0.4), ("face", 40 / 90), ("confident", 0.5)):
        found = disparity(tally(labels, groups=("a", "b"), denominator=denominator), seed=0)
        assert mean_of(found)["RD_observed"].value == pytest.approx(wanted)
        assert found.denominator == denominator
        assert f"denominator {denominator}" in mean_of(found)["RD"].method
        assert found.unknown == {"several faces": 10, "no face": 10}
        assert sum(share.value for share in found.prompts[0].shares) == pytest.approx(80 / found.prompts[0].base)


def test_a_prompt_that_shows_nobody_is_undefined_and_never_0():
    labels = [*labels_of("shown", {"a": 5, "b": 5}, {}), *labels_of("hidden", {}, {"no face": 7, "uncertain": 2})]
    found = disparity(tally(labels, groups=("a", "b"), denominator="all"), seed=0)
    assert found.undefined == {"hidden": "0 pictures show a group (no face 7, uncertain 2)"}
    hidden = found.prompts[1]
    assert [one.name for one in hidden.estimates] == [one.name for one in found.prompts[0].estimates]
    assert all(isnan(one.value) and isnan(one.low) and one.n == 0 for one in hidden.estimates)
    assert "undefined: 0 pictures show a group" in hidden.estimates[0].method
    assert "1 prompts undefined and left out" in mean_of(found)["RD"].method
    with pytest.raises(TooFewSamplesError, match="got 0 prompts"):
        disparity(tally(labels[10:], groups=("a", "b"), denominator="all"), seed=0)


def test_shares_have_the_interval_of_jeffreys():
    # 0 of 25: 0 to 0.0947, as docs/intervals.md has it.
    share = disparity(count([0, 25]), seed=0).prompts[0].shares[0]
    assert (share.low, share.value) == (0.0, 0.0)
    assert share.high == pytest.approx(0.0947, abs=5e-4)


def test_two_groups_of_one_prompt_fold_the_interval_of_the_share():
    # 40 of 50 show a: RD is 2 f - 1, and so are its ends.
    share, rd = share_interval(40, 50, level=0.95), mean_of(disparity(count([40, 10]), seed=0))["RD"]
    assert (rd.low, rd.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1))
    assert mean_of(disparity(count([27, 23]), seed=0))["RD"].low == 0.0


def test_order_of_groups_does_not_matter():
    rng = np.random.default_rng(0)
    table = rng.multinomial(60, [0.5, 0.3, 0.1, 0.1], size=12)
    found, moved = (mean_of(disparity(count(*rows), seed=3)) for rows in (table, table[:, ::-1]))
    assert moved["RD_observed"].value == pytest.approx(found["RD_observed"].value)
    assert moved["RD"].value == pytest.approx(found["RD"].value)
    assert moved["RD"].low == pytest.approx(found["RD"].low, abs=0.01)


def test_order_of_prompts_does_not_matter():
    counted = count([30, 20], [10, 40], [25, 25], [49, 1])
    moved = disparity(select_prompts(counted, counted.prompts[::-1]), seed=4)
    assert moved.prompts[::-1] == disparity(counted, seed=4).prompts
    for one, other in zip(moved.estimates, disparity(counted, seed=4).estimates, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_same_seed_same_numbers():
    rows = [[30, 20], [10, 40], [25, 25]]
    assert disparity(count(*rows), seed=4) == disparity(count(*rows), seed=4)


def test_sampled_prompts_count_their_spread():
    # Half the prompts at 0, half at 1: the mean of these prompts is known well, that of other prompts is not.
    rows = [[100, 100]] * 10 + [[200, 0]] * 10
    fixed, sampled = (mean_of(disparity(count(*rows), seed=0, prompts=how))["RD"] for how in ("fixed", "sampled"))
    assert fixed.unit == "picture"
    assert (sampled.unit, sampled.n) == ("prompt", 20)
    # sd 0.51 over sqrt(20), times t of 19: about 0.24 a side.
    assert sampled.high - sampled.low > 0.4
    assert fixed.high - fixed.low < 0.15


def test_what_is_not_allowed():
    counted = count([5, 5])
    for options, message in (
        ({"seed": -1}, "got seed -1"),
        ({"seed": 0, "level": 1.0}, "level 1.0"),
        ({"seed": 0, "replicates": 10}, "10 replicates"),
        ({"seed": 0, "prompts": "some"}, "got 'some'"),
        ({"seed": 0, "target": (0.5, 0.6)}, "target: got"),
        ({"seed": 0, "target": (1.0,)}, "got 1 shares"),
    ):
        with pytest.raises(BadInputError, match=message):
            disparity(counted, **options)
    with pytest.raises(TooFewSamplesError, match="got 1 prompts"):
        disparity(counted, seed=0, prompts="sampled")
    with pytest.raises(BadInputError, match="unknown distance"):
        Distance("KL", (0.5, 0.5))


@pytest.mark.parametrize("groups", [2, 4])
def test_declared_bias_is_found(groups):
    # 40 prompts whose shares are declared, 400 pictures each.
    rng = np.random.default_rng(7)
    shares = rng.dirichlet(np.ones(groups), 40)
    truth = np.array([pairs(row) for row in shares])
    found = disparity(count(*rng.multinomial(400, shares)), seed=1)
    rd = mean_of(found)["RD"]
    assert rd.low <= truth.mean() <= rd.high
    assert rd.high - rd.low < 0.03
    inside = [p.estimates[0].low <= t <= p.estimates[0].high for p, t in zip(found.prompts, truth, strict=True)]
    assert np.mean(inside) >= 0.85


def audits(groups, pictures, draw_table, number, *, sampled=False):
    """Share of audits whose interval holds the truth, and of prompts whose own does."""
    held, own, rng = [], [], np.random.default_rng([groups, pictures])
    for audit in range(number):
        shares = draw_table(rng)
        truth = np.array([pairs(row) for row in shares])
        found = disparity(count(*rng.multinomial(pictures, shares)), seed=audit)
        rd = found.estimates[0]
        held.append(rd.low - 1e-9 <= truth.mean() <= rd.high + 1e-9)
        ends = [(p.estimates[0].low - 1e-9, p.estimates[0].high + 1e-9) for p in found.prompts]
        own.append(np.mean([low <= t <= high for (low, high), t in zip(ends, truth, strict=True)]))
    return float(np.mean(held)), float(np.mean(own))


@pytest.mark.parametrize("groups", [2, 4])
def test_even_models_are_not_called_uneven(groups):
    # The plain bootstrap holds an RD of 0 in no audit at all.
    held, own = audits(groups, 60, lambda _: np.full((20, groups), 1 / groups), 15)
    assert held >= 0.84
    assert own >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)


# A smallest and a largest coverage of the mean: intervals of four or more groups err towards "not known".
@pytest.mark.slow
@pytest.mark.parametrize(("groups", "least", "most"), [(2, 0.93, 0.99), (4, 0.93, 1.0), (8, 0.93, 1.0)])
@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_coverage_over_200_audits(groups, least, most, spread):
    held, own = audits(groups, 160, lambda rng: rng.dirichlet(np.full(groups, spread * 2 / groups), 50), 200)
    print(f"\nRD of {groups} groups, spread {spread}: mean {held:.3f}, prompts {own:.3f}", end="")
    assert least - 0.03 <= held <= most
    assert own >= 0.93


def test_unknown_pictures_do_not_break_intervals():
    counted = Tally("g", ("a", "b"), "all", ("p", "q"), np.array([[1, 0], [40, 40]]), np.array([50, 100]), ({}, {}))
    for prompt in disparity(counted, seed=0).prompts:
        rd = prompt.estimates[0]
        assert 0.0 <= rd.low <= rd.value <= rd.high <= 1.0
