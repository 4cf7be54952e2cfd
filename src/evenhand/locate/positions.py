r"""Where in a picture two prompts come apart. In: likelihoods by code, or whole distributions. Out: numbers by code.

``entering_information``: with D a fair coin that chose the prompt, the divergence of whole pictures is what they say
about D, and by the chain rule a sum over codes,

.. math:: JSD = I(Z; D) = \sum_t I(Z_t; D | Z_{<t})

A code that says nothing new about D has 0, also where its distribution differs: the codes before it said it already.

``position_divergence``: divergence of a code's distribution alone, :math:`p_t(v | x)` being the mean over pictures
drawn from x of the model's own probabilities (Rao-Blackwell: smooth, and far less noisy than counts). A code that
repeats what the ones before it said differs as they do, so these do not add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.stats import t as student

from evenhand.errors import BadInputError
from evenhand.stats import percentile_interval

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from evenhand.models.protocol import ComparingModel

__all__ = ["Positions", "entering_information", "position_divergence", "position_probabilities"]

_REPLICATES = 1000
_LARGEST = float(np.log(2))
_MOST_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Positions:
    """A number for each code, in raster order, in nats.

    Attributes:
        value: 0 to log 2, where noise allows.
        low: Lower ends.
        high: Upper ends.
        method: How they were made.
    """

    value: Float64[np.ndarray, " codes"]
    low: Float64[np.ndarray, " codes"]
    high: Float64[np.ndarray, " codes"]
    method: str


def entering_information(
    first: Float64[np.ndarray, "pictures _ codes"],
    second: Float64[np.ndarray, "others _ _codes"],
    *,
    seed: int,
    level: float = 0.95,
) -> Positions:
    r"""What each code adds to what the codes before it say about which prompt drew the picture, in nats.

    With :math:`w_t` the probability that the first prompt drew a picture, given its codes up to t, a code's term is

    .. math:: E[KL(w_t \,\|\, w_{t-1})]

    over pictures of both prompts by halves: unbiased, and never below 0. :math:`\log w_t - \log w_{t-1}` of the prompt
    that drew has the same mean, and adds up to ``divergence.sequence_divergence`` of the same pictures to the last
    digit; this is its mean over what that prompt could have been, and its intervals are 2 to 30 times as narrow. Its
    sum agrees with that divergence up to the noise of both.

    Interval: pictures are resampled with weights from Gamma(1) (Rubin 1981). Where the pictures seen were all told
    apart before, a rare one may not be: the high end is at least what it is with one more picture a prompt, that says
    log 2 here, of weight Gamma(1/2). With 160 pictures a prompt that is about .008.

    Args:
        first: log p(code | codes before, prompt) of pictures drawn from the first prompt, under both prompts.
        second: The same of pictures drawn from the second, columns in the same order.
        seed: Of the intervals: pictures are resampled (Rubin 1981).
        level: Coverage each aims at.

    Raises:
        BadInputError: Shapes that do not fit, NaN, or a picture impossible under the prompt that drew it.
    """
    parts = [_gained(part, own) for own, part in enumerate((first, second))]
    if parts[0].shape[1] != parts[1].shape[1]:
        raise BadInputError(f"codes: got {parts[0].shape[1]} and {parts[1].shape[1]} a picture; allowed: as many.")
    value = (parts[0].mean(axis=0) + parts[1].mean(axis=0)) / 2
    drawn_by = np.random.default_rng([seed])
    draws, with_one_more = np.zeros((2, _REPLICATES, len(value)))
    for part in parts:
        weights = drawn_by.standard_exponential((_REPLICATES, len(part)))
        one_more = drawn_by.standard_gamma(0.5, (_REPLICATES, 1))
        sums, weight = weights @ part, weights.sum(axis=1, keepdims=True)
        draws += sums / weight / 2
        with_one_more += (sums + one_more * np.maximum(part.max(axis=0), _LARGEST)) / (weight + one_more) / 2
    seen, wary = (
        [percentile_interval(float(one), own, level=level) for one, own in zip(value, both.T, strict=True)]
        for both in (draws, with_one_more)
    )
    low = np.array([one.low for one in seen])
    high = np.array([max(one.high, other.high) for one, other in zip(seen, wary, strict=True)])
    return Positions(
        value, low, high, "mean KL divergence of what is known of the prompt; Bayesian bootstrap of pictures"
    )


def _gained(rows: Float64[np.ndarray, "pictures _ codes"], own: int) -> Float64[np.ndarray, "pictures codes"]:
    """KL divergence of what is known of the prompt after each code from what was known before it."""
    if rows.ndim != 3 or rows.shape[1] != 2 or not rows.size:
        raise BadInputError(f"log-probabilities: got shape {rows.shape}; allowed: (pictures, 2, codes), 1 and more.")
    if np.isnan(rows).any() or np.isneginf(rows[:, own]).any():
        raise BadInputError(
            "log-probabilities: got NaN, or pictures that are impossible under the prompt that drew them; draw from "
            "the distribution that is scored."
        )
    behind = np.cumsum(rows[:, 1 - own] - rows[:, own], axis=1)  # log odds of the other prompt; -inf stays
    odds = np.concatenate([np.zeros((len(rows), 1)), behind], axis=1)
    gained = np.zeros(behind.shape)
    for sign in (1, -1):
        log_share = -np.logaddexp(0.0, sign * odds)
        after, before = log_share[:, 1:], log_share[:, :-1]
        possible = after > -np.inf
        gained[possible] += np.exp(after[possible]) * (after[possible] - before[possible])
    return np.clip(gained, 0.0, None)


def position_divergence(
    first: Float[np.ndarray, "blocks positions codebook"],
    second: Float[np.ndarray, "others _ _codebook"],
    *,
    level: float = 0.95,
) -> Positions:
    """Jensen-Shannon divergence of each code's distribution under two prompts, in nats, 0 to log 2.

    Blocks of pictures are left out one by one (jackknife): that takes off the bias, by which two equal prompts differ,
    to first order, and gives the interval (Student's t).

    Args:
        first: ``position_probabilities`` of the first prompt: a mean for each block of pictures, all of one size.
        second: Of the second.
        level: Coverage each interval aims at.

    Raises:
        BadInputError: Fewer than two blocks, other shapes, or rows that are no distributions.
    """
    for one in (first, second):
        if one.ndim != 3 or len(one) < 2 or one.shape[1:] != first.shape[1:]:
            raise BadInputError(
                f"probabilities: got shapes {first.shape}, {second.shape}; allowed: (blocks, positions, codebook), "
                "2 blocks and more, positions and codebook alike."
            )
        if not np.allclose(one.sum(axis=2), 1.0, atol=1e-3):
            raise BadInputError("probabilities: rows do not sum to 1; give what position_probabilities gives.")
    means = [one.mean(axis=0, dtype=np.float64) for one in (first, second)]
    plain = _divergence(*means)
    value, variance, freedom = plain.copy(), np.zeros_like(plain), 0
    for side, blocks in enumerate((first, second)):
        n, left = len(blocks), []
        for block in blocks:
            own = list(means)
            own[side] = (means[side] * n - block) / (n - 1)
            left.append(_divergence(*own))
        others = np.stack(left)
        value -= (n - 1) * (others.mean(axis=0) - plain)
        variance += (n - 1) / n * np.square(others - others.mean(axis=0)).sum(axis=0)
        freedom += n - 1
    half = float(student.ppf(0.5 + level / 2, freedom)) * np.sqrt(variance)
    best, low, high = (np.clip(one, 0.0, _LARGEST) for one in (value, value - half, value + half))
    return Positions(
        best, low, high, f"mean of the model's own probabilities, jackknife over {len(first)} blocks of pictures"
    )


def position_probabilities(
    model: "ComparingModel",
    text: str,
    codes: "Int[Tensor, 'pictures codes']",
    *,
    guidance: float = 1.0,
    blocks: int = 8,
    batch_size: int = 16,
    positions: slice | None = None,
) -> Float32[np.ndarray, "blocks positions codebook"]:
    """For each block of pictures the mean of the model's probabilities of every code at every position.

    Memory: blocks x positions x codebook x 4 bytes, whatever the number of pictures.

    Args:
        model: Gives probabilities.
        text: What the pictures were drawn from.
        codes: Of the pictures; those beyond a multiple of ``blocks`` are left out.
        guidance: w, as in drawing.
        blocks: 2 and more.
        batch_size: Pictures read together.
        positions: Which, by default all; a part of them where memory would not do.

    Raises:
        BadInputError: Too few pictures or blocks, no position, or more than 4 GB.
    """
    each = len(codes) // blocks if blocks > 1 else 0
    kept = range(codes.shape[1])[positions or slice(None)]
    if not each or not kept or kept.step != 1:
        raise BadInputError(
            f"got {len(codes)} pictures, {blocks} blocks, {len(kept)} positions; allowed: 2 blocks and more of at "
            "least a picture, positions one after the other."
        )
    size = model.codebook_size
    held = blocks * len(kept) * size * 4
    if held > _MOST_BYTES:
        raise BadInputError(
            f"{blocks} blocks of {len(kept)} positions and {size} codes take {held / 2**30:.1f} GB; "
            "allowed: 4 GB; give positions=slice(first, last)."
        )
    parts = [
        model.mean_probabilities(
            text,
            codes[block * each : (block + 1) * each],
            guidance=guidance,
            batch_size=batch_size,
            positions=slice(kept.start, kept.stop),
        )
        for block in range(blocks)
    ]
    found: Float32[np.ndarray, "blocks positions codebook"] = np.stack([one.float().numpy() for one in parts])
    return found


def _divergence(
    first: Float64[np.ndarray, "positions codebook"], second: Float64[np.ndarray, "positions codebook"]
) -> Float64[np.ndarray, " positions"]:
    first, second = (np.clip(one, 0.0, None) for one in (first, second))
    middle = (first + second) / 2
    terms: Sequence[np.ndarray] = [
        np.where(one > 0, one * np.log(np.where(one > 0, one, 1.0) / np.where(middle > 0, middle, 1.0)), 0.0)
        for one in (first, second)
    ]
    total: Float64[np.ndarray, " positions"] = (terms[0].sum(axis=1) + terms[1].sum(axis=1)) / 2
    return total
