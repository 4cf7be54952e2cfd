r"""How surely a rate is known. In: yes-or-no events per row, and the unit of each row. Out: draws, intervals.

Rows of one unit (a picture, or a scene drawn several times) are not independent, so units are resampled,
never rows. A replicate gives every unit a weight from Gamma(1) (the Bayesian bootstrap of Rubin 1981, *The
Annals of Statistics* 9), the same weight in every rate, so that two rates, or one rate in two runs, stay
paired. Each rate also gets a success and a failure that nobody saw, of weight Gamma(1/2) each: Jeffreys'
prior. For independent rows the draws are then exactly Beta(x + 1/2, n - x + 1/2), and 0 of 25 has an
interval of some width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evenhand.errors import BadInputError, TooFewSamplesError

__all__ = ["Event", "Interval", "Rate", "exchange_rates", "percentile_interval", "resample_rates"]

_WEIGHTS_AT_ONCE = 2_000_000
_FEWEST_REPLICATES = 100


@dataclass(frozen=True, slots=True)
class Event:
    """A yes-or-no question, and the rows it is asked of.

    Attributes:
        name: Name of the rate; with the seed it decides the pseudo-observations.
        hit: Where the answer is yes; rows outside ``base`` do not count.
        base: Rows the question is asked of.
        mirrored: Exchange the pseudo success and the pseudo failure. Set on the second of two runs that
            differ: each pseudo-observation then succeeds in one run only, which is Jeffreys' prior on the
            direction of a change, so a single changed row does not pass for a sure one.
    """

    name: str
    hit: Bool[np.ndarray, " rows"]
    base: Bool[np.ndarray, " rows"]
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of yes, and what it could have been.

    Attributes:
        name: Name of the event.
        value: Hits over base rows, in [0, 1].
        draws: One value per replicate, in [0, 1].
        n: Units that hold any base row.
    """

    name: str
    value: float
    draws: Float64[np.ndarray, " replicates"]
    n: int


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, the value between them."""

    low: float
    high: float


def resample_rates(events: Sequence[Event], unit: Sequence[str], *, seed: int, replicates: int) -> tuple[Rate, ...]:
    r"""Draws of several rates under the same weights of the units.

    With :math:`h_u, b_u` the hits and base rows of unit :math:`u`, one draw is

    .. math:: \frac{\sum_u w_u h_u + c\,a}{\sum_u w_u b_u + c\,(a + a')}

    where :math:`w_u \sim` Gamma(1) is shared by all rates, :math:`a, a' \sim` Gamma(1/2) depend on the seed
    and the rate's name, and :math:`c` is the mean number of base rows in units that have any. No further
    correction for few units is made; coverage without one is measured in ``docs/intervals.md``.

    Args:
        events: The rates; names may repeat (the same rate in two runs).
        unit: The unit of each row. The order of the rows has no effect.
        seed: Of the draws, 0 or more.
        replicates: Number of draws, at least 100.

    Returns:
        One rate per event, same order.

    Raises:
        BadInputError: Lengths differ, or the seed or the number of replicates is not allowed.
        TooFewSamplesError: Fewer than two units, or an event without base rows.
    """
    _check_draws(seed, replicates)
    row_unit, units = _number_units(unit)
    for event in events:
        _check_event(event, rows=len(unit))
    counts = np.stack(
        [
            np.bincount(row_unit, weights=mask, minlength=units)
            for event in events
            for mask in (event.hit & event.base, event.base)
        ],
        axis=1,
    )
    totals = _weighted_totals(counts, seed=seed, replicates=replicates)
    rates = []
    for index, event in enumerate(events):
        hits, base = counts[:, 2 * index], counts[:, 2 * index + 1]
        holders = int(np.count_nonzero(base))
        success, failure = _pseudo_observations(event.name, seed=seed, replicates=replicates)
        if event.mirrored:
            success, failure = failure, success
        scale = base.sum() / holders
        above = totals[:, 2 * index] + scale * success
        below = totals[:, 2 * index + 1] + scale * (success + failure)
        rates.append(Rate(event.name, float(hits.sum() / base.sum()), above / below, holders))
    return tuple(rates)


def percentile_interval(value: float, draws: Float64[np.ndarray, " replicates"], *, level: float) -> Interval:
    """The middle ``level`` of the draws, widened to hold the value.

    So an interval around a value at an end of its range stops there: 0 of 25 gives a low end of exactly 0.

    Args:
        value: The statistic on the data.
        draws: The statistic in each replicate.
        level: Probability between the ends, above 0 and below 1.

    Raises:
        BadInputError: ``level`` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise BadInputError(f"level is not a probability: got {level}, allowed: above 0 and below 1; try 0.95")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(min(float(low), value), max(float(high), value))


def exchange_rates(
    hit: Bool[np.ndarray, " rows"],
    group: Int64[np.ndarray, " rows"],
    unit: Sequence[str],
    *,
    groups: int,
    seed: int,
    exchanges: int,
) -> Float64[np.ndarray, "exchanges groups"]:
    """Rates per group when group labels are exchanged, as if the event did not depend on them.

    In a unit that holds several groups, labels are exchanged between its rows; units that hold one group
    exchange their labels with each other. So pictures that are units of their own are exchanged over all
    pictures.

    Args:
        hit: Where the event happened; it stays with its row.
        group: Declared group of each row, from 0.
        unit: The unit of each row.
        groups: Number of groups; each must have a row.
        seed: Of the exchanges, 0 or more.
        exchanges: Number of exchanges.

    Returns:
        Hits over rows of each group, in [0, 1], one line per exchange.

    Raises:
        BadInputError: Lengths differ, or the seed is negative.
        TooFewSamplesError: Fewer than two units, or a group without rows.
    """
    _check_seed(seed)
    row_unit, units = _number_units(unit)
    if not len(unit) == len(hit) == len(group):
        raise BadInputError(
            f"columns of different length: got {len(hit)} hits, {len(group)} groups and {len(unit)} units; "
            "give one of each per row"
        )
    sizes = np.bincount(row_unit * groups + group, minlength=units * groups).reshape(units, groups)
    if not sizes.any(axis=0).all():
        empty = np.flatnonzero(~sizes.any(axis=0)).tolist()
        raise TooFewSamplesError(
            f"groups without rows: got 0 rows in groups {empty}, counted from 0, of {groups}; "
            "at least 1 is needed; add rows of these groups"
        )
    hits = np.bincount(row_unit, weights=hit, minlength=units).astype(np.int64)
    rng = np.random.default_rng([seed])
    mixed = np.count_nonzero(sizes, axis=1) > 1
    within = _spread_hits(hits[mixed], sizes[mixed], rng=rng, exchanges=exchanges)
    above, below = _swap_units(hits[~mixed], sizes[~mixed], rng=rng, exchanges=exchanges)
    rates: Float64[np.ndarray, "exchanges groups"] = (within + above) / (sizes[mixed].sum(axis=0) + below)
    return rates


def _spread_hits(
    hits: Int64[np.ndarray, " units"],
    sizes: Int64[np.ndarray, "units groups"],
    *,
    rng: np.random.Generator,
    exchanges: int,
) -> Float64[np.ndarray, "exchanges groups"]:
    """Hits per group when each unit's hits fall on its rows at random (hypergeometric)."""
    groups = sizes.shape[1]
    totals = np.zeros((exchanges, groups))
    if not len(hits):
        return totals
    left = np.broadcast_to(hits, (exchanges, len(hits))).copy()
    for index in range(groups - 1):
        others = sizes[:, index + 1 :].sum(axis=1)
        drawn = rng.hypergeometric(sizes[:, index], others, left)
        totals[:, index] = drawn.sum(axis=1)
        left -= drawn
    totals[:, -1] = left.sum(axis=1)
    return totals


def _swap_units(
    hits: Int64[np.ndarray, " units"],
    sizes: Int64[np.ndarray, "units groups"],
    *,
    rng: np.random.Generator,
    exchanges: int,
) -> tuple[Float64[np.ndarray, "exchanges groups"], Float64[np.ndarray, "exchanges groups"]]:
    """Hits and rows per group when units of one group each exchange their labels."""
    groups = sizes.shape[1]
    above, below = np.zeros((exchanges, groups)), np.zeros((exchanges, groups))
    label, rows = sizes.argmax(axis=1), sizes.sum(axis=1)
    for index in range(exchanges if len(hits) else 0):
        drawn = rng.permutation(label)
        above[index] = np.bincount(drawn, weights=hits, minlength=groups)
        below[index] = np.bincount(drawn, weights=rows, minlength=groups)
    return above, below


def _weighted_totals(
    counts: Float64[np.ndarray, "units columns"], *, seed: int, replicates: int
) -> Float64[np.ndarray, "replicates columns"]:
    """Weighted sums over units; equal columns give equal sums, to the last bit.

    Weights are drawn some replicates at a time, so memory does not grow with their number times the units.
    """
    distinct, column = np.unique(counts, axis=1, return_inverse=True)
    units = len(counts)
    step = max(1, _WEIGHTS_AT_ONCE // units)
    rng = np.random.default_rng([seed])
    totals = np.empty((replicates, distinct.shape[1]))
    for start in range(0, replicates, step):
        stop = min(start + step, replicates)
        totals[start:stop] = rng.standard_exponential((stop - start, units)) @ distinct
    return totals[:, column.reshape(-1)]


def _pseudo_observations(name: str, *, seed: int, replicates: int) -> Float64[np.ndarray, "two replicates"]:
    draws: Float64[np.ndarray, "two replicates"] = np.random.default_rng([seed, *name.encode()]).standard_gamma(
        0.5, (2, replicates)
    )
    return draws


def _number_units(unit: Sequence[str]) -> tuple[Int64[np.ndarray, " rows"], int]:
    names, row_unit = np.unique(np.asarray(unit, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise TooFewSamplesError(
            f"an interval needs independent units: got {len(names)} ({', '.join(names.tolist()) or 'none'}), "
            "allowed: 2 or more; add pictures or scenes"
        )
    return row_unit.reshape(-1).astype(np.int64), len(names)


def _check_event(event: Event, *, rows: int) -> None:
    if not len(event.hit) == len(event.base) == rows:
        raise BadInputError(
            f"columns of different length for {event.name!r}: got {len(event.hit)} hits, "
            f"{len(event.base)} base flags and {rows} units; give one of each per row"
        )
    if not event.base.any():
        raise TooFewSamplesError(
            f"{event.name!r} is undefined: got 0 rows in its base, of {rows} rows; at least 1 is needed; "
            "add such rows or leave this rate out"
        )


def _check_draws(seed: int, replicates: int) -> None:
    _check_seed(seed)
    if replicates < _FEWEST_REPLICATES:
        raise BadInputError(
            f"too few replicates for an interval: got {replicates}, allowed: {_FEWEST_REPLICATES} or more; "
            "4000 is usual"
        )


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise BadInputError(f"seed is negative: got {seed}, allowed: 0 or more; choose another")
