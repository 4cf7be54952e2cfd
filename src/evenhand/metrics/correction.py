r"""What a classifier's own errors do to shares, taken off. In: a tally, a confusion matrix. Out: corrected estimates.

With :math:`C_{ij}` the share of pictures of group i that the classifier calls j (from a labelled set), a run of true
shares :math:`f` shows :math:`\hat f = f C` on average. Corrected shares are the likeliest on the simplex:
:math:`\hat f C^{-1}` where that has no negative share, else by expectation maximisation, which stays in the simplex and
weighs groups by what was counted, as least squares does not. Intervals hold the noise of the run and of the labelled
set: rows of C are drawn from Dirichlet(counts + 1/K). Neither a classifier's errors nor the labelled set's size go away
where all pictures are of one group, so there an interval keeps its width on the side that is possible.

It is assumed that the run's pictures are confused as the labelled ones are, and that whether a picture has a known
group does not depend on the group.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.disparity import defined_prompts
from evenhand.metrics.distances import Distance, distance_interval, even_target, resample_counts
from evenhand.metrics.folding import Unfolded, unfold
from evenhand.metrics.prompt_distances import check_sampling
from evenhand.metrics.tally import Tally
from evenhand.records import Estimate
from evenhand.stats import Interval, percentile_interval

__all__ = ["ConfusionMatrix", "CorrectedDisparity", "correct_disparity", "correct_shares"]

_SMALLEST = 0.05
_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """How a classifier reads pictures of a known group.

    Attributes:
        groups: In the order of rows and columns.
        counts: Labelled pictures: row the true group, column what the classifier says.

    Raises:
        BadInputError: A shape or a count that is not allowed, or groups that the classifier reads alike.
        TooFewSamplesError: A group without labelled pictures.
    """

    groups: tuple[str, ...]
    counts: Int64[np.ndarray, "groups groups"]

    def __post_init__(self) -> None:
        size = len(self.groups)
        if size < 2 or self.counts.shape != (size, size) or (self.counts < 0).any():
            raise BadInputError(
                f"confusion matrix of {size} groups: got the shape {self.counts.shape}, allowed: two or more groups, a "
                "row and a column for each, counts of 0 or more"
            )
        empty = [group for group, row in zip(self.groups, self.counts, strict=True) if not row.any()]
        if empty:
            raise TooFewSamplesError(
                f"confusion matrix: got 0 labelled pictures of {', '.join(empty)}, at least 1 is needed and 100 are "
                "useful; label pictures of every group"
            )
        rates = self.rates
        smallest = float(np.linalg.svd(rates, compute_uv=False)[-1])
        if smallest < _SMALLEST:
            gaps = np.abs(rates[:, None] - rates[None]).sum(axis=2) + 3 * np.eye(size)
            one, other = (self.groups[int(at)] for at in np.unravel_index(gaps.argmin(), gaps.shape))
            raise BadInputError(
                f"confusion matrix cannot be inverted: its smallest singular value is {smallest:.3f}, allowed: "
                f"{_SMALLEST} or more. The classifier reads {one!r} and {other!r} most alike; use a better one, or "
                "join groups that it cannot tell apart"
            )

    @property
    def rates(self) -> Float64[np.ndarray, "groups groups"]:
        """Share of each row that is said to be each column; rows sum to 1."""
        rates: Float64[np.ndarray, "groups groups"] = self.counts / self.counts.sum(axis=1, keepdims=True)
        return rates


@dataclass(frozen=True, slots=True)
class CorrectedDisparity:
    """A run with the classifier's errors taken off.

    Attributes:
        rd: ``RD_corrected``, the mean over prompts.
        prompts: Prompt -> its ``RD_corrected``.
        shares: Prompt -> corrected share of each group; they sum to the share that is known.
    """

    rd: Estimate
    prompts: Mapping[str, Estimate]
    shares: Mapping[str, tuple[Estimate, ...]]


def correct_shares(
    shares: Float64[np.ndarray, "*draws prompts groups"], rates: Float64[np.ndarray, "*draws groups groups"]
) -> Float64[np.ndarray, "*draws prompts groups"]:
    """The shares on the simplex under which the observed ones are likeliest.

    Args:
        shares: Observed, sum to 1.
        rates: Share of each true group (row) read as each group (column).

    Returns:
        0 or more, sum to 1.
    """
    found = _invert_shares(shares, rates)
    outside = (found < 0).any(axis=-1, keepdims=True)
    if found.shape[-1] == 2:
        # The likelihood has one hill, so its best place inside is the nearest edge.
        found = np.clip(found, 0.0, 1.0)
    elif outside.any():
        guess, turned = np.maximum(found, 1e-3), np.swapaxes(rates, -1, -2)
        guess /= guess.sum(axis=-1, keepdims=True)
        for _ in range(_ITERATIONS):
            expected = guess @ rates
            weight = np.divide(shares, expected, out=np.zeros_like(expected), where=expected > 0)
            guess = guess * (weight @ turned)
        found = np.where(outside, guess, found)
    corrected: Float64[np.ndarray, "*draws prompts groups"] = found / found.sum(axis=-1, keepdims=True)
    return corrected


def _invert_shares(
    shares: Float64[np.ndarray, "*draws prompts groups"], rates: Float64[np.ndarray, "*draws groups groups"]
) -> Float64[np.ndarray, "*draws prompts groups"]:
    """Corrected shares that may be below 0 or above 1."""
    found: Float64[np.ndarray, "*draws prompts groups"] = shares @ np.linalg.inv(rates)
    return found


def correct_disparity(
    counted: Tally, confusion: ConfusionMatrix, *, seed: int, level: float = 0.95, replicates: int = 400
) -> CorrectedDisparity:
    """Shares and Representation Disparity with the classifier's errors taken off; prompts are fixed.

    RD is that of the unconstrained shares, unfolded, in [0, 2/K]; its noise is that of the counts and of the labelled
    set, which all prompts share, so more pictures alone do not narrow it to 0.

    Args:
        counted: Pictures per prompt and group, as the classifier says.
        confusion: Of the same groups in the same order.
        seed: Of the draws, 0 or more.
        level: Coverage the intervals aim at.
        replicates: Number of draws, at least 100.

    Raises:
        BadInputError: The groups differ, or an option is not allowed.
        TooFewSamplesError: No prompt has a picture that shows a group.
    """
    if confusion.groups != counted.groups:
        raise BadInputError(
            f"confusion matrix of {', '.join(confusion.groups)}, allowed: {', '.join(counted.groups)}, in this order; "
            "judge the classifier on the attribute's groups"
        )
    defined = defined_prompts(counted)
    seen = 0 if defined is None else len(defined.prompts)
    check_sampling(seen, prompts="fixed", seed=seed, level=level, replicates=replicates)
    run = defined or counted
    rng = np.random.default_rng([seed])
    gamma = rng.standard_gamma(confusion.counts + 1 / len(run.groups), size=(replicates, *confusion.counts.shape))
    drawn_rates = gamma / gamma.sum(axis=2, keepdims=True)
    shares = _share_estimates(run, confusion, drawn_rates, rng=rng, level=level)
    single = _rd_estimates(run, confusion, drawn_rates, alike=1, rng=rng, level=level)
    (mean,) = _rd_estimates(run, confusion, drawn_rates, alike=seen, rng=rng, level=level, pooled=True)
    return CorrectedDisparity(mean, dict(zip(run.prompts, single, strict=True)), shares)


def _share_estimates(
    run: Tally,
    confusion: ConfusionMatrix,
    drawn_rates: Float64[np.ndarray, "replicates groups groups"],
    *,
    rng: np.random.Generator,
    level: float,
) -> dict[str, tuple[Estimate, ...]]:
    known = run.counts.sum(axis=1, keepdims=True)
    scale = known / run.base[:, None]
    value = scale * correct_shares(run.counts / known, confusion.rates)
    gamma = rng.standard_gamma(run.counts + 1 / len(run.groups), size=(len(drawn_rates), *run.counts.shape))
    observed = gamma / gamma.sum(axis=2, keepdims=True)
    draws = scale * correct_shares(observed, drawn_rates)
    free, free_draws = (
        scale * _invert_shares(shares, rates)
        for shares, rates in ((run.counts / known, confusion.rates), (observed, drawn_rates))
    )
    outside = (free < 0).any(axis=1)
    method = f"corrected for the classifier's errors, {len(drawn_rates)} draws; denominator {run.denominator}"
    found = {}
    for row, prompt in enumerate(run.prompts):
        estimates = []
        for at, group in enumerate(run.groups):
            share = float(value[row, at])
            interval = percentile_interval(share, draws[:, row, at], level=level)
            if outside[row]:
                around = percentile_interval(float(free[row, at]), free_draws[:, row, at], level=level)
                interval = _widen(interval, share, float(free[row, at]), around, largest=float(scale[row, 0]))
            estimates.append(
                Estimate(
                    f"share {group} corrected", share, interval.low, interval.high, level,
                    int(run.base[row]), "picture", method, 1.0, 0.0,
                )
            )  # fmt: skip
        found[prompt] = tuple(estimates)
    return found


def _widen(interval: Interval, share: float, free: float, around: Interval, *, largest: float) -> Interval:
    """The interval of a share at an edge, no narrower on either side than that of the unconstrained one, in range.

    Draws that all lie beyond the edge are all moved onto it, and say nothing of how sure the edge is.
    """
    low, high = share - (free - around.low), share + (around.high - free)
    return Interval(max(0.0, min(interval.low, low)), min(largest, max(interval.high, high)))


def _rd_estimates(
    run: Tally,
    confusion: ConfusionMatrix,
    drawn_rates: Float64[np.ndarray, "replicates groups groups"],
    *,
    alike: int,
    rng: np.random.Generator,
    level: float,
    pooled: bool = False,
) -> list[Estimate]:
    inverse, drawn_inverse = np.linalg.inv(confusion.rates), np.linalg.inv(drawn_rates)
    shares, distance = run.counts / run.base[:, None], Distance("RD", even_target(len(run.groups)))
    # What the labelled set's size adds to the noise of each pair's difference.
    i, j = np.triu_indices(len(run.groups), 1)
    shifted = shares @ drawn_inverse
    extra = (shifted[..., i] - shifted[..., j]).var(axis=0)
    found = _corrected_rd(shares, run.base, inverse, extra, alike=alike)
    drawn = resample_counts(run.counts, run.base, spread=1 / alike, rng=rng, replicates=len(drawn_rates))
    values = _corrected_rd(drawn / run.base[:, None], run.base, drawn_inverse, extra, alike=alike).value
    value, bound, base = found.value, found.bound, run.base
    passing = _passing_variance(run, confusion, spread=1 / alike)
    (apart,) = rng.spawn(1)
    floor = _even_floor(run, confusion, drawn_inverse, alike=alike, rng=apart)
    if pooled:
        value, bound, base, passing, floor, values = (
            value.mean()[None],
            bound.mean()[None],
            base.sum()[None],
            passing.mean()[None] / len(passing),
            floor.mean()[None],
            values.mean(axis=1)[:, None],
        )
    deviation = values.std(axis=0, ddof=1)
    method = (
        f"corrected for the classifier's errors ({int(confusion.counts.sum())} labelled pictures), noise taken off, "
        f"the rest of its bias allowed for; {alike} fixed prompts; denominator {run.denominator}"
    )
    estimates = []
    for at in range(len(value)):
        interval = distance_interval(
            float(value[at]), bound=float(bound[at]), deviation=float(deviation[at]),
            step=distance.step / float(base[at]), largest=distance.largest, level=level,
            lasting=max(float(deviation[at] ** 2 - passing[at]), 0.0),
        )  # fmt: skip
        # A labelled set with few or no errors leaves more room on one side, which a deviation does not tell.
        drawn_ends = np.quantile(values[:, at], [(1 - level) / 2, (1 + level) / 2]).clip(0.0, distance.largest)
        shown = min(max(float(value[at]), 0.0), distance.largest)
        low, high = min(interval.low, float(drawn_ends[0]), shown), max(interval.high, float(drawn_ends[1]), shown)
        estimates.append(
            Estimate(
                "RD_corrected",
                shown,
                low,
                high,
                level,
                int(base[at]),
                "picture",
                method,
                distance.largest,
                max(float(floor[at]), 0.0),
            )
        )
    return estimates


def _even_floor(
    run: Tally,
    confusion: ConfusionMatrix,
    drawn_inverse: Float64[np.ndarray, "replicates groups groups"],
    *,
    alike: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " prompts"]:
    """What an even model leaves on average, read by this classifier and corrected with a labelled set of this size."""
    read = confusion.rates.mean(axis=0)
    known = run.counts.sum(axis=1)
    drawn = rng.multinomial(known, read / read.sum(), size=(len(drawn_inverse), len(known))) / run.base[:, None]
    i, j = np.triu_indices(len(run.groups), 1)
    shifted = (known / run.base)[:, None] * read @ drawn_inverse
    extra = (shifted[..., i] - shifted[..., j]).var(axis=0)
    floor: Float64[np.ndarray, " prompts"] = _corrected_rd(
        drawn, run.base, drawn_inverse, extra, alike=alike
    ).value.mean(axis=0)
    return floor


def _passing_variance(run: Tally, confusion: ConfusionMatrix, *, spread: float) -> Float64[np.ndarray, " prompts"]:
    """Variance of RD that a classifier without errors would leave; it goes away where all pictures are of one group.

    The law of total variance splits the noise of corrected counts in two: whom the pictures show, which is this, and
    what the classifier calls them, which is there for pictures of one group too.
    """
    groups, known = len(run.groups), run.counts.sum(axis=1, keepdims=True)
    corrected = known * correct_shares(run.counts / known, confusion.rates) + spread / groups
    shares = corrected / (run.base[:, None] + spread)
    weight = np.sign(shares[:, :, None] - shares[:, None, :]).sum(axis=2) * (2 / (groups * (groups - 1)))
    variance = (shares * weight**2).sum(axis=1) - (shares * weight).sum(axis=1) ** 2
    passing: Float64[np.ndarray, " prompts"] = np.maximum(variance, 0.0) / run.base
    return passing


def _corrected_rd(
    shares: Float64[np.ndarray, "*draws prompts groups"],
    base: Int64[np.ndarray, " prompts"],
    inverse: Float64[np.ndarray, "*draws groups groups"],
    extra: Float64[np.ndarray, "prompts pairs"],
    *,
    alike: int,
) -> Unfolded:
    groups = shares.shape[-1]
    i, j = np.triu_indices(groups, 1)
    corrected = shares @ inverse
    contrast = inverse[..., i] - inverse[..., j]
    spread = np.sqrt(shares @ contrast**2 / base[:, None] + extra)
    parts = unfold(np.abs(corrected[..., i] - corrected[..., j]), spread, sharing=2 * alike * (groups - 1))
    return Unfolded(parts.value.mean(axis=-1), parts.bound.mean(axis=-1))
