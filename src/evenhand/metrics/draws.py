r"""How surely a sum of numbers is known. In: numbers per row, and the unit of each row. Out: draws of their sums.

The same draws as in :mod:`evenhand.stats`: a replicate gives every unit a weight from Gamma(1) (the Bayesian bootstrap
of Rubin 1981), so two columns, or one column in two runs, stay paired under one seed. Numbers that are not yes or no
get no pseudo-observations: where every unit has the same number, the interval has no width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.records import Estimate
from evenhand.stats import percentile_interval

__all__ = ["Sums", "bootstrap_method", "drawn_estimate", "resample_sums"]

_WEIGHTS_AT_ONCE = 2_000_000
_FEWEST_REPLICATES = 100


@dataclass(frozen=True, slots=True)
class Sums:
    """Column sums, and what they could have been.

    Attributes:
        value: The sums on the data.
        draws: The weighted sums of each replicate; only their ratios mean something.
        n: Number of units.
    """

    value: Float64[np.ndarray, " columns"]
    draws: Float64[np.ndarray, "replicates columns"]
    n: int


def resample_sums(
    columns: Float64[np.ndarray, "rows columns"], unit: Sequence[str], *, seed: int, replicates: int
) -> Sums:
    r"""Draws :math:`\sum_u w_u \sum_{i \in u} x_i` of every column; all share :math:`w_u \sim` Gamma(1).

    Args:
        columns: Finite numbers, any units.
        unit: The unit of each row. The order of the rows has no effect but that of rounding.
        seed: Of the draws, 0 or more.
        replicates: Number of draws, at least 100.

    Raises:
        BadInputError: Lengths differ, a number is not finite, or the seed or the number of replicates is not allowed.
        TooFewSamplesError: Fewer than two units.
    """
    if seed < 0 or replicates < _FEWEST_REPLICATES:
        raise BadInputError(
            f"draws: got seed {seed} and {replicates} replicates, allowed: 0 or more and {_FEWEST_REPLICATES} or more; "
            "4000 replicates are usual"
        )
    if len(unit) != len(columns):
        raise BadInputError(
            f"columns of different length: got {len(columns)} rows and {len(unit)} units; give one each"
        )
    if not np.isfinite(columns).all():
        raise BadInputError("columns: got NaN or infinity, allowed: finite numbers; leave such rows out and count them")
    names, row_unit = np.unique(np.asarray(unit, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise TooFewSamplesError(
            f"an interval needs independent units: got {len(names)}, allowed: 2 or more; add pictures or scenes"
        )
    by_unit = np.zeros((len(names), columns.shape[1]))
    np.add.at(by_unit, row_unit.reshape(-1), columns)
    draws = np.empty((replicates, columns.shape[1]))
    rng = np.random.default_rng([seed])
    step = max(1, _WEIGHTS_AT_ONCE // len(names))
    for start in range(0, replicates, step):
        stop = min(start + step, replicates)
        draws[start:stop] = rng.standard_exponential((stop - start, len(names))) @ by_unit
    return Sums(by_unit.sum(axis=0), draws, len(names))


def drawn_estimate(
    name: str,
    value: float,
    draws: Float64[np.ndarray, " replicates"],
    *,
    level: float,
    n: int,
    unit_name: str,
    method: str,
    largest: float,
    floor: float = 0.0,
) -> Estimate:
    """An estimate whose interval is the middle ``level`` of the draws, widened to hold the value.

    Raises:
        BadInputError: ``level`` is not between 0 and 1, or ``unit_name`` is not ``picture`` or ``scene``.
    """
    if unit_name not in ("picture", "scene"):
        raise BadInputError(f"unknown unit_name: got {unit_name!r}, allowed: picture, scene; choose one")
    interval = percentile_interval(value, draws, level=level)
    return Estimate(
        name=name,
        value=value,
        low=interval.low,
        high=interval.high,
        level=level,
        n=n,
        unit=unit_name,
        method=method,
        largest=largest,
        floor=floor,
    )


def bootstrap_method(n: int, unit_name: str, replicates: int, *, pseudo: bool = False) -> str:
    """How an interval was made, as a report shows it; ``pseudo`` for draws of :func:`evenhand.stats.resample_rates`."""
    added = " with Jeffreys pseudo-observations" if pseudo else ""
    return f"Bayesian bootstrap over {n} {unit_name}s{added}, {replicates} replicates"
