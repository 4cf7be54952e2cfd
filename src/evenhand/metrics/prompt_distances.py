"""Distances of many prompts, and how surely their mean is known. In: a tally. Out: values, bias, noise, interval.

Prompts are either fixed (the truth is the mean over these very prompts, and only pictures could have been others) or
sampled (the truth is the mean over the prompts they were drawn from). The spread of estimates between sampled prompts
holds the noise of their pictures already; resampling prompts and then pictures would count that noise twice.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm, t

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.distances import Distance, distance_interval, measure, resample_counts, unfolded_distance
from evenhand.metrics.tally import Tally
from evenhand.stats import Interval

__all__ = ["Mean", "PromptDistances", "check_sampling", "mean_deviation", "mean_distance", "measure_prompts"]

_FEWEST_REPLICATES = 100
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class PromptDistances:
    """One distance of each of some prompts.

    Attributes:
        distance: What was measured.
        base: Pictures in the denominator.
        observed: Of the sample.
        value: Unfolded (:mod:`evenhand.metrics.folding`).
        bound: Of the bias of ``value``.
        observed_variance: Sampling variance of ``observed``.
        variance: Sampling variance of ``value``.
    """

    distance: Distance
    base: Int64[np.ndarray, " prompts"]
    observed: Float64[np.ndarray, " prompts"]
    value: Float64[np.ndarray, " prompts"]
    bound: Float64[np.ndarray, " prompts"]
    observed_variance: Float64[np.ndarray, " prompts"]
    variance: Float64[np.ndarray, " prompts"]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over prompts.

    Attributes:
        value: Not below 0.
        bound: Of its bias.
        deviation: Its standard deviation.
        widen: Factor on critical values, for a deviation estimated from few prompts.
        step: How much one picture can move it.
        interval: Of the truth.
    """

    value: float
    bound: float
    deviation: float
    widen: float
    step: float
    interval: Interval


def measure_prompts(counted: Tally, distance: Distance, *, alike: int, seed: int, replicates: int) -> PromptDistances:
    """The distance of every prompt, with noise measured on counts drawn from the shares seen.

    A picture is shared out evenly over the ``alike`` prompts first, so that a prompt of one group has some noise.

    Args:
        counted: Every prompt with at least one picture that shows a group.
        distance: What is measured.
        alike: Number of prompts a mean will be taken of; 1 for figures of single prompts.
        seed: Of the draws, 0 or more.
        replicates: Number of draws, at least 100.
    """
    # Drawn in the order of the prompts' names, so that the order they come in has no effect.
    order = np.argsort(np.array(counted.prompts, dtype=np.str_))
    counts, base = counted.counts[order], counted.base[order]
    rng, moments = np.random.default_rng([seed]), np.zeros((4, len(base)))
    groups = counts.shape[1]
    step = max(1, _CELLS_AT_ONCE // (len(base) * groups * groups))
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = resample_counts(counts, base, spread=1 / alike, rng=rng, replicates=size)
        observed = measure(distance, drawn / base[:, None])
        value = unfolded_distance(distance, drawn, base, alike=alike).value
        moments += [one.sum(axis=0) for one in (observed, observed**2, value, value**2)]
    first, second = moments[::2] / replicates, moments[1::2] / replicates
    variance = np.empty_like(first)
    variance[:, order] = np.maximum(second - first**2, 0.0) * replicates / (replicates - 1)
    unfolded = unfolded_distance(distance, counted.counts, counted.base, alike=alike)
    observed = measure(distance, counted.counts / counted.base[:, None])
    return PromptDistances(distance, counted.base, observed, unfolded.value, unfolded.bound, *variance)


def mean_distance(parts: PromptDistances, rows: Int64[np.ndarray, " rows"], *, sampled: bool, level: float) -> Mean:
    """The mean of the unfolded distances of some prompts, with its interval.

    Args:
        parts: All prompts.
        rows: Those to take, at least one, at least two if ``sampled``.
        sampled: Whether the prompts are a sample of the prompts that are meant.
        level: Coverage the interval aims at.
    """
    value, bound = float(parts.value[rows].mean()), float(parts.bound[rows].mean())
    deviation, widen = mean_deviation(parts.value[rows], parts.variance[rows], sampled=sampled, level=level)
    step = parts.distance.step / float(parts.base[rows].sum())
    interval = distance_interval(
        value,
        bound=bound,
        deviation=deviation,
        step=step,
        largest=parts.distance.largest,
        level=level,
        widen=widen,
    )
    value = min(max(value, 0.0), parts.distance.largest)
    held = Interval(min(interval.low, value), max(interval.high, value))
    return Mean(value, bound, deviation, widen, step, held)


def mean_deviation(
    value: Float64[np.ndarray, " rows"], variance: Float64[np.ndarray, " rows"], *, sampled: bool, level: float
) -> tuple[float, float]:
    """Standard deviation of a mean of prompts, and the factor by which its critical value grows (Student's t)."""
    rows = len(value)
    fixed = sqrt(float(variance.sum())) / rows
    if not sampled:
        return fixed, 1.0
    tail = 0.5 + level / 2
    return max(fixed, float(value.std(ddof=1)) / sqrt(rows)), float(t.ppf(tail, rows - 1) / norm.ppf(tail))


def check_sampling(defined: int, *, prompts: str, seed: int, level: float, replicates: int) -> None:
    """Refuse options that no figure of prompts can be made with.

    Raises:
        BadInputError: ``prompts``, ``seed``, ``level`` or ``replicates`` is not allowed.
        TooFewSamplesError: No prompt is defined, or fewer than two are and prompts are sampled.
    """
    if prompts not in ("fixed", "sampled"):
        raise BadInputError(f"prompts: got {prompts!r}, allowed: fixed, sampled; choose one")
    if seed < 0 or replicates < _FEWEST_REPLICATES or not 0.0 < level < 1.0:
        raise BadInputError(
            f"draws: got seed {seed}, {replicates} replicates and level {level}; allowed: a seed of 0 or more, "
            f"{_FEWEST_REPLICATES} replicates or more, a level above 0 and below 1"
        )
    least = 2 if prompts == "sampled" else 1
    if defined < least:
        raise TooFewSamplesError(
            f"the mean over prompts is undefined: got {defined} prompts with a picture that shows a group, at least "
            f"{least} needed; draw more pictures, or look at the reasons why groups are unknown"
        )
