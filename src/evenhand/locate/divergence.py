r"""How far apart what two prompts draw is. In: log-probabilities of codes, or codes. Out: estimates, in nats.

A neutral prompt :math:`x_0` and one that asks for a group, :math:`x_d`. Two sequences of codes are never the same, so
counting sequences gives log 2 for any pair of prompts (``naive_divergence`` says so); what a model can tell is how
likely each sequence is under each prompt. :math:`r(z) = \log p(z | x_0) - \log p(z | x_d)`, and

.. math:: JSD = \log 2 - \tfrac12 E_{z \sim x_0}[\mathrm{softplus}(-r)] - \tfrac12 E_{z \sim x_d}[\mathrm{softplus}(r)]

(Lin 1991, *IEEE Transactions on Information Theory* 37). That holds where pictures were drawn from the distribution
that is scored: temperature 1, every code, the same guidance on both sides.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import brentq

from evenhand.errors import BadInputError
from evenhand.records import Estimate
from evenhand.stats import percentile_interval

__all__ = [
    "implied_share",
    "mixture_divergence",
    "naive_divergence",
    "pooled_divergence",
    "responsibilities",
    "sequence_divergence",
]

REPLICATES = 2000
LARGEST = float(np.log(2))


def sequence_divergence(
    neutral: Float64[np.ndarray, "pictures two"],
    asked: Float64[np.ndarray, "others two"],
    *,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """Jensen-Shannon divergence of two prompts' pictures, in nats, 0 to log 2, by Monte Carlo.

    Interval: pictures are resampled with weights from Gamma(1) (Rubin 1981); each mean also gets the smallest and the
    largest value that a picture could have had, of weight Gamma(1/2) each. Where a picture is either impossible or
    equally likely up to a factor, that is Jeffreys' interval of a share.

    Args:
        neutral: log p(z | x_0) and log p(z | x_d) of pictures drawn from x_0, sums over codes.
        asked: The same of pictures drawn from x_d.
        seed: Of the interval.
        level: Coverage the interval aims at.

    Raises:
        BadInputError: No picture, NaN, or a picture that is impossible under the prompt it was drawn from.
    """
    for name, own, drawn in (("neutral", neutral, 0), ("asked", asked, 1)):
        _check(name, own, own[:, drawn] if own.ndim == 2 and own.shape[1] == 2 else None)
    first, second = (np.logaddexp(0, sign * (own[:, 0] - own[:, 1])) for own, sign in ((neutral, -1), (asked, 1)))
    ends = [np.logaddexp(0, sign * (own[:, 0] - own[:, 1])) for own, sign in ((asked, -1), (neutral, 1))]
    drawn_by = np.random.default_rng(seed)
    means = [_mean_draws(own, _ends(own, other), drawn_by) for own, other in zip((first, second), ends, strict=True)]
    value = float(np.clip(LARGEST - (first.mean() + second.mean()) / 2, 0, LARGEST))
    draws = np.clip(LARGEST - (means[0] + means[1]) / 2, 0, LARGEST)
    interval = percentile_interval(value, draws, level=level)
    return Estimate(
        "JSD", value, interval.low, interval.high, level, len(neutral) + len(asked), "picture", _METHOD, LARGEST, 0.0
    )


def responsibilities(
    log_probs: Float64[np.ndarray, "pictures groups"], groups: tuple[str, ...], *, seed: int, level: float = 0.95
) -> Mapping[str, Estimate]:
    r"""Shares of groups in what a neutral prompt draws, by likelihood alone: no classifier looks at a picture.

    .. math:: w_d(z) = p(z | x_d) / \sum_{d'} p(z | x_{d'}), \quad share_d = E_{z \sim x_0}[w_d(z)]

    Args:
        log_probs: log p(z | x_d) of pictures drawn from x_0, a column for each group.
        groups: Names of the columns, two or more.
        seed: Of the intervals.
        level: Coverage they aim at.

    Returns:
        For each group its share, in [0, 1].

    Raises:
        BadInputError: No picture, NaN, a picture impossible under every prompt, or other numbers of columns and groups.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != len(groups) or len(groups) < 2:
        raise BadInputError(f"log_probs: got shape {log_probs.shape} for groups {groups}; allowed: a column for each.")
    _check("log_probs", log_probs, log_probs.max(axis=1))
    odds = np.exp(log_probs - log_probs.max(axis=1, keepdims=True))
    shares = odds / odds.sum(axis=1, keepdims=True)
    drawn_by, found = np.random.default_rng(seed), {}
    for name, own in zip(groups, shares.T, strict=True):
        value = float(own.mean())
        interval = percentile_interval(value, _mean_draws(own, (0.0, 1.0), drawn_by), level=level)
        found[name] = Estimate(
            f"share {name}",
            value,
            interval.low,
            interval.high,
            level,
            len(own),
            "picture",
            _METHOD,
            1.0,
            1 / len(groups),
        )
    return found


def mixture_divergence(share: float) -> float:
    r"""The divergence of x_d from an x_0 that draws group d with a share and otherwise what x_d never draws, in nats.

    .. math:: \tfrac12 [\log\tfrac{2}{1+\pi} + \pi\log\tfrac{2\pi}{1+\pi} + (1-\pi)\log 2]

    Falls from log 2 at share 0 to 0 at 1.
    """
    if not 0 <= share <= 1:
        raise BadInputError(f"share: got {share}; allowed: 0 to 1.")
    inside = share * np.log(2 * share / (1 + share)) if share > 0 else 0.0
    return float((np.log(2 / (1 + share)) + inside + (1 - share) * LARGEST) / 2)


def implied_share(divergence: float) -> float:
    """The share at which ``mixture_divergence`` is this; right where groups share no pictures.

    Raises:
        BadInputError: Not within 0 and log 2.
    """
    if not 0 <= divergence <= LARGEST:
        raise BadInputError(f"divergence: got {divergence}; allowed: 0 to log 2, in nats.")
    return float(brentq(lambda share: mixture_divergence(share) - divergence, 0.0, 1.0, xtol=1e-9))


def naive_divergence(first: Int64[np.ndarray, "pictures codes"], second: Int64[np.ndarray, "others codes"]) -> float:
    """Divergence of the two sets of sequences as they were counted, in nats: log 2 as soon as none is in both.

    Not an estimate of anything; it is here so that the docs can show why.
    """
    rows, where = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
    counts = [np.bincount(part, minlength=len(rows)) for part in np.split(where.reshape(-1), [len(first)])]
    return _divergence(*(one / one.sum() for one in counts))


def pooled_divergence(
    first: Int64[np.ndarray, "pictures codes"],
    second: Int64[np.ndarray, "others codes"],
    *,
    codebook: int,
    seed: int,
    permutations: int = 200,
) -> tuple[float, float, float]:
    """The published estimate: codes of all places in one histogram a prompt; in bits, as published.

    Returns:
        The divergence; its mean where the two sets of pictures are exchanged at random, which is what two equal
        prompts show at this many pictures; and the share of exchanges that reach it.

    Raises:
        BadInputError: Unequal numbers of pictures (the bias would differ), or codes outside the codebook.
    """
    if first.shape != second.shape or not len(first):
        raise BadInputError(
            f"codes: got shapes {first.shape}, {second.shape}; allowed: equally many pictures, 1 and more."
        )
    both = np.concatenate([first, second])
    if both.min() < 0 or both.max() >= codebook:
        raise BadInputError(f"codes: got {both.min()} to {both.max()}; allowed: 0 to {codebook - 1}.")
    counts = np.stack([np.bincount(row, minlength=codebook) for row in both]).astype(np.float64)

    def of(rows: np.ndarray) -> float:
        own, other = counts[rows].sum(0), counts.sum(0) - counts[rows].sum(0)
        return _divergence(own / own.sum(), other / other.sum()) / LARGEST

    drawn_by, seen = np.random.default_rng(seed), of(np.arange(len(first)))
    null = np.array([of(drawn_by.permutation(len(both))[: len(first)]) for _ in range(permutations)])
    return seen, float(null.mean()), float((1 + (null >= seen - 1e-12).sum()) / (1 + permutations))


_METHOD = "Bayesian bootstrap of pictures, Jeffreys' ends"


def _ends(own: Float64[np.ndarray, " pictures"], other: Float64[np.ndarray, " others"]) -> tuple[float, float]:
    """The smallest and the largest value a picture of this side could have had.

    What the other side's pictures have, up to log 2n: under x_0 the probability of -r >= a is at most exp(-a), because
    exp(-r) has mean 1 at most, and under x_d of r >= a as well.
    """
    seen = other[np.isfinite(other)]
    highest = min(float(seen.max(initial=0.0)), float(np.log(2 * len(own))))
    return float(min(own.min(), seen.min(initial=own.min()))), max(float(own.max()), highest)


def _mean_draws(
    values: Float64[np.ndarray, " pictures"], ends: tuple[float, float], drawn_by: np.random.Generator
) -> Float64[np.ndarray, " replicates"]:
    weights = drawn_by.standard_gamma(1.0, (REPLICATES, len(values)))
    low, high = drawn_by.standard_gamma(0.5, (2, REPLICATES))
    above = weights @ values + low * ends[0] + high * ends[1]
    draws: Float64[np.ndarray, " replicates"] = above / (weights.sum(1) + low + high)
    return draws


def _divergence(first: np.ndarray, second: np.ndarray) -> float:
    middle = (first + second) / 2
    terms = [one[one > 0] * np.log(one[one > 0] / middle[one > 0]) for one in (first, second)]
    return float((terms[0].sum() + terms[1].sum()) / 2)


def _check(name: str, log_probs: np.ndarray, own: np.ndarray | None) -> None:
    if own is None or not len(log_probs):
        raise BadInputError(f"{name}: got shape {log_probs.shape}; allowed: (pictures, 2), 1 picture and more.")
    if np.isnan(log_probs).any() or np.isposinf(log_probs).any():
        raise BadInputError(f"{name}: got NaN or +inf among log-probabilities; allowed: numbers up to 0, and -inf.")
    if np.isneginf(own).any():
        raise BadInputError(
            f"{name}: {int(np.isneginf(own).sum())} pictures are impossible under the prompt that drew them; they were "
            "drawn with top-k, another temperature or another guidance. Draw from the distribution that is scored."
        )
