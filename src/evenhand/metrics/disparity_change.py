r"""Whether a run is less uneven than another. In: two tallies of the same prompts. Out: paired differences and ratios.

Prompts are paired, pictures are taken as independent: where two runs share seeds, the intervals are wider than needed.
The bias that is left in either run is allowed for, so where both runs are near even the intervals are wide as well.
"""

from dataclasses import replace
from math import inf, nan

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm, t

from evenhand.errors import BadInputError
from evenhand.metrics.disparity import declared_distances
from evenhand.metrics.folding import critical_value
from evenhand.metrics.prompt_distances import PromptDistances, check_sampling, measure_prompts
from evenhand.metrics.tally import Tally, select_prompts
from evenhand.records import Estimate

__all__ = ["compare_disparity", "pair_tallies"]

_RATIOS = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 4001)])


def compare_disparity(
    before: Tally,
    after: Tally,
    *,
    seed: int,
    target: tuple[float, ...] | None = None,
    prompts: str = "fixed",
    level: float = 0.95,
    replicates: int = 200,
) -> tuple[Estimate, ...]:
    """Differences (after - before) and ratios (after / before) of the means over the prompts defined in both runs.

    A difference lies in [-largest, largest], neutral value (``floor``) 0. A ratio has no upper limit, neutral value 1;
    its interval is Fieller's (the ratios r for which after - r before may be 0), with an infinite end where before may
    be 0, and NaN with the reason in ``method`` where before is not above 0.

    Args:
        before: The first run.
        after: The second run: the same attribute, groups, denominator and prompts, in any order.
        seed: Of the draws, 0 or more.
        target: Wanted share of each group; even by default.
        prompts: ``fixed`` or ``sampled``, as in :func:`evenhand.metrics.disparity.disparity`.
        level: Coverage the intervals aim at.
        replicates: Number of draws, at least 100.

    Returns:
        ``"<name> difference"``, ``"<name> ratio"`` for ``RD``, ``TV`` and, where a target is not even, ``RD_target``.

    Raises:
        BadInputError: The runs are not comparable, or an option is not allowed.
        TooFewSamplesError: No prompt shows a group in both runs, or ``sampled`` with fewer than two that do.
    """
    first, second, left_out = pair_tallies(before, after)
    seen = 0 if first is None else len(first.prompts)
    check_sampling(seen, prompts=prompts, seed=seed, level=level, replicates=replicates)
    estimates: list[Estimate] = []
    if first is None or second is None:
        return ()
    for name, distance in declared_distances(first, target).items():
        runs = [
            measure_prompts(run, distance, alike=seen, seed=2 * seed + at, replicates=replicates)
            for at, run in enumerate((first, second))
        ]
        found = _Pair(*runs, sampled=prompts == "sampled", level=level)
        how = f"paired over {seen} {prompts} prompts, noise taken off, the rest of its bias allowed for"
        how += f"; denominator {first.denominator}" + (f"; {left_out} prompts undefined in a run" if left_out else "")
        unit = "prompt" if prompts == "sampled" else "picture"
        n = seen if prompts == "sampled" else int(min(run.base.sum() for run in runs))
        like = Estimate(f"{name} difference", *found.difference(), level, n, unit, how, distance.largest, 0.0)
        value, low, high = found.ratio()
        why = f"undefined: {name} is not above 0 before" if np.isnan(value) else f"{how}; Fieller"
        estimates += [
            like,
            replace(like, name=f"{name} ratio", value=value, low=low, high=high, method=why, largest=inf, floor=1.0),
        ]
    return tuple(estimates)


def pair_tallies(first: Tally, second: Tally) -> tuple[Tally | None, Tally | None, int]:
    """Both tallies with the prompts that show a group in both, in the first's order; and how many are left out.

    Raises:
        BadInputError: Attribute, groups, denominator or prompts differ.
    """
    for what in ("attribute", "groups", "denominator"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise BadInputError(f"runs cannot be compared: {what} {one!r} against {other!r}; allowed: the same in both")
    if set(first.prompts) != set(second.prompts):
        odd = sorted(set(first.prompts) ^ set(second.prompts))
        raise BadInputError(
            f"runs cannot be compared: {len(odd)} prompts are in one run only, such as {odd[0]!r}; allowed: the same "
            "prompts in both; leave these out"
        )
    shown = [
        {prompt for prompt, row in zip(run.prompts, run.counts, strict=True) if row.any()} for run in (first, second)
    ]
    kept = tuple(prompt for prompt in first.prompts if prompt in shown[0] & shown[1])
    if not kept:
        return None, None, len(first.prompts)
    return select_prompts(first, kept), select_prompts(second, kept), len(first.prompts) - len(kept)


class _Pair:
    """Two runs' distances, and the noise and bias of ``after - r before`` for any r."""

    def __init__(self, before: PromptDistances, after: PromptDistances, *, sampled: bool, level: float) -> None:
        self.before, self.after, self.sampled, self.level = before, after, sampled, level
        self.largest, rows = before.distance.largest, len(before.value)
        self.widen = float(t.ppf(0.5 + level / 2, rows - 1) / norm.ppf(0.5 + level / 2)) if sampled else 1.0
        self.step = before.distance.step / float(min(before.base.sum(), after.base.sum()))

    def difference(self) -> tuple[float, float, float]:
        value = float((self.after.value - self.before.value).mean())
        half = float(self._reach(np.ones(1))[0])
        ends = max(value - half, -self.largest), min(value + half, self.largest)
        return min(max(value, -self.largest), self.largest), *ends

    def ratio(self) -> tuple[float, float, float]:
        below, above = float(self.before.value.mean()), float(max(self.after.value.mean(), 0.0))
        if below <= 0.0:
            return nan, nan, nan
        away = np.abs(float(self.after.value.mean()) - _RATIOS * below)
        allowed = np.flatnonzero(away <= self._reach(_RATIOS))
        value = above / below
        if not len(allowed):
            return value, value, value
        high = inf if allowed[-1] == len(_RATIOS) - 1 else float(_RATIOS[allowed[-1]])
        return value, min(value, float(_RATIOS[allowed[0]])), max(value, high)

    def _reach(self, ratio: Float64[np.ndarray, " ratios"]) -> Float64[np.ndarray, " ratios"]:
        """How far from 0 ``after - ratio * before`` may be seen while it is 0."""
        rows = len(self.before.value)
        variance = (self.after.variance.sum() + ratio**2 * self.before.variance.sum()) / rows**2
        if self.sampled:
            spread = np.cov(self.after.value, self.before.value)
            between = (spread[0, 0] - 2 * ratio * spread[0, 1] + ratio**2 * spread[1, 1]) / rows
            variance = np.maximum(variance, between)
        deviation = np.sqrt(np.maximum(variance, self.step**2 * (1 + ratio**2) / 2))
        bias = float(self.after.bound.mean()) + ratio * float(self.before.bound.mean())
        found: Float64[np.ndarray, " ratios"] = (
            self.widen * deviation * critical_value(bias / deviation, level=self.level)
        )
        return found
