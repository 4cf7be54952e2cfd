r"""Can a group be read from a place of a model, and each group equally well? In: features, labels. Out: a ``Probe``.

A linear probe says what *can* be read there, not what the model reads; how well it reads pictures with exchanged labels
is stated beside it (Hewitt and Liang 2019, arXiv 1909.03368, "selectivity"). With the confusion matrix
:math:`C_{gh}`, pictures of group g that are read as h,

.. math:: recall_g = \frac{C_{gg}}{\sum_h C_{gh}}, \quad precision_g = \frac{C_{gg}}{\sum_h C_{hg}}, \quad
    gap = \max_g recall_g - \min_g recall_g

Intervals are for other pictures of the same kind read by the same probes. Every picture is read several times, by
probes of other folds, and is one unit all the same. Where a ridge probe of exchanged labels comes as near to guessing,
the interval of the accuracy holds guessing too: folds are not independent (``exchanges.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import norm

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.locate.balance import balanced_rows
from evenhand.locate.exchanges import exchange_labels, hold_chance
from evenhand.locate.held_out import FOLDS, held_out_shares
from evenhand.located import Probe
from evenhand.records import Estimate
from evenhand.stats import percentile_interval

__all__ = ["ProbeScores", "probe_place", "probe_scores"]

_REPLICATES = 4000
_FLOOR_DRAWS = 2000
_EXCHANGES = 2
_RIDGE_EXCHANGES = 200
_PARTS = (0.125, 0.25, 0.5)
_FEWEST_FITTED = 4
_METHOD = "Bayesian bootstrap of pictures, Jeffreys' ends; probes not fitted again"


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """What is known of a probe from what it said of pictures it was not fitted to.

    Attributes:
        accuracy: Of all pictures.
        precision: Mean over groups; a group that is never said has 0.
        recall: Mean over groups.
        f1: Mean over groups.
        recalls: Group -> share of its pictures that is read right.
        recall_gap: Largest less smallest of ``recalls``.
    """

    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    recalls: Mapping[str, Estimate]
    recall_gap: Estimate


def probe_place(
    place: str,
    features: Float[np.ndarray, "pictures features"],
    labels: Sequence[str],
    *,
    groups: tuple[str, ...],
    control: bool = False,
    strata: Sequence[str] | None = None,
    repeats: int = 5,
    seed: int,
    level: float = 0.95,
) -> Probe:
    """A linear probe of one place, on equally many pictures of each group.

    Each repeat cuts the balanced pictures into five folds anew and reads each fold by a probe fitted to the others. The
    control exchanges the labels twice and does the same; the learning curve fits to an eighth, a quarter, a half and
    all of the other folds' pictures, and leaves out sizes below four pictures of a group.

    Args:
        place: Its name.
        features: Of each picture.
        labels: The group of each picture.
        groups: All groups, in order.
        control: Whether the place is a control.
        strata: What else each picture shows; groups are balanced within each.
        repeats: How often the pictures are cut into folds.
        seed: Of the sample, folds, exchanges and intervals.
        level: Coverage the intervals aim at.

    Raises:
        BadInputError: Lengths differ, features are not finite, an unknown label, or a number is out of range.
        TooFewSamplesError: Fewer than ten pictures of a group.
        MissingExtraError: scikit-learn is not installed.
    """
    if features.ndim != 2 or len(features) != len(labels):
        raise BadInputError(f"features: got shape {features.shape} for {len(labels)} labels; allowed: a row for each.")
    if repeats < 1:
        raise BadInputError(f"repeats: got {repeats}; allowed: 1 and more.")
    chosen = balanced_rows(labels, groups=groups, strata=strata, seed=seed)
    own = features[chosen]
    shown = np.array([groups.index(labels[row]) for row in chosen])
    seeds = iter(np.random.SeedSequence([seed]).generate_state(repeats + 2 * _EXCHANGES + 1).tolist())

    def read(known: Int64[np.ndarray, " pictures"], cut: int, part: float = 1.0) -> Int64[np.ndarray, " pictures"]:
        shares = held_out_shares(own, known, groups=len(groups), seed=cut, part=part)
        said: Int64[np.ndarray, " pictures"] = shares.argmax(axis=1)
        return said

    cuts = [next(seeds) for _ in range(repeats)]
    predicted = np.stack([read(shown, cut) for cut in cuts])
    scores = probe_scores(predicted, shown, groups=groups, seed=seed, level=level)
    spread = exchange_labels(own, shown, groups=len(groups), exchanges=_RIDGE_EXCHANGES, seed=cuts[0]).spread
    accuracy = hold_chance(scores.accuracy, spread=spread)
    exchanged = [np.random.default_rng([next(seeds)]).permutation(shown) for _ in range(_EXCHANGES)]
    nothing = float(np.mean([read(known, next(seeds)) == known for known in exchanged]))
    curve = {}
    fitted_to = len(own) * (FOLDS - 1) // FOLDS
    for part in _PARTS:
        if part * fitted_to >= _FEWEST_FITTED * len(groups):
            fewer = probe_scores(read(shown, cuts[0], part)[None], shown, groups=groups, seed=seed, level=level)
            curve[round(part * fitted_to)] = hold_chance(fewer.accuracy, spread=spread)
    return Probe(
        place,
        control,
        int(features.shape[1]),
        accuracy,
        scores.precision,
        hold_chance(scores.recall, spread=spread),
        scores.f1,
        scores.recalls,
        scores.recall_gap,
        _exchanged(nothing, accuracy, spread=spread),
        float(np.bincount(shown).max() / len(shown)),
        {**curve, fitted_to: accuracy},
    )


def probe_scores(
    predicted: Int64[np.ndarray, "repeats pictures"],
    labels: Int64[np.ndarray, " pictures"],
    *,
    groups: tuple[str, ...],
    seed: int,
    level: float = 0.95,
) -> ProbeScores:
    """What a probe's answers say of it.

    A draw of the confusion matrix gives each picture a weight from Gamma(1), shared out over what its repeats say, and
    each group a picture that nobody saw, read right with weight Gamma(1/2) and wrong with Gamma(1/2); in means over
    groups these weigh one picture together. For one repeat and two groups a recall's draws are Jeffreys' interval.

    The interval of the gap holds those of all pairs' differences, signs left off, each at the level that makes them
    hold together (Bonferroni). A difference whose interval holds 0 has the low end 0.

    Args:
        predicted: Index of the group read, per repeat and picture.
        labels: Index of each picture's group.
        groups: Their names.
        seed: Of the intervals.
        level: Coverage they aim at.

    Raises:
        BadInputError: Shapes differ, or an index is out of range.
        TooFewSamplesError: A group has no picture.
    """
    count = len(groups)
    if predicted.ndim != 2 or predicted.shape[1:] != labels.shape or not predicted.size:
        raise BadInputError(f"predicted: got shape {predicted.shape} for {len(labels)} labels; allowed: (repeats, n).")
    if count < 2 or min(predicted.min(), labels.min()) < 0 or max(predicted.max(), labels.max()) >= count:
        raise BadInputError(f"indices of groups: got some that are not 0 to {count - 1}, of two groups and more.")
    sizes = np.bincount(labels, minlength=count)
    if not sizes.all():
        raise TooFewSamplesError(f"pictures of {groups[int(sizes.argmin())]!r}: got 0; allowed: 1 and more.")
    said = (predicted[:, :, None] == np.arange(count)).mean(axis=0)
    drawn_by, n = np.random.default_rng([seed]), len(labels)
    seen = _Confusion(said, labels)
    matrix, draws = seen.counted(), seen.draws(drawn_by)

    def estimate(name: str, of: Callable[[np.ndarray], np.ndarray], floor: float) -> Estimate:
        value = float(of(matrix)[0])
        ends = percentile_interval(value, of(draws[0]), level=level)
        return Estimate(name, value, ends.low, ends.high, level, n, "picture", _METHOD, 1.0, floor)

    recalls = {}
    recalled = _recalls(matrix)[0]
    for i, group in enumerate(groups):
        value = float(recalled[i])
        ends = percentile_interval(value, _recalls(draws[1])[:, i], level=level)
        recalls[group] = Estimate(
            f"recall {group}", value, ends.low, ends.high, level, int(sizes[i]), "picture", _METHOD, 1.0, 1 / count
        )
    return ProbeScores(
        estimate("accuracy", _right, 1 / count),
        estimate("precision", lambda one: _precisions(one).mean(-1), 1 / count),
        estimate("recall", lambda one: _recalls(one).mean(-1), 1 / count),
        estimate("F1", lambda one: _f1(one).mean(-1), 1 / count),
        recalls,
        _gap(recalled, _recalls(draws[1]), sizes, drawn_by, level=level),
    )


class _Confusion:
    """Pictures by label and by what is said of them, alike ones together."""

    def __init__(self, said: Float64[np.ndarray, "pictures groups"], labels: Int64[np.ndarray, " pictures"]) -> None:
        self._groups = said.shape[1]
        rows, self._times = np.unique(np.column_stack([labels, said]), axis=0, return_counts=True)
        self._cells = np.zeros((len(rows), self._groups, self._groups))
        self._cells[np.arange(len(rows)), rows[:, 0].astype(int)] = rows[:, 1:]

    def counted(self) -> Float64[np.ndarray, "1 groups groups"]:
        """Pictures of each group that are read as each."""
        counted: Float64[np.ndarray, "1 groups groups"] = np.einsum("r,rgh->gh", self._times, self._cells)[None]
        return counted

    def draws(self, drawn_by: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same of other pictures: for means over groups, and for one group each."""
        count = self._groups
        weights = drawn_by.standard_gamma(self._times, (_REPLICATES, len(self._times)))
        plain = (weights @ self._cells.reshape(len(self._times), -1)).reshape(-1, count, count)
        prior = np.where(np.eye(count) == 1, 0.5, 0.5 / (count - 1))
        together, alone = (plain + drawn_by.standard_gamma(prior / of, plain.shape) for of in (count, 1))
        return together, alone


def _right(matrix: Float64[np.ndarray, "draws groups groups"]) -> np.ndarray:
    right: np.ndarray = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))
    return right


def _recalls(matrix: Float64[np.ndarray, "draws groups groups"]) -> np.ndarray:
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1))


def _precisions(matrix: Float64[np.ndarray, "draws groups groups"]) -> np.ndarray:
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-2))


def _f1(matrix: Float64[np.ndarray, "draws groups groups"]) -> np.ndarray:
    return _ratio(2 * np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1) + matrix.sum(-2))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where nothing is divided by nothing: a group that is never said."""
    shares: np.ndarray = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return shares


def _gap(
    recalls: Float64[np.ndarray, " groups"],
    draws: Float64[np.ndarray, "replicates groups"],
    sizes: Int64[np.ndarray, " groups"],
    drawn_by: np.random.Generator,
    *,
    level: float,
) -> Estimate:
    value = float(recalls.max() - recalls.min())
    pairs = list(combinations(range(len(recalls)), 2))
    lows, highs = [0.0], [value]
    for i, j in pairs:
        ends = percentile_interval(
            float(recalls[i] - recalls[j]), draws[:, i] - draws[:, j], level=1 - (1 - level) / len(pairs)
        )
        lows.append(max(ends.low, -ends.high))  # below 0 where the interval holds 0
        highs.append(max(-ends.low, ends.high))
    # Where every recall is the accuracy, the largest and the smallest still differ in a sample.
    even = drawn_by.binomial(sizes, np.average(recalls, weights=sizes), (_FLOOR_DRAWS, len(sizes))) / sizes
    floor = float((even.max(axis=1) - even.min(axis=1)).mean())
    low = min(max(lows), value)
    return Estimate("recall gap", value, low, max(highs), level, int(sizes.sum()), "picture", _METHOD, 1.0, floor)


def _exchanged(value: float, accuracy: Estimate, *, spread: float) -> Estimate:
    reach = float(norm.ppf(0.5 + accuracy.level / 2)) * spread / np.sqrt(_EXCHANGES)
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    name, method = "accuracy, labels exchanged", f"{_RIDGE_EXCHANGES} exchanges with a ridge probe"
    return replace(accuracy, name=name, value=value, low=low, high=high, method=method)
