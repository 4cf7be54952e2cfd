r"""How often a caption names the wrong group. In: declared and said group per picture. Out: estimates MR_*.

A picture is an error where its caption names exactly one group and that group is not the declared one.
Captions that name several groups (``both``), a person and no group (``neutral``) or nobody (``none``) are
never errors and stay in the denominator, so their rates stand beside: a model that always says "person" has
MR 0.

Names: ``MR_M`` and ``MR_F`` (errors among pictures declared so), ``MR_O`` (over all), ``MR_C`` (composite),
``recall`` (the declared group and no other is named), ``coverage`` (exactly one group), ``gendered_rate``
(one or several). For other attributes a group's part of a name is its upper initial, or the whole group
name where initials are shared or would read as ``MR_O`` or ``MR_C``.

Definitions: Jung et al. 2024 (SFID, arXiv 2410.07593) and Jung et al. 2026 (ALA), as fractions, not rounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf, nan, sqrt

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.records import Estimate
from evenhand.stats import Event, Rate, exchange_rates, percentile_interval, resample_rates

__all__ = ["compare_misclassification", "misclassification"]

_NO_GROUP = ("both", "neutral", "none")
_COMPOSITE = "MR_C"
_OVERALL = "MR_O"
_EXCHANGES = 1000


@dataclass(frozen=True, slots=True)
class _Statistic:
    name: str
    value: float
    draws: Float64[np.ndarray, " replicates"]
    n: int
    largest: float


def misclassification(
    truth: Sequence[str],
    said: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    r"""Misclassification rates of one run, with the rates that keep them honest.

    .. math:: MR_g = \frac{\#\{\text{declared } g,\ \text{said another group}\}}{\#\{\text{declared } g\}}
        \qquad MR_C = \sqrt{MR_O^2 + (MR_F - MR_M)^2}

    With more than two groups the difference is the largest ``MR_g`` less the smallest. Rates lie in [0, 1];
    MR_C lies in [0, sqrt(1 + (1 - w)^2)] with w the smallest share of a group: every picture of the other
    groups wrong, none of that group. 0 is an even model without errors.

    Intervals are percentiles of the draws of :func:`evenhand.stats.resample_rates`. A draw of MR_C has the
    squared difference lessened by the variance of the difference (of the two groups furthest apart), not
    below 0: resampling adds that much to it, and the interval would sit too high where groups differ
    little.

    ``floor`` of MR_C is its mean over 1000 exchanges of the declared groups between pictures, within a
    scene where scenes hold several groups, while errors stay where they are: what a model that errs as
    often, but as often on every group, shows at this n. A plain rate has no such floor: it is 0.

    Args:
        truth: Declared group per picture.
        said: Group the caption names, or ``both``, ``neutral``, ``none``.
        unit: Independent unit of each picture: its own id, or its scene.
        groups: Declared groups, in order, at least two.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        ``MR_g`` per group, ``MR_O``, ``MR_C``, ``recall``, ``recall_g`` per group, ``coverage``,
        ``gendered_rate``, ``both_rate``, ``neutral_rate``, ``none_rate``. ``n`` counts the units that hold
        a picture of the base.

    Raises:
        BadInputError: Lengths differ, or a group, an answer or an option is not one that is allowed.
        TooFewSamplesError: A group without pictures, or fewer than two units.
    """
    short = _short_names(groups)
    declared, answer = _read(truth, said, unit, groups=groups, unit_name=unit_name)
    events = _events(declared, answer, short, mirrored=False)
    rates = resample_rates(events, unit, seed=seed, replicates=replicates)
    statistics = _statistics(rates, declared, short, units=len(set(unit)))
    wrong = (answer < len(groups)) & (answer != declared)
    floor = _even_composite(wrong, declared, unit, groups=len(groups), seed=seed)
    estimates = []
    for statistic in statistics:
        interval = percentile_interval(statistic.value, statistic.draws, level=level)
        estimates.append(
            Estimate(
                name=statistic.name,
                value=statistic.value,
                low=interval.low,
                high=min(interval.high, statistic.largest),
                level=level,
                n=statistic.n,
                unit=unit_name,
                method=_method(statistic.n, unit_name, replicates),
                largest=statistic.largest,
                floor=floor if statistic.name == _COMPOSITE else 0.0,
            )
        )
    return tuple(estimates)


def compare_misclassification(
    truth: Sequence[str],
    said_before: Sequence[str],
    said_after: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    """Differences (after - before) and ratios (after / before) of two runs on the same pictures, paired.

    Both runs share the weights of the units. Where any answer differs, a pseudo-observation succeeds in one
    run only (:class:`evenhand.stats.Event`), so that one changed caption is not a sure change; where all
    answers are the same, differences are exactly 0 and ratios exactly 1, with intervals of no width.

    A difference lies in [-largest, largest], neutral value (``floor``) 0. A ratio has no upper limit
    (``largest`` is infinite), neutral value 1; where the rate is 0 before, the ratio is NaN and ``method``
    says why.

    Args:
        truth: Declared group per picture.
        said_before: Answers of the first run, as in :func:`misclassification`.
        said_after: Answers of the second run, same pictures in the same order.
        unit: Independent unit of each picture.
        groups: Declared groups, in order, at least two.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        For every name of :func:`misclassification` ``"<name> difference"``, followed for ``MR_*`` by
        ``"<name> ratio"``.

    Raises:
        BadInputError: Lengths differ, or a group, an answer or an option is not one that is allowed.
        TooFewSamplesError: A group without pictures, or fewer than two units.
    """
    short = _short_names(groups)
    declared, before = _read(truth, said_before, unit, groups=groups, unit_name=unit_name)
    _, after = _read(truth, said_after, unit, groups=groups, unit_name=unit_name)
    same = bool(np.array_equal(before, after))
    events = _events(declared, before, short, mirrored=False)
    rates = resample_rates(
        [*events, *_events(declared, after, short, mirrored=not same)], unit, seed=seed, replicates=replicates
    )
    units = len(set(unit))
    firsts = _statistics(rates[: len(events)], declared, short, units=units)
    seconds = _statistics(rates[len(events) :], declared, short, units=units)
    estimates = []
    for first, second in zip(firsts, seconds, strict=True):
        method = "paired " + _method(first.n, unit_name, replicates)
        if same:
            method += "; both runs answer the same for every picture"
        estimates.append(_difference(first, second, level=level, unit_name=unit_name, method=method))
        if first.name.startswith("MR_"):
            estimates.append(_ratio(first, second, level=level, unit_name=unit_name, method=method))
    return tuple(estimates)


def _difference(before: _Statistic, after: _Statistic, *, level: float, unit_name: str, method: str) -> Estimate:
    value = after.value - before.value
    interval = percentile_interval(value, after.draws - before.draws, level=level)
    return Estimate(
        name=f"{before.name} difference",
        value=value,
        low=max(interval.low, -before.largest),
        high=min(interval.high, before.largest),
        level=level,
        n=before.n,
        unit=unit_name,
        method=method,
        largest=before.largest,
        floor=0.0,
    )


def _ratio(before: _Statistic, after: _Statistic, *, level: float, unit_name: str, method: str) -> Estimate:
    value, low, high = nan, nan, nan
    if before.value > 0.0:
        value = after.value / before.value
        interval = percentile_interval(value, after.draws / before.draws, level=level)
        low, high = interval.low, interval.high
    else:
        method = f"undefined: {before.name} is 0 before"
    return Estimate(
        name=f"{before.name} ratio",
        value=value,
        low=low,
        high=high,
        level=level,
        n=before.n,
        unit=unit_name,
        method=method,
        largest=inf,
        floor=1.0,
    )


def _statistics(
    rates: Sequence[Rate], declared: Int64[np.ndarray, " rows"], short: tuple[str, ...], *, units: int
) -> tuple[_Statistic, ...]:
    """The rates in their order, with MR_C after MR_O."""
    statistics = []
    for rate in rates:
        statistics.append(_Statistic(rate.name, rate.value, rate.draws, rate.n, 1.0))
        if rate.name == _OVERALL:
            by_name = {rate.name: rate for rate in rates}
            shares = np.bincount(declared, minlength=len(short)) / len(declared)
            value, draws = _composite(by_name, short)
            largest = sqrt(1.0 + (1.0 - float(shares.min())) ** 2)
            statistics.append(_Statistic(_COMPOSITE, value, draws, units, largest))
    return tuple(statistics)


def _composite(rates: Mapping[str, Rate], short: tuple[str, ...]) -> tuple[float, Float64[np.ndarray, " replicates"]]:
    """MR_C on the data, and its draws with the spread that resampling adds to the gap taken off."""
    overall = rates[_OVERALL]
    parts = sorted((rates[f"MR_{name}"] for name in short), key=lambda rate: rate.value)
    lowest, highest = parts[0], parts[-1]
    draws = np.stack([part.draws for part in parts])
    gap = draws.max(axis=0) - draws.min(axis=0)
    added = float(np.var(highest.draws - lowest.draws))
    composite = np.sqrt(overall.draws**2 + np.maximum(0.0, gap**2 - added))
    return hypot(overall.value, highest.value - lowest.value), composite


def _even_composite(
    wrong: Bool[np.ndarray, " rows"],
    declared: Int64[np.ndarray, " rows"],
    unit: Sequence[str],
    *,
    groups: int,
    seed: int,
) -> float:
    rates = exchange_rates(wrong, declared, unit, groups=groups, seed=seed, exchanges=_EXCHANGES)
    gap = rates.max(axis=1) - rates.min(axis=1)
    return float(np.hypot(wrong.mean(), gap).mean())


def _events(
    declared: Int64[np.ndarray, " rows"],
    answer: Int64[np.ndarray, " rows"],
    short: tuple[str, ...],
    *,
    mirrored: bool,
) -> list[Event]:
    groups = len(short)
    one, right = answer < groups, answer == declared
    wrong = one & ~right
    everyone = np.ones(len(declared), dtype=np.bool_)
    several, neutral, nobody = (answer == groups + offset for offset in range(3))
    members = [(name, declared == index) for index, name in enumerate(short)]
    columns = [
        *((f"MR_{name}", wrong, base) for name, base in members),
        (_OVERALL, wrong, everyone),
        ("recall", right, everyone),
        *((f"recall_{name}", right, base) for name, base in members),
        ("coverage", one, everyone),
        ("gendered_rate", one | several, everyone),
        ("both_rate", several, everyone),
        ("neutral_rate", neutral, everyone),
        ("none_rate", nobody, everyone),
    ]
    return [Event(name, hit, base, mirrored) for name, hit, base in columns]


def _read(
    truth: Sequence[str],
    said: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
    """Declared group and answer as numbers: groups in order, then ``both``, ``neutral``, ``none``."""
    if unit_name not in ("picture", "scene"):
        raise BadInputError(f"unknown unit_name: got {unit_name!r}, allowed: picture, scene; choose one")
    if not len(truth) == len(said) == len(unit):
        raise BadInputError(
            f"columns of different length: got {len(truth)} declared groups, {len(said)} answers and "
            f"{len(unit)} units; give one of each per picture"
        )
    for group in groups:
        if group not in truth:
            raise TooFewSamplesError(
                f"misclassification of {group!r} is undefined: got 0 pictures declared so, of {len(truth)}; "
                "at least 1 is needed; add pictures of that group"
            )
    return _encode("declared group", truth, groups), _encode("answer", said, (*groups, *_NO_GROUP))


def _encode(what: str, column: Sequence[str], allowed: tuple[str, ...]) -> Int64[np.ndarray, " rows"]:
    number = {name: index for index, name in enumerate(allowed)}
    unknown = sorted(set(column) - set(number))
    if unknown:
        raise BadInputError(
            f"unknown {what}: got {', '.join(map(repr, unknown))}, allowed: {', '.join(allowed)}; "
            "correct the column or declare the group"
        )
    return np.array([number[name] for name in column], dtype=np.int64)


def _short_names(groups: tuple[str, ...]) -> tuple[str, ...]:
    reserved = {*_NO_GROUP, "O", "C", ""}
    if len(groups) < 2 or len(set(groups)) < len(groups) or reserved & set(groups):
        raise BadInputError(
            f"groups cannot be compared: got {groups}, allowed: two or more different names other than "
            "both, neutral, none, O and C; rename or add groups"
        )
    initials = tuple(group[0].upper() for group in groups)
    shared = len(set(initials)) < len(initials) or {"O", "C"} & set(initials)
    return groups if shared else initials


def _method(n: int, unit_name: str, replicates: int) -> str:
    return f"Bayesian bootstrap over {n} {unit_name}s with Jeffreys pseudo-observations, {replicates} replicates"
