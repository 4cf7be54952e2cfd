r"""What noise adds to an absolute value, taken off. In: distances and their noise. Out: values, bounds of what is left.

A distance that is 0 looks larger than 0 in a finite sample: with z standard normal, :math:`E|\theta + z| - |\theta|` is
0.8 at :math:`\theta = 0`. No estimate of :math:`|\theta|` is free of this (it has a kink at 0; Cai and Low 2011, arXiv
1105.3039), but much of it can be taken off, and what is left can be bounded. A table holds, per z, the shift that makes
the mean squared error of a mean over ``sharing`` alike distances smallest, averaged over :math:`\theta`: the larger
``sharing``, the smaller the bias and the larger the variance. An interval then allows for the rest of the bias as well
(Armstrong and Kolesár 2018, *Econometrica* 86, arXiv 1511.06028).

Two shares of few pictures are compared by the exact binomial, the rest by the normal distribution.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr
from scipy.stats import binom, norm

__all__ = ["Unfolded", "critical_value", "unfold", "unfold_pairs"]

_FEW = 40
_REACH = 4.5
_FAR = 40.0
_STEP = 0.1
_WIDTH = 1.5
_MOST_SHARING = 1000
# Means of few noisy terms are skewed; with this much more, simulated intervals of even models hold the truth in 95%.
_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Unfolded:
    """Distances with the noise taken off.

    Attributes:
        value: Below 0 where noise is all there is; of use in sums and means, not alone.
        bound: Summed over alike distances, no less than the bias that is left, on average.
    """

    value: Float64[np.ndarray, "*shape"]
    bound: Float64[np.ndarray, "*shape"]


@dataclass(frozen=True, slots=True)
class _Table:
    z: Float64[np.ndarray, " points"]
    shift: Float64[np.ndarray, " points"]
    bound: float
    few_shift: Float64[np.ndarray, "totals distances"]
    few_bound: Float64[np.ndarray, "totals distances"]


def unfold(distance: Float64[np.ndarray, "*shape"], spread: Float64[np.ndarray, "*shape"], *, sharing: int) -> Unfolded:
    """Absolute distances without what normal noise adds to them.

    Args:
        distance: Estimated distance, 0 or more.
        spread: Its standard deviation where the true distance is 0; the distance is left alone where it is 0.
        sharing: Number of alike distances that a mean is taken of, 1 or more.
    """
    table = _table(min(max(sharing, 1), _MOST_SHARING))
    z = np.full(np.broadcast_shapes(distance.shape, spread.shape), _FAR)
    np.divide(distance, spread, out=z, where=spread > 0)
    value = distance + spread * np.interp(z, table.z, table.shift, right=0.0)
    return Unfolded(value, spread * table.bound * _envelope(z))


def unfold_pairs(first: Int64[np.ndarray, "*shape"], second: Int64[np.ndarray, "*shape"], *, sharing: int) -> Unfolded:
    """Absolute differences of two counts, in counts, without what binomial noise adds to them.

    Given their sum m, the first count is binomial: exact tables up to 40, the normal distribution beyond.

    Args:
        first: Pictures of one group.
        second: Pictures of another group.
        sharing: Number of alike pairs that a mean is taken of, 1 or more.
    """
    table = _table(min(max(sharing, 1), _MOST_SHARING))
    total, distance = first + second, np.abs(first - second)
    many = unfold(distance.astype(np.float64), np.sqrt(total), sharing=sharing)
    few, at, to = total <= _FEW, np.minimum(total, _FEW), np.minimum(distance, _FEW)
    return Unfolded(
        np.where(few, distance + table.few_shift[at, to], many.value),
        np.where(few, table.few_bound[at, to], many.bound),
    )


def critical_value(bias: Float64[np.ndarray, "*shape"], *, level: float) -> Float64[np.ndarray, "*shape"]:
    r"""The ``level`` quantile of \|N(bias, 1)\|: 1.96 for bias 0 and level 0.95, near ``bias + 1.64`` for a large one.

    Args:
        bias: Largest bias over the standard deviation, 0 or more.
        level: Coverage, above 0 and below 1.
    """
    low, high = np.zeros_like(bias), bias + float(norm.ppf(0.5 + level / 2))
    for _ in range(60):
        middle = (low + high) / 2
        short = ndtr(middle - bias) - ndtr(-middle - bias) < level
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    found: Float64[np.ndarray, "*shape"] = high
    return found


@lru_cache(maxsize=32)
def _table(sharing: int) -> _Table:
    """Shifts and bounds in units of the spread, and for sums up to 40 in counts."""
    z = np.arange(0.0, 16.0 + _STEP / 2, _STEP)
    theta = np.arange(0.0, 9.0 + _STEP / 2, _STEP)
    chance = (norm.pdf(z - theta[:, None]) + norm.pdf(z + theta[:, None])) * _STEP
    chance[:, 0] /= 2
    chance /= chance.sum(axis=1, keepdims=True)
    shift, bound = _design(z, theta, chance, z <= _REACH, sharing)
    few_shift, few_bound = np.zeros((2, _FEW + 1, _FEW + 1))
    for total in range(1, _FEW + 1):
        distance = np.arange(total % 2, total + 1, 2)
        root = np.sqrt(total)
        theta = np.append(np.arange(0.0, root, _STEP), root)
        first = binom.pmf((total + distance) // 2, total, (1 + theta[:, None] / root) / 2)
        second = binom.pmf((total - distance) // 2, total, (1 + theta[:, None] / root) / 2)
        chance = first + np.where(distance > 0, second, 0.0)
        free = distance / root <= _REACH
        if total >= 8:
            free &= distance < total
        shift_few, bound_few = _design(distance / root, theta, chance, free, sharing)
        few_shift[total, distance] = root * shift_few
        few_bound[total, distance] = root * bound_few * _envelope(distance / root)
    return _Table(z, shift, bound, few_shift, few_bound)


def _design(
    z: Float64[np.ndarray, " points"],
    theta: Float64[np.ndarray, " truths"],
    chance: Float64[np.ndarray, "truths points"],
    free: np.ndarray,
    sharing: int,
) -> tuple[Float64[np.ndarray, " points"], float]:
    """The shift of each z that makes bias squared + variance / sharing smallest, and the scale of the bias bound.

    Truths weigh alike but for those near 0, where the kink is, so that the largest biases of either sign are alike.
    """
    weight = 1.0 + 6.0 * np.exp(-((theta / 0.25) ** 2) / 2)
    weight[-1] += float(np.isclose(theta[-1], z[-1])) * 10.0
    inside = chance[:, free]
    common, own = 1 - 1 / sharing, 1 / sharing
    normal = common * inside.T @ (weight[:, None] * inside) + own * np.diag(inside.T @ weight)
    wanted = common * inside.T @ (weight * (chance @ z - theta)) + own * weight @ (inside * (z[free] - theta[:, None]))
    shift = np.zeros(len(z))
    shift[free] = -np.linalg.solve(normal + 1e-9 * np.eye(int(free.sum())), wanted)
    bias = chance @ (z + shift) - theta
    near = theta < 3.0
    return shift, _MARGIN * float((np.abs(bias) / np.maximum(chance @ _envelope(z), 1e-12))[near].max())


def _envelope(z: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    bell: Float64[np.ndarray, "*shape"] = np.exp(-((np.minimum(z, _FAR) / _WIDTH) ** 2) / 2)
    return bell
