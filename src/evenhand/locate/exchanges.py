r"""What a probe reads where there is nothing to read. In: features, labels. Out: accuracies with labels exchanged.

Held-out pictures of one fold were fitted to in the others, so accuracies of folds are not independent, and where
nothing can be read the accuracy varies more than that of as many guesses (Bengio and Grandvalet 2004, *JMLR* 5). How
much is found by exchanging labels within the folds. The probe is ridge regression on indicators of the groups, whose
weights are linear in the labels: one matrix serves all exchanges.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import norm

from evenhand.locate.held_out import FOLDS, one_thread, rotated, stratified_folds
from evenhand.records import Estimate

__all__ = ["Exchanges", "exchange_labels", "hold_chance"]

_PENALTY = 40.0  # of a logistic probe with C = .1: the curvature of its loss is 1/4 at most


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Held-out accuracies of a ridge probe.

    Attributes:
        seen: With the labels as they are.
        exchanged: With labels exchanged within folds, once each.
    """

    seen: float
    exchanged: Float64[np.ndarray, " exchanges"]

    @property
    def spread(self) -> float:
        """Standard deviation of an accuracy where nothing can be read."""
        return float(self.exchanged.std())

    @property
    def p_value(self) -> float:
        """Share of exchanges that reach ``seen``, itself among them; right at any number of pictures."""
        return float((1 + (self.exchanged >= self.seen - 1e-12).sum()) / (1 + len(self.exchanged)))


def exchange_labels(
    features: Float[np.ndarray, "pictures features"],
    labels: Int64[np.ndarray, " pictures"],
    *,
    groups: int,
    exchanges: int,
    seed: int,
) -> Exchanges:
    """Accuracies where the features say nothing of the labels, and as it is.

    Args:
        features: Finite.
        labels: Index of each picture's group.
        groups: Number of groups.
        exchanges: How many.
        seed: Of folds and exchanges.
    """
    fold = stratified_folds(labels, folds=FOLDS, seed=seed)
    drawn_by = np.random.default_rng([seed, 2])
    known = np.repeat(labels[:, None], exchanges + 1, axis=1)
    for each in range(FOLDS):
        rows = np.flatnonzero(fold == each)
        known[rows, 1:] = drawn_by.permuted(known[rows, 1:], axis=0)
    right = np.zeros(exchanges + 1)
    with one_thread():
        for each in range(FOLDS):
            inside, rest = fold == each, fold != each
            space = rotated(features[rest].astype(np.float64), features[inside].astype(np.float64))
            own = space.own
            back = np.linalg.solve(own.T @ own + _PENALTY * np.eye(own.shape[1]), own.T)
            scores = np.stack([_scores(space.others, back, known[rest] == group) for group in range(groups)])
            right += (scores.argmax(axis=0) == known[inside]).sum(axis=0)
    found = right / len(labels)
    return Exchanges(float(found[0]), found[1:])


def hold_chance(estimate: Estimate, *, spread: float) -> Estimate:
    """The estimate with an interval that holds its ``floor``, guessing, where exchanged labels come as near to it.

    Args:
        estimate: Of an accuracy; its interval is of pictures alone.
        spread: ``Exchanges.spread``.
    """
    if abs(estimate.value - estimate.floor) > spread * norm.ppf(0.5 + estimate.level / 2):
        return estimate
    return replace(estimate, low=min(estimate.low, estimate.floor), high=max(estimate.high, estimate.floor))


def _scores(others: np.ndarray, back: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Of one group, (others, exchanges): its share, and what the features say besides."""
    share = shown.mean(axis=0)
    scores: np.ndarray = share + others @ (back @ (shown - share))
    return scores
