r"""At least how far apart two sets of pictures are, without likelihoods. In: features of each. Out: lower bounds.

A classifier that tells the sets apart in a share a of held-out pictures, with posterior q (Lopez-Paz and Oquab 2017,
arXiv 1610.06545), shows

.. math:: TV \ge 2a - 1, \qquad JSD \ge \log 2 - E[-\log q(\text{set} | \text{picture})]

for any classifier: a poor one, or few pictures to fit it to, gives a low bound and not a wrong one. Both are of the
features' distributions, which are no further apart than the pictures'.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.locate.balance import FEWEST
from evenhand.locate.exchanges import Exchanges, exchange_labels, hold_chance
from evenhand.locate.held_out import FOLDS, held_out_shares
from evenhand.metrics.distances import share_interval
from evenhand.records import Estimate
from evenhand.stats import percentile_interval

__all__ = ["two_sample_bounds"]

_REPLICATES = 4000
_EXCHANGES = 999
_LARGEST = float(np.log(2))


def two_sample_bounds(
    first: Float[np.ndarray, "pictures features"],
    second: Float[np.ndarray, "others _"],
    *,
    seed: int,
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """``accuracy``, ``TV bound`` and ``JSD bound`` (nats) of two sets of pictures; of the larger one a part is drawn.

    Each picture is read by a probe fitted to four fifths of the others. A posterior is mixed with 1/2, of weight
    1 / (pictures fitted to), so that no picture's loss is without bound. The method of ``accuracy`` ends with
    z = 2 (a - 1/2) sqrt n, and p: the share of 999 exchanges in which a ridge probe of the same pictures is right as
    often. Folds are not independent, so the normal tail of z would be too small.

    Interval: of the bounds, where other pictures are read by these probes; the low end is what a lower bound is for.

    Args:
        first: Features of one set, for example counts of codes.
        second: Of the other.
        seed: Of the draw, the folds and the interval.
        level: Coverage the intervals aim at.

    Raises:
        BadInputError: Other numbers of features, not finite, or a negative seed.
        TooFewSamplesError: Fewer than ten pictures in a set.
        MissingExtraError: scikit-learn is not installed.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise BadInputError(f"features: got shapes {first.shape}, {second.shape}; allowed: (pictures, features) twice.")
    if seed < 0:
        raise BadInputError(f"seed: got {seed}; allowed: 0 and more.")
    each = min(len(first), len(second))
    if each < FEWEST:
        raise TooFewSamplesError(f"pictures: got {len(first)} and {len(second)}; allowed: {FEWEST} and more of each.")
    drawn_by = np.random.default_rng([seed])
    both = np.concatenate([one[np.sort(drawn_by.permutation(len(one))[:each])] for one in (first, second)])
    labels = np.repeat([0, 1], each)
    shares = held_out_shares(both, labels, groups=2, seed=seed)
    exchanges = exchange_labels(both, labels, groups=2, exchanges=_EXCHANGES, seed=seed)
    own = shares[np.arange(2 * each), labels]
    right, fitted_to = int((own > 0.5).sum()), 2 * each * (FOLDS - 1) // FOLDS
    mixed = own * (1 - 1 / fitted_to) + 0.5 / fitted_to
    accuracy = _accuracy(right, 2 * each, exchanges, level=level)
    value, low, high = (max(0.0, 2 * one - 1) for one in (accuracy.value, accuracy.low, accuracy.high))
    floor = float(np.maximum(0.0, 2 * exchanges.exchanged - 1).mean())
    variation = replace(accuracy, name="TV bound", value=value, low=low, high=high, floor=floor, method=_TV_METHOD)
    return accuracy, variation, _divergence(mixed, fitted_to, drawn_by, level=level)


def _accuracy(right: int, n: int, exchanges: Exchanges, *, level: float) -> Estimate:
    share = right / n
    ends = share_interval(right, n, level=level)
    z = (share - 0.5) * 2 * np.sqrt(n)
    method = f"Jeffreys' interval; probes not fitted again; z = {z:.2f}, p = {exchanges.p_value:.2g}"
    found = Estimate("accuracy", share, ends.low, ends.high, level, n, "picture", method, 1.0, 0.5)
    return hold_chance(found, spread=exchanges.spread)


def _divergence(
    own: Float64[np.ndarray, " pictures"], fitted_to: int, drawn_by: np.random.Generator, *, level: float
) -> Estimate:
    """Bayesian bootstrap; a picture of the least and one of the largest gain there could be, of weight Gamma(1/2)."""
    gains = _LARGEST + np.log(own)
    ends = _LARGEST + np.log([0.5 / fitted_to, 1 - 0.5 / fitted_to])
    weights = drawn_by.standard_exponential((_REPLICATES, len(own)))
    extra = drawn_by.standard_gamma(0.5, (_REPLICATES, 2))
    draws = np.maximum(0.0, (weights @ gains + extra @ ends) / (weights.sum(axis=1) + extra.sum(axis=1)))
    value = max(0.0, float(gains.mean()))
    found = percentile_interval(value, draws, level=level)
    return Estimate("JSD bound", value, found.low, found.high, level, len(own), "picture", _METHOD, _LARGEST, 0.0)


_METHOD = "a lower bound by held-out pictures; Bayesian bootstrap of pictures, Jeffreys' ends"
_TV_METHOD = "a lower bound by held-out pictures; Jeffreys' interval"
