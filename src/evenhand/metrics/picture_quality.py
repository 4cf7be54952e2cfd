r"""How good drawn pictures are. In: rows of numbers, one per picture, and which prompt each is of. Out: estimates.

CLIP-S and CLIP-IQA are means over pictures. The Inception Score is no mean, but its logarithm is one to first order: a
picture moves it by its own divergence less the mean of all (its influence function), so all three get one interval.
Where pictures are as varied as can be, each moves it by nothing to first order; so the spread of its logarithm is also
measured over draws (the Bayesian bootstrap of :mod:`evenhand.stats`), and the larger of the two is taken.

Prompts are either fixed (only pictures could have been others) or sampled (prompts could have been others too; the
spread between prompts then holds the noise of their pictures already, as in :mod:`evenhand.metrics.prompt_distances`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import t

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.records import Estimate

__all__ = ["FEWEST_IN_A_SPLIT", "inception_score", "mean_quality", "quality_estimates"]

FEWEST_IN_A_SPLIT = 10
"""Pictures; a split of n pictures cannot score above n, whatever they show."""

_ROWS_AT_ONCE = 1024
_CUT = "cut"
_REPLICATES = 200


@dataclass(frozen=True, slots=True)
class _Spread:
    """How widely a mean is spread, and what that rests on."""

    deviation: float
    critical: float
    n: int
    unit: str
    method: str

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return self.critical * self.deviation


def quality_estimates(
    settings: Mapping[str, object],
    rows: Float[np.ndarray, "pictures columns"],
    prompt: Sequence[str],
    *,
    seed: int,
    prompts: str = "fixed",
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """The estimates of one metric, from its settings and the rows of all pictures.

    Args:
        settings: Of the metric: ``kind``, ``statistic``, ``formula``, ``weights``, ``sha256``; for ``mean`` also
            ``columns`` and ``largest``, for ``inception score`` also ``splits``.
        rows: One per picture, finite. A column ``cut`` is 1 where a text was cut.
        prompt: The prompt of each row.
        seed: Of the shuffle before pictures are split, 0 or more.
        prompts: ``fixed`` or ``sampled``.
        level: Coverage the intervals aim at.

    Raises:
        BadInputError: NaN, another number of columns or prompts, an option that is not allowed, or settings that are
            not a metric's.
        TooFewSamplesError: No picture, or too few for an interval.
    """
    statistic, how = settings.get("statistic"), _named(settings)
    if statistic == "inception score":
        splits = settings.get("splits", 1)
        if not isinstance(splits, int):
            raise BadInputError(f"splits: got {splits!r}, allowed: a whole number of 1 or more")
        return (inception_score(rows, prompt, how=how, seed=seed, splits=splits, prompts=prompts, level=level),)
    columns, largest = settings.get("columns"), settings.get("largest")
    if statistic != "mean" or not isinstance(columns, Sequence) or not isinstance(largest, int | float):
        raise BadInputError(
            f"settings of {settings.get('kind')!r}: got statistic {statistic!r}, columns {columns!r}, largest "
            f"{largest!r}; allowed: 'inception score', or 'mean' with names of columns and a number"
        )
    names = [str(one) for one in columns]
    _check(rows, prompt, prompts=prompts, level=level)
    if rows.shape[1] != len(names):
        raise BadInputError(f"rows: got {rows.shape[1]} columns, allowed: those of the settings, {', '.join(names)}")
    if _CUT in names:
        how += f"; texts of {int(rows[:, names.index(_CUT)].sum())} pictures cut ({settings.get('long_texts')})"
    return tuple(
        mean_quality(name, column, prompt, how=how, largest=float(largest), prompts=prompts, level=level)
        for name, column in zip(names, rows.T.astype(np.float64), strict=True)
        if name != _CUT
    )


def mean_quality(
    name: str,
    values: Float64[np.ndarray, " pictures"],
    prompt: Sequence[str],
    *,
    how: str,
    largest: float,
    prompts: str = "fixed",
    level: float = 0.95,
) -> Estimate:
    """The mean over pictures, with Student's interval; ``floor`` is 0, the least it can be.

    Args:
        name: Of the estimate.
        values: One per picture, in [0, ``largest``].
        prompt: The prompt of each.
        how: What was measured, for the estimate's ``method``.
        largest: The largest value a picture can have.
        prompts: ``fixed``: the mean these very prompts give. ``sampled``: that of the prompts these were drawn from.
        level: Coverage the interval aims at.

    Raises:
        BadInputError: NaN, a value out of range, lengths that differ, or an option that is not allowed.
        TooFewSamplesError: No picture; with ``fixed``, no prompt of two pictures; with ``sampled``, one prompt.
    """
    _check(values[:, None], prompt, prompts=prompts, level=level)
    if float(values.min()) < 0.0 or float(values.max()) > largest * (1 + 1e-9):
        raise BadInputError(f"{name}: got values from {values.min():g} to {values.max():g}, allowed: 0 to {largest:g}")
    spread = _spread(values, prompt, prompts=prompts, level=level)
    value = min(float(values.mean()), largest)
    return Estimate(
        name=name,
        value=value,
        low=max(0.0, value - spread.half),
        high=min(largest, value + spread.half),
        level=level,
        n=spread.n,
        unit=spread.unit,
        method=f"{how}; mean over {len(values)} pictures; {spread.method}",
        largest=largest,
        floor=0.0,
    )


def inception_score(
    scores: Float[np.ndarray, "pictures classes"],
    prompt: Sequence[str],
    *,
    how: str,
    seed: int,
    splits: int = 1,
    prompts: str = "fixed",
    level: float = 0.95,
) -> Estimate:
    r"""Inception Score (Salimans et al. 2016): how sure the classes of pictures are, and how many there are.

    .. math:: \frac{1}{S} \sum_s \exp\Big(\frac{1}{n_s} \sum_{i \in s} KL\big(p(y|x_i) \,\|\, p_s(y)\big)\Big)

    Range 1 (every picture shows the same classes) to ``largest``, the smaller of the classes and the pictures of a
    split. It falls short of what more pictures would give, the more so the fewer there are in a split: compare runs at
    the same number and splits only. The interval is for the mean over runs of this size, so it does not hold what more
    pictures would give; ``method`` says what half as many give, where there are enough. One split wastes least (Barratt
    & Sharma 2018, arXiv:1801.01973); papers usually take 10.

    Args:
        scores: Before the softmax, finite.
        prompt: The prompt of each picture.
        how: What was measured, for the estimate's ``method``.
        seed: Of the shuffle before pictures are split, 0 or more. With one split neither it nor the order of the
            pictures has an effect on the score.
        splits: Parts of the pictures.
        prompts: As in :func:`mean_quality`.
        level: Coverage the interval aims at.

    Raises:
        BadInputError: NaN, one class, lengths that differ, or an option that is not allowed.
        TooFewSamplesError: Fewer than ``FEWEST_IN_A_SPLIT`` pictures in a split, or too few for an interval.
    """
    _check(scores, prompt, prompts=prompts, level=level)
    pictures, classes = scores.shape
    if seed < 0 or splits < 1 or classes < 2:
        raise BadInputError(
            f"Inception Score: got seed {seed}, {splits} splits and {classes} classes; allowed: 0 or more, 1 or more "
            "and 2 or more"
        )
    if pictures // splits < FEWEST_IN_A_SPLIT:
        raise TooFewSamplesError(
            f"Inception Score is not meaningful: got {pictures} pictures in {splits} splits, at least "
            f"{FEWEST_IN_A_SPLIT} in each needed; draw more pictures or take fewer splits"
        )
    order = np.random.default_rng([seed]).permutation(pictures)
    parts = np.array_split(order, splits)
    value, influence = _score(scores, parts)
    spread = _spread(influence, prompt, prompts=prompts, level=level)
    drawn = _drawn_deviation(scores, parts, prompt, seed=seed, prompts=prompts)
    half = spread.critical * max(spread.deviation, drawn)
    largest = float(min(classes, pictures // splits))
    method = (
        f"{how}; {pictures} pictures in {splits} split{'s' if splits > 1 else ''}; {spread.method}, of its logarithm"
    )
    if pictures // (2 * splits) >= FEWEST_IN_A_SPLIT:
        fewer, _ = _score(scores, np.array_split(order, 2 * splits))
        method += f"; half as many pictures a split give {fewer:.3f}: compare at the same number only"
    return Estimate(
        name="Inception Score",
        value=value,
        low=max(1.0, value * exp(-half)),
        high=max(value, min(largest, value * exp(half))),
        level=level,
        n=spread.n,
        unit=spread.unit,
        method=method,
        largest=largest,
        floor=1.0,
    )


def _score(
    scores: Float[np.ndarray, "pictures classes"], parts: Sequence[Int64[np.ndarray, " _"]]
) -> tuple[float, Float64[np.ndarray, " pictures"]]:
    """The mean of the parts' scores, and how each picture moves its logarithm (times the number of pictures)."""
    found, influence = [], np.empty(len(scores))
    for part in parts:
        marginal = np.zeros(scores.shape[1])
        for _, logs in _blocks(scores, part):
            marginal += np.exp(logs).sum(axis=0)
        known = marginal > 0.0
        expected = np.log(marginal / len(part), where=known, out=np.zeros_like(marginal))
        for rows, logs in _blocks(scores, part):
            influence[rows] = (np.exp(logs) * (logs - expected)).sum(axis=1)
        mean = max(0.0, float(influence[part].mean()))  # below 0 by rounding only
        found.append(exp(mean))
        influence[part] = (influence[part] - mean) * found[-1]
    value = float(np.mean(found))
    return value, influence / value


def _drawn_deviation(
    scores: Float[np.ndarray, "pictures classes"],
    parts: Sequence[Int64[np.ndarray, " _"]],
    prompt: Sequence[str],
    *,
    seed: int,
    prompts: str,
) -> float:
    """Standard deviation of the logarithm of the score over draws of the weights of pictures, or of prompts."""
    weights = _weights(prompt, seed=seed, prompts=prompts)
    total = np.zeros(_REPLICATES)
    for part in parts:
        marginal, sureness, base = (
            np.zeros((_REPLICATES, scores.shape[1])),
            np.zeros(_REPLICATES),
            np.zeros(_REPLICATES),
        )
        for rows, logs in _blocks(scores, part):
            shares, drawn = np.exp(logs), weights[:, rows]
            marginal += drawn @ shares
            sureness += drawn @ (shares * logs).sum(axis=1)
            base += drawn.sum(axis=1)
        marginal /= base[:, None]
        spread = np.log(marginal, where=marginal > 0.0, out=np.zeros_like(marginal))
        total += np.exp(sureness / base - (marginal * spread).sum(axis=1))
    return float(np.log(total).std(ddof=1))


def _weights(prompt: Sequence[str], *, seed: int, prompts: str) -> Float64[np.ndarray, "replicates pictures"]:
    """Weights from Gamma(1): one for each prompt, or one for each picture with the prompts' sums kept."""
    _, row = np.unique(np.asarray(prompt, dtype=np.str_), return_inverse=True)
    row, rng = row.reshape(-1), np.random.default_rng([seed, 1])
    if prompts == "sampled":
        return rng.standard_exponential((_REPLICATES, int(row.max()) + 1))[:, row]
    weights = rng.standard_exponential((_REPLICATES, len(row)))
    for one in range(int(row.max()) + 1):
        mine = row == one
        weights[:, mine] /= weights[:, mine].mean(axis=1, keepdims=True)
    return weights


def _blocks(
    scores: Float[np.ndarray, "pictures classes"], part: Int64[np.ndarray, " _"]
) -> Iterator[tuple[Int64[np.ndarray, " _"], Float64[np.ndarray, "_ classes"]]]:
    """Some pictures at a time: which, and the logarithms of their shares."""
    for start in range(0, len(part), _ROWS_AT_ONCE):
        rows = part[start : start + _ROWS_AT_ONCE]
        block = scores[rows].astype(np.float64)
        block -= block.max(axis=1, keepdims=True)
        block -= np.log(np.exp(block).sum(axis=1, keepdims=True))
        yield rows, block


def _spread(values: Float64[np.ndarray, " pictures"], prompt: Sequence[str], *, prompts: str, level: float) -> _Spread:
    """Student's interval of the mean of all values; Welch's degrees of freedom over prompts."""
    names, row = np.unique(np.asarray(prompt, dtype=np.str_), return_inverse=True)
    row = row.reshape(-1)
    size = np.bincount(row)
    mean = np.bincount(row, weights=values) / size
    share, count = size / size.sum(), len(names)
    if prompts == "sampled":
        if count < 2:
            raise TooFewSamplesError(
                f"an interval over sampled prompts needs 2 or more: got {count}; add prompts or take them as fixed"
            )
        parts = count / (count - 1) * (share * (mean - values.mean())) ** 2
        critical = float(t.ppf(0.5 + level / 2, count - 1))
        return _Spread(sqrt(float(parts.sum())), critical, count, "prompt", f"Student's t over {count} sampled prompts")
    free = size - 1
    if not free.any():
        raise TooFewSamplesError(
            f"an interval for fixed prompts needs a prompt of 2 pictures or more: got {len(values)} pictures of "
            f"{count} prompts; draw more of each, or take prompts as sampled"
        )
    squares = np.bincount(row, weights=(values - mean[row]) ** 2)
    pooled = squares.sum() / free.sum()  # stands in where a prompt has one picture
    parts = share**2 * np.where(free > 0, squares / np.maximum(free, 1), pooled) / size
    freedom = np.where(free > 0, free, free.sum())
    total, weight = float(parts.sum()), float((parts**2 / freedom).sum())
    welch = total**2 / weight if weight > 0.0 else float(free.sum())
    method = f"Student's t over pictures of {count} fixed prompt{'s' if count > 1 else ''}"
    return _Spread(sqrt(total), float(t.ppf(0.5 + level / 2, welch)), len(values), "picture", method)


def _check(rows: Float[np.ndarray, "pictures columns"], prompt: Sequence[str], *, prompts: str, level: float) -> None:
    if len(rows) != len(prompt):
        raise BadInputError(f"rows: got {len(rows)} of numbers and {len(prompt)} prompts; give one prompt each")
    if not len(rows):
        raise TooFewSamplesError("quality is undefined: got 0 pictures, at least 2 needed; draw pictures first")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        raise BadInputError(f"rows: got NaN or infinity in {bad} of {len(rows)}, allowed: finite numbers")
    if prompts not in ("fixed", "sampled"):
        raise BadInputError(f"prompts: got {prompts!r}, allowed: fixed, sampled; choose one")
    if not 0.0 < level < 1.0:
        raise BadInputError(f"level is not a probability: got {level}, allowed: above 0 and below 1; try 0.95")


def _named(settings: Mapping[str, object]) -> str:
    """What was measured with which weights, as it stands in an estimate's method."""
    sha256 = f" (sha256 {settings['sha256']})" if settings.get("sha256") else ""
    return f"{settings.get('formula')}; weights {settings.get('weights')}{sha256}"
