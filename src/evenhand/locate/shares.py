"""Whom codes stand for and whom pictures show, over all prompts. In: what was gathered. Out: estimates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from scipy.stats import binomtest

from evenhand.errors import TooFewSamplesError
from evenhand.locate.divergence import responsibilities
from evenhand.locate.gathered import Gathered
from evenhand.locate.turning import Turning, label_codes, responsible, turning
from evenhand.locate.two_samples import two_sample_bounds
from evenhand.located import LocatedPrompt
from evenhand.metrics.disparity import disparity
from evenhand.metrics.distances import share_interval
from evenhand.metrics.tally import tally
from evenhand.records import Estimate
from evenhand.stats import percentile_interval

__all__ = [
    "CLEAR",
    "RESAMPLING_SEED",
    "agreement",
    "bounds",
    "decoded",
    "fidelity",
    "obeyed",
    "share_estimate",
    "shift",
    "totals",
]

RESAMPLING_SEED = 0
"""Of the intervals; fixed, so that a folder measured twice gives the same numbers."""

CLEAR = 0.8
"""Probability from which on codes stand for a group."""

_DRAWS = 2000


def share_estimate(name: str, count: int, base: int, *, level: float, unit: str = "picture") -> Estimate:
    """A share with Jeffreys' interval."""
    ends = share_interval(count, base, level=level)
    return Estimate(name, count / base, ends.low, ends.high, level, base, unit, "Jeffreys", 1.0, 0.0)


def totals(found: Gathered) -> dict[str, Estimate]:
    """``codes``, ``shown``: total variation to the target, mean over the prompts, noise taken off.

    ``codes`` is of the codes that stand for a group clearly, ``shown`` of the pictures that show one.
    """
    held = {}
    named = label_codes(found.rows, found.groups, attribute=found.attribute.name, min_confidence=CLEAR)
    if any(one.group for one in named):
        counted = tally(named, groups=found.groups, denominator="confident", min_confidence=CLEAR)
        means = disparity(counted, seed=RESAMPLING_SEED, target=found.attribute.target, level=found.level).estimates
        held["codes"] = next(one for one in means if one.name == "TV")
    for one in found.neutral.estimates[found.attribute.name]:
        if one.name == "TV":
            held["shown"] = one
    return held


def obeyed(found: Gathered) -> dict[str, Estimate]:
    """Group -> mean probability that pictures asked to show it stand for it, by likelihood."""
    held = {}
    for group in found.groups:
        own = [found.sums(one.asked[group].id, asked=True)[:, 1:] for one in found.conditions]
        rows = np.concatenate(own)
        if len(rows):
            held[group] = responsibilities(rows, found.groups, seed=RESAMPLING_SEED, level=found.level)[group]
    return held


def fidelity(found: Gathered) -> dict[str, Estimate]:
    """Group -> share of pictures asked to show it that do, among those that show a group."""
    asks, held = found.asks, {}
    for group in found.groups:
        said = Counter(one.group for one in found.labels if asks.get(one.prompt_id) == group and one.group is not None)
        if said.total():
            held[group] = share_estimate(f"fidelity {group}", said[group], said.total(), level=found.level)
    return held


def unclear(found: Gathered) -> Estimate | None:
    """Share of neutral pictures whose codes stand for no group clearly; None without likelihoods."""
    named = label_codes(found.rows, found.groups, attribute=found.attribute.name, min_confidence=CLEAR)
    if not named:
        return None
    return share_estimate("unclear", sum(one.group is None for one in named), len(named), level=found.level)


def unread(found: Gathered, table: Mapping[str, Mapping[str, int]]) -> dict[str, Estimate]:
    """Group -> share of pictures whose codes stand for it and that show no group."""
    held = {}
    for group in found.groups:
        row = table.get(group, {})
        total = sum(row.values())
        if total:
            none = total - sum(row.get(one, 0) for one in found.groups)
            held[group] = share_estimate(f"unread {group}", none, total, level=found.level)
    return held


def decoded(found: Gathered, table: Mapping[str, Mapping[str, int]]) -> tuple[Turning | None, str]:
    """What becomes of codes in which groups are as wanted; where that cannot be told, why."""
    if not found.rows:
        return None, "the model gives no likelihood of its pictures: whom its codes stand for is not known"
    try:
        target = found.attribute.target
        return turning(table, groups=found.groups, target=target, seed=RESAMPLING_SEED, level=found.level), ""
    except TooFewSamplesError as error:
        return None, str(error)


def shift(found: Gathered) -> dict[str, Estimate]:
    """Group -> its share shown less its share by likelihood, of the same neutral pictures that show a group."""
    shown = {(one.prompt_id, one.k): one.group for one in found.neutral_labels if one.group is not None}
    keys = [key for key, rows in found.rows.items() if key in shown and np.isfinite(rows[1:].sum(axis=1)).any()]
    if not keys:
        return {}
    shares = responsible(np.stack([found.rows[key][1:].sum(axis=1) for key in keys]))
    drawn_by = np.random.default_rng([RESAMPLING_SEED])
    weights = drawn_by.standard_gamma(1.0, (_DRAWS, len(keys)))
    held = {}
    for at, group in enumerate(found.groups):
        own = np.array([shown[key] == group for key in keys]) - shares[:, at]
        low, high = drawn_by.standard_gamma(0.5, (2, _DRAWS))  # a picture that gains the group, and one that loses it
        draws = (weights @ own - low + high) / (weights.sum(axis=1) + low + high)
        ends = percentile_interval(float(own.mean()), draws, level=found.level)
        method = "Bayesian bootstrap of pictures, Jeffreys' ends"
        held[group] = Estimate(
            f"shift {group}",
            float(own.mean()),
            ends.low,
            ends.high,
            found.level,
            len(keys),
            "picture",
            method,
            1.0,
            0.0,
        )
    return held


def agreement(prompts: Sequence[LocatedPrompt], *, groups: int, level: float) -> Estimate | None:
    """Share of prompts whose most shown group is the one nearest by divergence, with the exact binomial interval."""
    pairs = [one.nearest == _most_shown(one) for one in prompts if one.shown and one.nearest is not None]
    if not pairs:
        return None
    right = sum(pairs)
    ends = binomtest(right, len(pairs)).proportion_ci(level, method="exact")
    return Estimate(
        "agreement", right / len(pairs), float(ends.low), float(ends.high), level, len(pairs), "prompt",
        "exact binomial", 1.0, 1 / groups,
    )  # fmt: skip


def _most_shown(prompt: LocatedPrompt) -> str:
    return max(prompt.shown, key=lambda group: prompt.shown[group].value)


def bounds(found: Gathered) -> dict[str, tuple[Estimate, ...]]:
    """Group -> what a classifier tells apart, neutral pictures against those asked to show the group.

    It reads how often each code is in a picture; pixels, where the model has no codes. As many of each prompt on both
    sides; a group with too few pictures has none.
    """
    held = {}
    for group in found.groups:
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for one in found.conditions:
            pair = found.counts(one.neutral.id), found.counts(one.asked[group].id, asked=True)
            n = min(map(len, pair))
            for side, own in zip(sides, pair, strict=True):
                side.extend([own[:n]] if n else [])
        if sides[0]:
            first, second = (np.concatenate(side) for side in sides)
            with suppress(TooFewSamplesError):
                held[group] = two_sample_bounds(first, second, seed=RESAMPLING_SEED, level=found.level)
    return held
