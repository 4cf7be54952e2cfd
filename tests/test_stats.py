"""Intervals against closed forms, by hand, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.stats import Event, exchange_rates, percentile_interval, resample_rates


def ask(hits, *, name="rate", base=None, mirrored=False):
    hit = np.asarray(hits, dtype=np.bool_)
    asked = np.ones(len(hit), dtype=np.bool_) if base is None else np.asarray(base, dtype=np.bool_)
    return Event(name, hit, asked, mirrored)


def pictures(n):
    return [f"p{index:05}" for index in range(n)]


def first(successes, n):
    return np.arange(n) < successes


@pytest.mark.parametrize(("successes", "n"), [(0, 25), (2, 25), (25, 25), (40, 80)])
def test_independent_rows_draw_jeffreys_beta(successes, n):
    # Sum of x Gamma(1) and a Gamma(1/2) is Gamma(x + 1/2), so the share is Beta(x + 1/2, n - x + 1/2).
    (rate,) = resample_rates([ask(first(successes, n))], pictures(n), seed=3, replicates=40_000)
    exact = stats.beta(successes + 0.5, n - successes + 0.5)
    assert stats.kstest(rate.draws, exact.cdf).pvalue > 0.001
    for probability in (0.025, 0.5, 0.975):
        quantile = exact.ppf(probability)
        error = np.sqrt(probability * (1 - probability) / 40_000) / exact.pdf(quantile)
        assert np.quantile(rate.draws, probability) == pytest.approx(quantile, abs=4 * error)


def test_none_and_all_have_intervals_of_some_width():
    # 0 of 25: the upper end is Beta(1/2, 25.5) at 0.975, which is 0.0947; the lower end is 0, not 0.00002.
    none, every = resample_rates([ask(first(0, 25)), ask(first(25, 25))], pictures(25), seed=0, replicates=20_000)
    low = percentile_interval(none.value, none.draws, level=0.95)
    high = percentile_interval(every.value, every.draws, level=0.95)
    assert low.low == 0.0
    assert low.high == pytest.approx(stats.beta.ppf(0.975, 0.5, 25.5), abs=0.005)
    assert high.high == 1.0
    assert high.low == pytest.approx(stats.beta.ppf(0.025, 25.5, 0.5), abs=0.005)


def test_only_base_rows_count():
    # Base is rows 0..3, of which row 0 hits; the hit of row 5 lies outside. 1 / 4, from 4 units of 6.
    event = ask([1, 0, 0, 0, 0, 1], base=[1, 1, 1, 1, 0, 0])
    (rate,) = resample_rates([event], pictures(6), seed=0, replicates=100)
    assert rate.value == 0.25
    assert rate.n == 4


def test_a_unit_of_copies_is_one_unit():
    # Four copies of each of 25 rows know no more than the 25 rows: the pseudo-observations count for 4 too.
    hits = first(5, 25)
    (single,) = resample_rates([ask(hits)], pictures(25), seed=7, replicates=500)
    (copies,) = resample_rates([ask(np.repeat(hits, 4))], np.repeat(pictures(25), 4).tolist(), seed=7, replicates=500)
    np.testing.assert_allclose(copies.draws, single.draws, rtol=1e-12)
    assert copies.n == 25


def test_rates_share_weights_and_own_pseudo_observations():
    # The same rate twice is the same draw; a rate and its complement differ by pseudo-observations only.
    hits = first(30, 80)
    one, two, other = resample_rates(
        [ask(hits), ask(hits), ask(~hits, name="complement")], pictures(80), seed=1, replicates=2000
    )
    np.testing.assert_array_equal(one.draws, two.draws)
    assert np.corrcoef(one.draws, other.draws)[0, 1] < -0.95


def test_one_changed_row_is_not_a_sure_change():
    # Before: row 0 hits; after: none. After exceeds before where a > w + b, with a, b ~ Gamma(1/2) and
    # w ~ Gamma(1): the chance that Beta(1/2, 3/2) exceeds 1/2, which is 1/2 - 1/pi = 0.182.
    before, after = resample_rates(
        [ask(first(1, 80)), ask(first(0, 80), mirrored=True)], pictures(80), seed=5, replicates=20_000
    )
    assert np.mean(after.draws > before.draws) == pytest.approx(0.5 - 1 / np.pi, abs=0.012)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    hits, unit = rng.random(60) < 0.3, np.array([f"s{index % 15}" for index in range(60)])
    order = rng.permutation(60)
    (one,) = resample_rates([ask(hits)], unit.tolist(), seed=2, replicates=300)
    (two,) = resample_rates([ask(hits[order])], unit[order].tolist(), seed=2, replicates=300)
    np.testing.assert_array_equal(one.draws, two.draws)


def test_seed_decides():
    one, two, other = (
        resample_rates([ask(first(5, 40))], pictures(40), seed=seed, replicates=200)[0].draws for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_interval_is_the_middle_and_holds_the_value():
    draws = np.arange(101, dtype=np.float64)  # quantile q is 100 q
    assert percentile_interval(50.0, draws, level=0.9).low == pytest.approx(5.0)
    assert percentile_interval(50.0, draws, level=0.9).high == pytest.approx(95.0)
    assert percentile_interval(1.0, draws, level=0.9).low == 1.0
    assert percentile_interval(99.0, draws, level=0.9).high == 99.0


def test_exchange_within_units():
    # Two units, each with one row of group 0 (hit) and one of group 1. Each unit's hit falls on either group
    # with chance 1/2, so group 0 has rate 0, 1/2, 1 with chance 1/4, 1/2, 1/4, and group 1 the rest.
    rates = exchange_rates(
        np.array([True, False, True, False]),
        np.array([0, 1, 0, 1]),
        ["a", "a", "b", "b"],
        groups=2,
        seed=0,
        exchanges=8000,
    )
    np.testing.assert_array_equal(rates.sum(axis=1), 1.0)
    shares = [np.mean(rates[:, 0] == value) for value in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.02)


def test_exchange_between_units_of_one_group():
    # Four pictures, two hits, two labels each: group 0 gets both hits in 1 of C(4, 2) = 6 exchanges.
    rates = exchange_rates(
        np.array([True, True, False, False]),
        np.array([0, 1, 0, 1]),
        pictures(4),
        groups=2,
        seed=0,
        exchanges=8000,
    )
    assert np.mean(rates[:, 0] == 1.0) == pytest.approx(1 / 6, abs=0.02)


def test_exchange_keeps_hits_with_three_groups_and_uneven_units():
    rng = np.random.default_rng(1)
    hit, group = rng.random(50) < 0.4, np.arange(50) % 3
    unit = [f"u{index // 7}" for index in range(50)]
    rates = exchange_rates(hit, group, unit, groups=3, seed=0, exchanges=50)
    np.testing.assert_allclose(rates @ np.bincount(group), hit.sum())


def test_undefined_is_an_error():
    with pytest.raises(TooFewSamplesError, match=r"'MR_F' is undefined: got 0 rows"):
        resample_rates([ask([1, 0], name="MR_F", base=[0, 0])], ["a", "b"], seed=0, replicates=100)
    with pytest.raises(TooFewSamplesError, match=r"got 1 \(desk\), allowed: 2 or more"):
        resample_rates([ask([1, 0])], ["desk", "desk"], seed=0, replicates=100)
    with pytest.raises(TooFewSamplesError, match=r"got 0 rows in groups \[1\]"):
        exchange_rates(np.array([True, False]), np.array([0, 0]), ["a", "b"], groups=2, seed=0, exchanges=10)


def test_options_not_allowed_are_errors():
    with pytest.raises(BadInputError, match="got 1 hits, 1 base flags and 2 units"):
        resample_rates([ask([1])], ["a", "b"], seed=0, replicates=100)
    with pytest.raises(BadInputError, match="got 99, allowed: 100 or more"):
        resample_rates([ask([1, 0])], ["a", "b"], seed=0, replicates=99)
    with pytest.raises(BadInputError, match="seed is negative"):
        resample_rates([ask([1, 0])], ["a", "b"], seed=-1, replicates=100)
    with pytest.raises(BadInputError, match="level is not a probability"):
        percentile_interval(0.5, np.array([0.5]), level=95.0)
    with pytest.raises(BadInputError, match="columns of different length"):
        exchange_rates(np.array([True]), np.array([0]), ["a", "b"], groups=2, seed=0, exchanges=10)


def coverage(draw_rows, truth, *, simulations=2000):
    """Share of simulated data sets whose interval holds the truth, and the mean width."""
    rng = np.random.default_rng(11)
    held, width = 0, 0.0
    for seed in range(simulations):
        hits, unit = draw_rows(rng)
        (rate,) = resample_rates([ask(hits)], unit, seed=seed, replicates=1000)
        interval = percentile_interval(rate.value, rate.draws, level=0.95)
        held += interval.low <= truth <= interval.high
        width += interval.high - interval.low
    return held / simulations, width / simulations


@pytest.mark.slow
def test_coverage_of_rates_over_pictures():
    # Coverage of any interval for a binomial jumps with p; Jeffreys' is about 0.95 on average over p.
    held = {}
    for n in (25, 80, 200):
        for p in (0.02, 0.1, 0.5):
            unit = pictures(n)
            held[n, p], width = coverage(lambda rng, n=n, p=p, unit=unit: (rng.random(n) < p, unit), p)
            print(f"\nrate, {n} pictures, p {p}: coverage {held[n, p]:.3f}, width {width:.3f}", end="")
    assert min(held.values()) > 0.885
    assert 0.935 < np.mean(list(held.values())) < 0.975


@pytest.mark.slow
def test_coverage_of_rates_over_scenes():
    # 20 scenes of 4; the rate of a scene is Beta with the given mean and within-scene correlation.
    unit = np.repeat(pictures(20), 4).tolist()
    for p in (0.05, 0.1, 0.3, 0.5):
        for correlation in (0.1, 0.4):
            size = 1 / correlation - 1

            def draw_rows(rng, p=p, size=size):
                scene = rng.beta(p * size, (1 - p) * size, 20)
                return rng.random(80) < np.repeat(scene, 4), unit

            held, width = coverage(draw_rows, p)
            print(
                f"\nrate, 20 scenes of 4, p {p}, correlation {correlation}: {held:.3f}, width {width:.3f}",
                end="",
            )
            assert 0.925 < held < 0.985
