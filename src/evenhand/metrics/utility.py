r"""How well a model still answers. In: right and given answers per picture. Out: accuracies, and how uneven they are.

``accuracy``, ``accuracy_<group>``, ``worst_group_accuracy`` (the smallest of these), ``accuracy_gap`` (largest less
smallest) and ``unparsed_rate``. An answer that cannot be read is wrong, and counted apart.

ALA (Jung et al. 2026) reports a utility ``D_WCA``, 0 at best, whose formula is not public. Two readings of "accuracy
degradation of the worst-performing subgroup" are given under names that say what they are, as figures after less
figures before: ``worst_group_accuracy difference`` (each run's own worst group) and ``worst_group_change`` (the group
that loses most). Neither is called D_WCA.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.draws import bootstrap_method, drawn_estimate
from evenhand.records import Estimate
from evenhand.stats import Event, Rate, exchange_rates, resample_rates

__all__ = ["UNPARSED", "PairedTest", "answer_accuracy", "compare_accuracy", "exact_mcnemar"]

UNPARSED = "unparsed"
"""What stands in place of a group where an answer cannot be read."""

_EXCHANGES = 1000


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two runs' answers to the same questions, and whether one is right more often.

    Attributes:
        both: Right in both runs.
        only_before: Right in the first run only.
        only_after: Right in the second run only.
        neither: Wrong in both.
        p: Probability, if a change were as often for the better as for the worse, of a split of the changes at least
            as uneven as this one; two-sided, exact. 1 where nothing changed.
    """

    both: int
    only_before: int
    only_after: int
    neither: int
    p: float


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    value: float
    draws: Float64[np.ndarray, " replicates"]
    n: int


def answer_accuracy(
    truth: Sequence[str],
    said: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    cells: Sequence[str] | None = None,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    """Accuracy over all pictures, per group, of the worst group, and the largest gap between groups.

    All lie in [0, 1]. Intervals are percentiles of the draws of :func:`evenhand.stats.resample_rates`. A draw of the
    gap has its square lessened by the variance of the difference of the two groups furthest apart, not below 0, as
    MR_C has: resampling adds that much. The smallest of several accuracies is biased downwards, the more so the more
    groups and the fewer pictures each; the same holds for its draws. ``floor`` of the gap and of the worst group's
    accuracy is their mean over 1000 exchanges of the groups between pictures (within a scene where it holds several):
    what a model that is right as often, but evenly, shows at this n.

    Args:
        truth: Right answer per picture, a group.
        said: Given answer: a group or ``unparsed``.
        unit: Independent unit of each picture: its own id, or its scene.
        groups: Declared groups, in order.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        cells: What accuracies are split by, for example gender and occupation; by default the right answer.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        ``accuracy``, ``accuracy_<cell>`` in declared or else sorted order, ``worst_group_accuracy``,
        ``accuracy_gap``, ``unparsed_rate``.

    Raises:
        BadInputError: Lengths differ, or an answer or an option is not one that is allowed.
        TooFewSamplesError: A declared group without pictures, fewer than two groups, or fewer than two units.
    """
    cell, names = _cells(truth, cells, unit, groups)
    right, unparsed = _read(truth, said, groups)
    rates = resample_rates(
        _events(right, unparsed, cell, names, mirrored=False), unit, seed=seed, replicates=replicates
    )
    columns = _columns(rates)
    exchanged = exchange_rates(right, cell, unit, groups=len(names), seed=seed, exchanges=_EXCHANGES)
    floors = {
        "worst_group_accuracy": float(exchanged.min(axis=1).mean()),
        "accuracy_gap": float((exchanged.max(axis=1) - exchanged.min(axis=1)).mean()),
    }
    return tuple(
        drawn_estimate(
            column.name,
            column.value,
            column.draws,
            level=level,
            n=column.n,
            unit_name=unit_name,
            method=bootstrap_method(column.n, unit_name, replicates, pseudo=True),
            largest=1.0,
            floor=floors.get(column.name, 0.0),
        )
        for column in columns
    )


def compare_accuracy(
    truth: Sequence[str],
    said_before: Sequence[str],
    said_after: Sequence[str],
    unit: Sequence[str],
    *,
    groups: tuple[str, ...],
    unit_name: str,
    seed: int,
    cells: Sequence[str] | None = None,
    level: float = 0.95,
    replicates: int = 4000,
) -> tuple[Estimate, ...]:
    r"""Differences (after - before) of two runs on the same pictures, paired.

    .. math:: \text{worst\_group\_change} = \min_g \left(Acc_g^{after} - Acc_g^{before}\right)

    Range [-1, 1], neutral value (``floor``) 0, below 0 is harm. Both runs share the weights of the units; exactly 0,
    without width, where all answers are the same.

    Args:
        truth: Right answer per picture.
        said_before: Answers of the first run.
        said_after: Answers of the second run, same pictures in the same order.
        unit: Independent unit of each picture.
        groups: Declared groups, in order.
        unit_name: What a unit is: ``picture`` or ``scene``.
        seed: Of the draws, 0 or more.
        cells: What accuracies are split by; by default the right answer.
        level: Coverage the intervals aim at.
        replicates: Number of draws.

    Returns:
        For every name of :func:`answer_accuracy` ``"<name> difference"``, then ``worst_group_change``.

    Raises:
        BadInputError: As :func:`answer_accuracy`.
        TooFewSamplesError: As :func:`answer_accuracy`.
    """
    cell, names = _cells(truth, cells, unit, groups)
    answers = [_read(truth, said, groups) for said in (said_before, said_after)]
    same = all(np.array_equal(first, second) for first, second in zip(*answers, strict=True))
    events = [
        _events(right, unparsed, cell, names, mirrored=bool(run) and not same)
        for run, (right, unparsed) in enumerate(answers)
    ]
    rates = resample_rates([*events[0], *events[1]], unit, seed=seed, replicates=replicates)
    before, after = rates[: len(events[0])], rates[len(events[0]) :]
    changes = [
        _Column(f"{first.name} difference", second.value - first.value, second.draws - first.draws, first.n)
        for first, second in zip(_columns(before), _columns(after), strict=True)
    ]
    earlier, later = _stack(before, len(names)), _stack(after, len(names))
    lost = _Column(
        "worst_group_change",
        float((later[0] - earlier[0]).min()),
        (later[1] - earlier[1]).min(axis=0),
        changes[0].n,
    )
    return tuple(
        drawn_estimate(
            column.name,
            column.value,
            column.draws,
            level=level,
            n=column.n,
            unit_name=unit_name,
            method="paired " + bootstrap_method(column.n, unit_name, replicates, pseudo=True),
            largest=1.0,
        )
        for column in (*changes, lost)
    )


def exact_mcnemar(right_before: Sequence[bool], right_after: Sequence[bool]) -> PairedTest:
    """McNemar's test in its exact form: a binomial test of the changes against one half.

    It takes questions as independent; with several per scene, read the intervals of :func:`compare_accuracy`.

    Raises:
        BadInputError: Lengths differ.
        TooFewSamplesError: No questions.
    """
    from scipy.stats import binomtest

    if len(right_before) != len(right_after):
        raise BadInputError(f"answers: got {len(right_before)} before and {len(right_after)} after; give pairs")
    if not right_before:
        raise TooFewSamplesError("a paired test needs pairs: got 0, at least 1 is needed; add questions")
    first, second = np.asarray(right_before, dtype=np.bool_), np.asarray(right_after, dtype=np.bool_)
    only_before, only_after = int((first & ~second).sum()), int((~first & second).sum())
    changed = only_before + only_after
    p = float(binomtest(only_before, changed, 0.5).pvalue) if changed else 1.0
    return PairedTest(int((first & second).sum()), only_before, only_after, int((~first & ~second).sum()), p)


def _columns(rates: Sequence[Rate]) -> list[_Column]:
    """The rates in their order, with the worst group's accuracy and the gap before the last."""
    overall, cells, unparsed = rates[0], rates[1:-1], rates[-1]
    value, draws = _stack(rates, len(cells))
    low, high = int(value.argmin()), int(value.argmax())
    added = float(np.var(draws[high] - draws[low]))
    gap = draws.max(axis=0) - draws.min(axis=0)
    columns = [_Column(rate.name, rate.value, rate.draws, rate.n) for rate in (overall, *cells)]
    columns += [
        _Column("worst_group_accuracy", float(value.min()), draws.min(axis=0), overall.n),
        _Column("accuracy_gap", float(value.max() - value.min()), np.sqrt(np.maximum(0.0, gap**2 - added)), overall.n),
        _Column(unparsed.name, unparsed.value, unparsed.draws, unparsed.n),
    ]
    return columns


def _stack(
    rates: Sequence[Rate], cells: int
) -> tuple[Float64[np.ndarray, " cells"], Float64[np.ndarray, "cells replicates"]]:
    parts = rates[1 : 1 + cells]
    return np.array([rate.value for rate in parts]), np.stack([rate.draws for rate in parts])


def _events(
    right: Bool[np.ndarray, " rows"],
    unparsed: Bool[np.ndarray, " rows"],
    cell: Int64[np.ndarray, " rows"],
    names: Sequence[str],
    *,
    mirrored: bool,
) -> list[Event]:
    everyone = np.ones(len(right), dtype=np.bool_)
    return [
        Event("accuracy", right, everyone, mirrored),
        *(Event(f"accuracy_{name}", right, cell == index, mirrored) for index, name in enumerate(names)),
        Event("unparsed_rate", unparsed, everyone, mirrored),
    ]


def _cells(
    truth: Sequence[str], cells: Sequence[str] | None, unit: Sequence[str], groups: tuple[str, ...]
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    column = truth if cells is None else cells
    if not len(truth) == len(column) == len(unit):
        raise BadInputError(
            f"columns of different length: got {len(truth)} right answers, {len(column)} cells and {len(unit)} units; "
            "give one of each per picture"
        )
    names = tuple(groups) if cells is None else tuple(sorted(set(column)))
    empty = [name for name in names if name not in column]
    if empty or len(names) < 2:
        raise TooFewSamplesError(
            f"accuracy per group is undefined: got {len(names)} groups, without pictures: {', '.join(empty) or 'none'};"
            " at least 2 groups of 1 picture are needed; add pictures or declare other groups"
        )
    number = {name: index for index, name in enumerate(names)}
    unknown = sorted(set(column) - set(number))
    if unknown:
        raise BadInputError(f"right answers: got {unknown[0]!r}, allowed: {', '.join(names)}; correct the column")
    return np.array([number[name] for name in column], dtype=np.int64), names


def _read(
    truth: Sequence[str], said: Sequence[str], groups: tuple[str, ...]
) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Which answers are right, and which cannot be read."""
    if len(truth) != len(said):
        raise BadInputError(f"answers: got {len(said)} for {len(truth)} pictures; give one each")
    unknown = sorted({*truth} - {*groups}) + sorted({*said} - {*groups, UNPARSED})
    if unknown or UNPARSED in groups:
        raise BadInputError(
            f"answers: got {unknown[0] if unknown else UNPARSED!r}, allowed: {', '.join(groups)}, and {UNPARSED} for "
            "given answers only; correct the column"
        )
    right = np.array([a == b for a, b in zip(truth, said, strict=True)], dtype=np.bool_)
    return right, np.array([answer == UNPARSED for answer in said], dtype=np.bool_)
