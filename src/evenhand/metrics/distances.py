r"""How far shares of groups are from a target. In: counts, a target. Out: distances, their floors and intervals.

.. math:: RD = \frac{2}{K(K-1)} \sum_{i<j} |d_i - d_j| \qquad TV = \frac12 \sum_i |d_i| \qquad d_i = f_i - w\,t_i

with :math:`f_i` the share of group i in the denominator, :math:`t` the target and :math:`w = \sum_i f_i` (1 unless
pictures without a group are in the denominator). With an even target RD is Representation Disparity, the mean absolute
difference of shares over all pairs of groups. Both are 0 where the groups that are known have the target's shares.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import gammaln
from scipy.stats import beta, binom, norm

from evenhand.errors import BadInputError
from evenhand.metrics.folding import Unfolded, critical_value, unfold, unfold_pairs
from evenhand.stats import Interval

__all__ = [
    "Distance",
    "distance_floor",
    "distance_interval",
    "even_target",
    "measure",
    "resample_counts",
    "share_interval",
    "two_group_interval",
    "unfolded_distance",
    "unfolded_floor",
]

_KINDS = ("RD", "TV")
_FLOOR_DRAWS = 4000
_UNFOLDED_DRAWS = 1000
_SURE = 2.0


@dataclass(frozen=True, slots=True)
class Distance:
    """What is measured.

    Attributes:
        kind: ``RD`` or ``TV``.
        target: Wanted share of each group, at least two, sums to 1.
    """

    kind: str
    target: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise BadInputError(f"unknown distance: got {self.kind!r}, allowed: {', '.join(_KINDS)}; choose one")
        usable = len(self.target) > 1 and all(0.0 <= share <= 1.0 for share in self.target)
        if not usable or abs(sum(self.target) - 1.0) > 1e-6:
            raise BadInputError(
                f"target: got {self.target}, allowed: two or more shares of 0 or more that sum to 1; correct it"
            )

    @property
    def even(self) -> bool:
        """Whether all groups are wanted alike."""
        return max(self.target) - min(self.target) < 1e-9

    @property
    def largest(self) -> float:
        """The largest value: every picture of the one group that is furthest. For RD and an even target 2/K."""
        return float(measure(self, np.eye(len(self.target))).max())

    @property
    def step(self) -> float:
        """The largest change when one of n pictures changes its group, times n."""
        groups = len(self.target)
        return 4.0 / (groups * (groups - 1)) if self.kind == "RD" else 1.0


def even_target(groups: int) -> tuple[float, ...]:
    """The same share for each group."""
    return (1.0 / groups,) * groups


def measure(
    distance: Distance, shares: Float64[np.ndarray, "*draws prompts groups"]
) -> Float64[np.ndarray, "*draws prompts"]:
    """The distance of shares as they are; in a finite sample it is larger, on average, than the model's own.

    Range 0 to ``distance.largest``. Shares may sum to less than 1 (see the module).
    """
    gap = shares - shares.sum(axis=-1, keepdims=True) * np.array(distance.target)
    value: Float64[np.ndarray, "*draws prompts"]
    if distance.kind == "TV":
        value = np.abs(gap).sum(axis=-1) / 2
        return value
    groups = gap.shape[-1]
    rank = 2.0 * np.arange(1, groups + 1) - groups - 1
    value = np.maximum(0.0, np.sort(gap, axis=-1) @ rank * (2 / (groups * (groups - 1))))
    return value


def unfolded_distance(
    distance: Distance,
    counts: Int64[np.ndarray, "*draws prompts groups"],
    base: Int64[np.ndarray, " prompts"],
    *,
    alike: int,
) -> Unfolded:
    """The distance without what sampling noise adds, and a bound of the bias that is left.

    Args:
        distance: What is measured.
        counts: Pictures per group.
        base: Pictures in the denominator, 1 or more.
        alike: Number of prompts that a mean is taken of.
    """
    groups = counts.shape[-1]
    scale = 1.0 / base
    if distance.kind == "RD":
        i, j = np.triu_indices(groups, 1)
        # A mean is over prompts and pairs, and pairs of one prompt share its noise.
        sharing = 2 * alike * (groups - 1)
        if distance.even:
            parts = unfold_pairs(counts[..., i], counts[..., j], sharing=sharing)
            scale = scale * 2 / (groups * (groups - 1))
            return Unfolded(scale * parts.value.sum(axis=-1), scale * parts.bound.sum(axis=-1))
    shares = counts / base[..., None]
    wanted = shares.sum(axis=-1, keepdims=True) * np.array(distance.target)
    if distance.kind == "RD":
        gap = wanted[..., i] - wanted[..., j]
        spread = np.sqrt(np.maximum(shares[..., i] + shares[..., j] - gap**2, 0.0) * scale[..., None])
        parts = unfold(np.abs(shares[..., i] - shares[..., j] - gap), spread, sharing=sharing)
        factor = 2 / (groups * (groups - 1))
    else:
        spread = np.sqrt(wanted * (1 - wanted) * scale[..., None])
        # None of many is no noise around the target.
        spread = np.where((counts == 0) & (wanted > _SURE * spread), 0.0, spread)
        parts = unfold(np.abs(shares - wanted), spread, sharing=2 * alike * (groups - 1))
        factor = 0.5
    return Unfolded(factor * parts.value.sum(axis=-1), factor * parts.bound.sum(axis=-1))


def distance_floor(distance: Distance, known: int, base: int, *, seed: int) -> float:
    r"""What a model with exactly the target's shares shows on average: exact for TV and an even RD, else simulated.

    For an even RD, two groups have :math:`m \sim` Binomial(n, 2/K) pictures and differ by
    :math:`m \binom{m-1}{\lfloor (m-1)/2 \rfloor} 2^{1-m}` of them on average.

    Args:
        distance: What is measured.
        known: Pictures that show a group, 1 or more.
        base: Pictures in the denominator, no fewer.
        seed: Of the simulation (4000 draws), 0 or more.
    """
    target = np.array(distance.target)
    if distance.kind == "TV":
        at = np.arange(known + 1)[:, None]
        away = (np.abs(at - known * target) * binom.pmf(at, known, target)).sum()
        return float(away / 2 / base)
    if distance.even:
        m = np.arange(1, known + 1)
        half = (m - 1) // 2
        gap = m * np.exp(gammaln(m) - gammaln(half + 1) - gammaln(m - half) + (1 - m) * np.log(2.0))
        return float((binom.pmf(m, known, 2 / len(target)) * gap).sum() / base)
    draws = np.random.default_rng([seed]).multinomial(known, target / target.sum(), size=_FLOOR_DRAWS)
    return float(measure(distance, draws / base).mean())


def unfolded_floor(distance: Distance, known: int, base: int, *, alike: int, seed: int) -> float:
    """What the unfolded distance of a model with exactly the target's shares is on average; 1000 simulated draws."""
    target = np.array(distance.target)
    draws = np.random.default_rng([seed]).multinomial(known, target / target.sum(), size=_UNFOLDED_DRAWS)
    return float(unfolded_distance(distance, draws, np.full(_UNFOLDED_DRAWS, base), alike=alike).value.mean())


def resample_counts(
    counts: Int64[np.ndarray, "prompts groups"],
    base: Int64[np.ndarray, " prompts"],
    *,
    spread: float,
    rng: np.random.Generator,
    replicates: int,
) -> Int64[np.ndarray, "replicates prompts groups"]:
    """Counts of as many pictures, drawn from the shares seen; ``spread`` pictures a prompt are shared out evenly first.

    Pictures in the denominator without a group are a share of their own.
    """
    unseen = base - counts.sum(axis=1)
    full = np.concatenate([counts + spread / counts.shape[1], unseen[:, None]], axis=1)
    chance = full / full.sum(axis=1, keepdims=True)
    drawn: Int64[np.ndarray, "replicates prompts groups"] = rng.multinomial(base, chance, size=(replicates, len(base)))
    return drawn[..., :-1]


def distance_interval(
    value: float,
    *,
    bound: float,
    deviation: float,
    step: float,
    largest: float,
    level: float,
    widen: float = 1.0,
    lasting: float = 0.0,
) -> Interval:
    """Where the true distance lies: a score interval around ``value``, as wide as its noise and its bias ask.

    The variance, but for what lasts, is taken to shrink with what is missing to the largest value, so ends stay in
    range and the interval of a hundred pictures of one group has a width. A value above the largest counts as it.

    Args:
        value: Unfolded distance.
        bound: Of its bias.
        deviation: Its standard deviation, with all its noise.
        step: How much one picture can move it.
        largest: The largest value of the distance.
        level: Coverage, above 0 and below 1.
        widen: Factor on the critical value, for a deviation that is itself estimated from few numbers.
        lasting: The part of its variance that is there at the largest value too, such as a classifier's errors.

    Raises:
        BadInputError: ``level`` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise BadInputError(f"level is not a probability: got {level}, allowed: above 0 and below 1; try 0.95")
    plain = float(norm.ppf(0.5 + level / 2))
    z = widen * (float(critical_value(np.array(bound / deviation), level=level)) if deviation > 0 else plain)
    missing, unit = max(largest - value, 0.0), step / 2
    per_unit = (deviation**2 - lasting + step * unit) / (missing + unit)
    half = z * sqrt(per_unit * missing + lasting + (z * per_unit) ** 2 / 4)
    centre = missing + z**2 * per_unit / 2
    # Without noise a bound of the bias is all there is.
    reach = bound if deviation == 0 else 0.0
    ends = largest - centre - half - reach, largest - centre + half + reach
    return Interval(*(min(max(end, 0.0), largest) for end in ends))


def two_group_interval(first: int, second: int, *, target: tuple[float, ...], level: float) -> Interval:
    """RD (or twice TV) of one prompt and two groups, all known: Jeffreys' interval of the first share, folded."""
    share = share_interval(first, first + second, level=level)
    gaps = sorted(2 * abs(end - target[0]) for end in (share.low, share.high))
    return Interval(0.0 if share.low <= target[0] <= share.high else gaps[0], gaps[1])


def share_interval(count: int, base: int, *, level: float) -> Interval:
    """Jeffreys' interval of a share; at 0 and 1 it ends there."""
    tail = (1.0 - level) / 2.0
    low, high = beta.ppf([tail, 1.0 - tail], count + 0.5, base - count + 0.5)
    return Interval(0.0 if count == 0 else float(low), 1.0 if count == base else float(high))
