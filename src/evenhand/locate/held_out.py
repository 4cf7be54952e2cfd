r"""What a linear probe says of pictures it was not fitted to. In: features, labels. Out: a share per group and picture.

Multinomial logistic regression with an L2 penalty on standardised features, as is usual for linear probes (Alain and
Bengio 2017, arXiv 1610.01644). Mean, deviation and penalty are found on the pictures it is fitted to: the penalty by
the cross-entropy of an inner cross-validation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from evenhand.errors import BadInputError, MissingExtraError, TooFewSamplesError

__all__ = ["FOLDS", "Space", "held_out_shares", "one_thread", "rotated", "stratified_folds"]

FOLDS = 5
_INNER = 3
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # C; the penalty of scikit-learn is |w|^2 / 2C
_TOLERANCE, _STEPS = 1e-3, 1000


def stratified_folds(
    labels: Int64[np.ndarray, " pictures"], *, folds: int, seed: int
) -> Int64[np.ndarray, " pictures"]:
    """The fold of each picture, from 0; each has equally many of each group, up to one."""
    drawn_by, found = np.random.default_rng([seed]), np.empty(len(labels), dtype=np.int64)
    for group in np.unique(labels):
        rows = drawn_by.permutation(np.flatnonzero(labels == group))
        found[rows] = np.arange(len(rows)) % folds
    return found


def held_out_shares(
    features: Float[np.ndarray, "pictures features"],
    labels: Int64[np.ndarray, " pictures"],
    *,
    groups: int,
    seed: int,
    part: float = 1.0,
) -> Float64[np.ndarray, "pictures groups"]:
    """Posterior of each group for each picture, by a probe fitted to the other folds.

    Args:
        features: Of each picture.
        labels: Index of its group.
        groups: Number of groups.
        seed: Of the folds.
        part: Share of the other folds' pictures that the probe is fitted to, of each group alike.

    Raises:
        BadInputError: Not a row for each label, no column, or not finite.
        TooFewSamplesError: A probe would be fitted to fewer than ``2`` pictures of a group.
        MissingExtraError: scikit-learn is not installed.
    """
    if features.ndim != 2 or len(features) != len(labels) or not features.shape[1]:
        raise BadInputError(f"features: got shape {features.shape} for {len(labels)} labels; allowed: a row for each.")
    if not np.isfinite(features).all():
        raise BadInputError("features: got NaN or infinity; load the model in float32 or bfloat16.")
    fold = stratified_folds(labels, folds=FOLDS, seed=seed)
    shares = np.empty((len(labels), groups))
    with one_thread():
        for each in range(FOLDS):
            fitted_to = _kept(fold != each, labels, part=part, seed=seed)
            sizes = np.bincount(labels[fitted_to], minlength=groups)
            if sizes.min() < 2:
                raise TooFewSamplesError(
                    f"a probe of {sizes.min()} pictures of a group; allowed: 2 and more; add pictures."
                )
            space = rotated(features[fitted_to].astype(np.float64), features[fold == each].astype(np.float64))
            shares[fold == each] = _posterior(space, labels[fitted_to], seed=seed)
    return shares


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra with one thread: these matrices are small, and threads that wait for each other cost eightfold.

    Raises:
        MissingExtraError: scikit-learn, which comes with threadpoolctl, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "hf") from error
    with threadpool_limits(limits=1):
        yield


@dataclass(frozen=True, slots=True)
class Space:
    """Standardised features, of pictures to fit to and of others."""

    own: Float64[np.ndarray, "own dimensions"]
    others: Float64[np.ndarray, "others dimensions"]


def rotated(own: Float64[np.ndarray, "own features"], others: Float64[np.ndarray, "others features"]) -> Space:
    """Standardised by ``own``; rotated into the span of its rows where there are fewer of them than features.

    An L2 penalty does not see a rotation, and a probe's weights lie in that span, so both give the same probe.
    """
    spread = own.std(axis=0)
    varies = spread > 1e-9 * max(1.0, float(spread.max(initial=0.0)))
    if not varies.any():
        return Space(np.zeros((len(own), 1)), np.zeros((len(others), 1)))
    middle, spread = own[:, varies].mean(axis=0), spread[varies]
    own, others = ((one[:, varies] - middle) / spread for one in (own, others))
    if own.shape[1] <= len(own):
        return Space(own, others)
    values, vectors = np.linalg.eigh(own @ own.T)
    kept = values > 1e-9 * values[-1]
    back = own.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return Space(own @ back, others @ back)


def _posterior(space: Space, labels: Int64[np.ndarray, " own"], *, seed: int) -> Float64[np.ndarray, "others groups"]:
    """Of the others, by the probe of the best penalty."""
    inner = stratified_folds(labels, folds=min(_INNER, int(np.bincount(labels).min())), seed=seed)
    loss = np.zeros(len(_STRENGTHS))
    for each in np.unique(inner):
        rest = inner != each
        for i, found in enumerate(_fits(space.own[rest], labels[rest], space.own[~rest], _STRENGTHS)):
            loss[i] -= np.log(np.maximum(found[np.arange(len(found)), labels[~rest]], 1e-12)).sum()
    best = _STRENGTHS[int(loss.argmin())]
    return _fits(space.own, labels, space.others, (best,))[0]


def _fits(
    own: Float64[np.ndarray, "own dimensions"],
    labels: Int64[np.ndarray, " own"],
    others: Float64[np.ndarray, "others dimensions"],
    strengths: tuple[float, ...],
) -> list[Float64[np.ndarray, "others groups"]]:
    """Posteriors of the others for each C, each fit begun where the last one ended."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "hf") from error
    probe = LogisticRegression(tol=_TOLERANCE, max_iter=_STEPS, warm_start=True)
    return [probe.set_params(C=one).fit(own, labels).predict_proba(others) for one in strengths]


def _kept(
    mask: Bool[np.ndarray, " pictures"], labels: Int64[np.ndarray, " pictures"], *, part: float, seed: int
) -> Int64[np.ndarray, " kept"]:
    drawn_by = np.random.default_rng([seed, 1])
    rows = [drawn_by.permutation(np.flatnonzero(mask & (labels == group))) for group in np.unique(labels)]
    return np.sort(np.concatenate([one[: max(1, round(part * len(one)))] for one in rows]))
