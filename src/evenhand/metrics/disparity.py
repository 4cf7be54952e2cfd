r"""How unevenly groups are shown. In: counts per prompt and declared group. Out: Representation Disparity, estimates.

Representation Disparity (RD) of one prompt is the mean of :math:`|f_i - f_j|` over all pairs of K declared groups: 0 is
even, 2/K is one group only. Over prompts it is the mean of the prompts' RD, not RD of pooled counts, in which opposite
biases cancel.

RD of a finite sample is larger than the model's. ``RD_observed`` is what the sample shows, as it is published
elsewhere, with the floor that an even model shows at this n. ``RD`` is the estimate of the model's own, with that
excess taken off, and the interval is for the model's own. ``docs/disparity.md`` has the coverage.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan, sqrt

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from evenhand.errors import BadInputError
from evenhand.metrics.distances import (
    Distance,
    distance_floor,
    even_target,
    share_interval,
    two_group_interval,
    unfolded_floor,
)
from evenhand.metrics.prompt_distances import PromptDistances, check_sampling, mean_distance, measure_prompts
from evenhand.metrics.tally import Tally, select_prompts
from evenhand.records import Estimate
from evenhand.stats import Interval

__all__ = ["Disparity", "PromptDisparity", "declared_distances", "defined_prompts", "disparity"]


@dataclass(frozen=True, slots=True)
class PromptDisparity:
    """One prompt.

    Attributes:
        prompt_id: The prompt.
        counts: Pictures per group.
        base: Pictures in the denominator.
        unknown: Reason -> pictures without a group.
        shares: Share of each group in the denominator, with Jeffreys' interval; empty where ``base`` is 0.
        estimates: As in :func:`disparity`; NaN, with the reason in ``method``, where no picture shows a group.
    """

    prompt_id: str
    counts: tuple[int, ...]
    base: int
    unknown: Mapping[str, int]
    shares: tuple[Estimate, ...]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Disparity:
    """A run.

    Attributes:
        attribute: Attribute name.
        groups: Declared groups, in order.
        denominator: ``all``, ``face`` or ``confident``: what shares are shares of.
        estimates: Means over the prompts that are defined.
        prompts: One per prompt of the tally, same order.
        undefined: Prompt -> why it has no RD; these are not in the means.
        unknown: Reason -> pictures without a group, over all prompts.
    """

    attribute: str
    groups: tuple[str, ...]
    denominator: str
    estimates: tuple[Estimate, ...]
    prompts: tuple[PromptDisparity, ...]
    undefined: Mapping[str, str]
    unknown: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Context:
    counted: Tally
    sampled: bool
    level: float
    undefined: int


def disparity(
    counted: Tally,
    *,
    seed: int,
    target: tuple[float, ...] | None = None,
    prompts: str = "fixed",
    level: float = 0.95,
    replicates: int = 200,
) -> Disparity:
    """Representation Disparity per prompt and on average, with the distance to a target.

    Estimates, for every prompt and on average, in [0, ``largest``], 0 where shares are the target's:

    - ``RD``: the model's own RD; see the module. ``floor`` is what an even model leaves on average.
    - ``RD_observed``: of the sample. ``floor`` is what an even model shows at this n; the interval is what samples of
      this size show on average.
    - ``RD_normalised``: ``RD`` times K/2: 1 where one group only is shown, whatever K.
    - ``TV``, ``TV_observed``: total variation to the target, the share of pictures that would have to change groups.
    - ``RD_target``, ``RD_target_observed``: RD of the shares less the target's; only where a target is not even.

    With unknown pictures in the denominator each is its value among known pictures times the share that is known: a
    prompt of which little is known looks even. Read the counts beside it.

    Args:
        counted: Pictures per prompt and group.
        seed: Of the draws that the noise is measured with, 0 or more.
        target: Wanted share of each group; even by default.
        prompts: ``fixed``: the mean over these very prompts. ``sampled``: over the prompts these were drawn from.
        level: Coverage the intervals aim at.
        replicates: Number of draws, at least 100.

    Raises:
        BadInputError: An option that is not allowed, or a target that is not one share per group of sum 1.
        TooFewSamplesError: No prompt has a picture that shows a group, or ``sampled`` with fewer than two that have.
    """
    distances, defined = declared_distances(counted, target), defined_prompts(counted)
    seen = 0 if defined is None else len(defined.prompts)
    check_sampling(seen, prompts=prompts, seed=seed, level=level, replicates=replicates)
    per_prompt: dict[str, list[Estimate]] = {prompt: [] for prompt in counted.prompts}
    means: list[Estimate] = []
    if defined is not None:
        fixed = _Context(defined, False, level, 0)
        asked = _Context(defined, prompts == "sampled", level, len(counted.prompts) - seen)
        for name, distance in distances.items():
            floors = _floors(defined, distance, seed)
            single = measure_prompts(defined, distance, alike=1, seed=seed, replicates=replicates)
            for row, prompt in enumerate(defined.prompts):
                per_prompt[prompt] += _estimates(name, single, np.array([row]), floors[:, row], fixed)
            joint = single
            if seen > 1:
                joint = measure_prompts(defined, distance, alike=seen, seed=seed, replicates=replicates)
                floors = _floors(defined, distance, seed, alike=seen)
            means += _estimates(name, joint, np.arange(seen), floors.mean(axis=1), asked)
    undefined = {}
    for index, prompt in enumerate(counted.prompts):
        if not per_prompt[prompt]:
            undefined[prompt] = _why_undefined(counted, index)
            per_prompt[prompt] = [_undefined(one, undefined[prompt]) for one in means]
    unknown = sum((Counter(row) for row in counted.unknown), Counter[str]())
    rows = tuple(_prompt(counted, index, per_prompt[name], level) for index, name in enumerate(counted.prompts))
    return Disparity(
        counted.attribute, counted.groups, counted.denominator, tuple(means), rows, undefined, dict(unknown)
    )


def declared_distances(counted: Tally, target: tuple[float, ...] | None) -> dict[str, Distance]:
    """The distances by name; ``RD_target`` only where a target is not even.

    Raises:
        BadInputError: The target is not one share per group of sum 1.
    """
    groups = len(counted.groups)
    if target is not None and len(target) != groups:
        raise BadInputError(f"target: got {len(target)} shares, allowed: one per group of {', '.join(counted.groups)}")
    wanted = target or even_target(groups)
    distances = {"RD": Distance("RD", even_target(groups)), "TV": Distance("TV", wanted)}
    if not distances["TV"].even:
        distances["RD_target"] = Distance("RD", wanted)
    return distances


def defined_prompts(counted: Tally) -> Tally | None:
    """The prompts with at least one picture that shows a group; None where there is none."""
    kept = [prompt for prompt, row in zip(counted.prompts, counted.counts, strict=True) if row.any()]
    return select_prompts(counted, kept) if kept else None


def _estimates(
    name: str,
    parts: PromptDistances,
    rows: Int64[np.ndarray, " rows"],
    floors: Float64[np.ndarray, " two"],
    context: _Context,
) -> list[Estimate]:
    """``name``, ``name_observed`` and for RD ``RD_normalised``, of one prompt or as a mean over several."""
    mean, largest = mean_distance(parts, rows, sampled=context.sampled, level=context.level), parts.distance.largest
    observed, exact = float(parts.observed[rows].mean()), None
    if len(rows) == 1 and not context.sampled:
        exact = _exact_interval(parts.distance, context.counted, int(rows[0]), context.level)
    # Of one prompt the best guess can lie above what was observed; noise is only ever taken off.
    value, interval = min(mean.value, observed), exact or mean.interval
    value = value if exact is None else max(value, exact.low)
    interval = Interval(min(interval.low, value), max(interval.high, value))
    pictures = int(parts.base[rows].sum())
    n, unit = (len(rows), "prompt") if context.sampled else (pictures, "picture")
    plain = Estimate(
        name, value, interval.low, interval.high, context.level, n, unit,
        _method(len(rows), exact is not None, context), largest, float(max(floors[1], 0.0)),
    )  # fmt: skip
    spread = sqrt(float(parts.observed_variance[rows].sum())) / len(rows)
    half = float(norm.ppf(0.5 + context.level / 2)) * spread
    seen = Estimate(
        f"{name}_observed", observed, max(0.0, observed - half), min(largest, observed + half), context.level, pictures,
        "picture", f"as observed, of pictures in the denominator {context.counted.denominator}; the interval is for "
        "the mean over samples of this size", largest, float(floors[0]),
    )  # fmt: skip
    if name != "RD":
        return [plain, seen]
    scaled = {part: getattr(plain, part) / largest for part in ("value", "low", "high", "floor")}
    return [plain, seen, replace(plain, name="RD_normalised", largest=1.0, **scaled)]


def _exact_interval(distance: Distance, counted: Tally, row: int, level: float) -> Interval | None:
    """Jeffreys' interval of a share, folded, for two groups and no unknown picture in the denominator."""
    counts = counted.counts[row]
    if len(counts) != 2 or counts.sum() != counted.base[row]:
        return None
    found = two_group_interval(int(counts[0]), int(counts[1]), target=distance.target, level=level)
    scale = 0.5 if distance.kind == "TV" else 1.0
    return Interval(scale * found.low, scale * found.high)


def _floors(counted: Tally, distance: Distance, seed: int, *, alike: int = 1) -> Float64[np.ndarray, "two prompts"]:
    """What a model of the target's shares shows per prompt: observed, and unfolded."""
    sizes = np.stack([counted.counts.sum(axis=1), counted.base], axis=1)
    distinct, place = np.unique(sizes, axis=0, return_inverse=True)
    values = [
        (
            distance_floor(distance, int(known), int(base), seed=seed),
            unfolded_floor(distance, int(known), int(base), alike=alike, seed=seed),
        )
        for known, base in distinct
    ]
    return np.array(values)[place.reshape(-1)].T


def _method(rows: int, folded: bool, context: _Context) -> str:
    if folded:
        how = "Jeffreys' interval of a share, folded"
    elif context.sampled:
        how = f"noise taken off, the rest of its bias allowed for; Student's t over {rows} sampled prompts"
    else:
        how = f"noise taken off, the rest of its bias allowed for; {rows} fixed prompts, pictures resampled"
    skipped = f"; {context.undefined} prompts undefined and left out" if context.undefined else ""
    return f"{how}; denominator {context.counted.denominator}{skipped}"


def _why_undefined(counted: Tally, index: int) -> str:
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(counted.unknown[index].items()))
    return f"0 pictures show a group ({reasons or 'no pictures'})"


def _undefined(like: Estimate, why: str) -> Estimate:
    return replace(like, value=nan, low=nan, high=nan, floor=nan, n=0, unit="picture", method=f"undefined: {why}")


def _prompt(counted: Tally, index: int, estimates: list[Estimate], level: float) -> PromptDisparity:
    counts, base = tuple(int(one) for one in counted.counts[index]), int(counted.base[index])
    shares = []
    for group, count in zip(counted.groups, counts, strict=True):
        if not base:
            break
        interval = share_interval(count, base, level=level)
        shares.append(
            Estimate(
                f"share {group}", count / base, interval.low, interval.high, level, base, "picture",
                f"Jeffreys' interval; denominator {counted.denominator}", 1.0, 0.0,
            )
        )  # fmt: skip
    return PromptDisparity(
        counted.prompts[index], counts, base, counted.unknown[index], tuple(shares), tuple(estimates)
    )
