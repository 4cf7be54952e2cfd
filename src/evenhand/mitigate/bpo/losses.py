r"""How far a model is from drawing each group as often as declared. In: log-probabilities. Out: losses; pure functions.

A tuple is one prompt with one picture of each of K groups. Shapes are always (tuples, groups), so that a comparison
never leaves its prompt.

``log_odds`` is Balanced Preference Optimization as it is published (arXiv 2502.03429, eq. 9 to 11). It makes the
pictures of a tuple equally likely, per code. Where one group's pictures are harder to predict than another's, that is
not the same as drawing both equally often: the loss falls to 0 by drawing the harder group alone.

``posterior`` compares each picture with itself. With groups that can be told apart,

.. math:: \log p(y | x) - \log p_\mathrm{ref}(y | x_d) \approx \log \pi_d(x), \quad y \text{ of group } d,

where x names no group, x_d asks for d, and the reference is the model before training. What makes a picture hard to
predict cancels, and the share of the group is left.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = [
    "Comparing",
    "balance",
    "check_target",
    "log_odds",
    "log_odds_loss",
    "pairs_of",
    "posterior_loss",
    "preference_gap",
    "weighted_nll",
]

Comparing = Literal["all", "cycle"]
"""Which pairs of groups are compared: every one, or each with the next and the last with the first (eq. 11)."""

_LARGEST = -torch.finfo(torch.float32).eps
"""Mean log-probabilities are taken to be at most this: at 0 the odds are infinite."""


def log_odds(log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Log odds of log-probabilities, in nats, in float32.

    .. math:: \log \frac{e^l}{1 - e^l} = l - \log(1 - e^l)

    0 at log ½. Values above -1.2e-7 are taken for that one and have no gradient; everything is finite, gradients too.

    Args:
        log_probs: In nats, at most 0.
    """
    held = log_probs.float().clamp(max=_LARGEST)
    near = held > -math.log(2)
    # Both branches are worked out everywhere: each gets a harmless number where the other is meant, else NaN spreads.
    small = torch.log(-torch.expm1(torch.where(near, held, -1.0)))
    large = torch.log1p(-torch.exp(torch.where(near, -1.0, held)))
    return held - torch.where(near, small, large)


def balance(difference: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Eq. 10 of a difference in nats: even, 0 where there is none, below log 1.25 = 0.2231.

    .. math:: \log(1 + (\sigma(\Delta) - 1/2)^2)

    Steepest, 0.0892, at 1.23; far away it is flat.
    """
    return torch.log1p((0.5 * torch.tanh(difference.float() / 2)).square())


def preference_gap(difference: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Eq. 9: how much likelier one is preferred than the other, :math:`|2\sigma(\Delta) - 1|`, in [0, 1]."""
    return torch.tanh(difference.float() / 2).abs()


def pairs_of(groups: int, comparing: Comparing = "all") -> tuple[tuple[int, int], ...]:
    """Which groups are compared, each pair once; two groups are one pair either way.

    Raises:
        BadInputError: Fewer than two groups, or another way of comparing.
    """
    if groups < 2:
        raise BadInputError(f"groups: got {groups}; allowed: 2 or more, one picture of each in a tuple.")
    if comparing not in get_args(Comparing):
        raise BadInputError(f"pairs: got {comparing!r}; allowed: {', '.join(get_args(Comparing))}.")
    if comparing == "all" or groups == 2:
        return tuple(combinations(range(groups), 2))
    return tuple((one, (one + 1) % groups) for one in range(groups))


def check_target(target: Sequence[float] | None, groups: int) -> tuple[float, ...]:
    """Wanted shares of the groups; even where none are given.

    Raises:
        BadInputError: Not one share for each group, a share that is not above 0, or a sum other than 1.
    """
    if target is None:
        return (1 / groups,) * groups
    shares = tuple(float(one) for one in target)
    if len(shares) != groups or not all(0 < one < 1 for one in shares) or abs(sum(shares) - 1) > 1e-6:
        raise BadInputError(
            f"target: got {list(shares)} for {groups} groups; allowed: one share above 0 for each group, of sum 1. "
            "A group that is not wanted is left out of the data."
        )
    return shares


def log_odds_loss(
    log_probs: Float[Tensor, "tuples groups codes"],
    *,
    comparing: Comparing = "all",
    target: Sequence[float] | None = None,
) -> Float[Tensor, " tuples"]:
    r"""Eq. 10 and 11, the mean over pairs of groups, on log odds of each picture's mean log-probability of a code.

    .. math:: \Delta_{ij} = g(\bar l_i) - g(\bar l_j), \quad g(l) = l - \log(1 - e^l)

    Range [0, 0.2231). The mean over pairs, not eq. 11's sum, so that a learning rate does not depend on K; two groups
    are one pair, which eq. 11 counts twice. Likelihoods of shares :math:`t_i : t_j` differ by
    :math:`\log(t_i / t_j)` a picture, so with a target :math:`g(\bar l_d - \log(K t_d) / n)` is compared, n codes;
    an even one changes nothing.

    Args:
        log_probs: Of each code, in nats, under the prompt that names no group.
        comparing: Which pairs.
        target: Wanted shares; even by default.

    Raises:
        BadInputError: As ``pairs_of`` and ``check_target``.
    """
    _, groups, codes = log_probs.shape
    shares = check_target(target, groups)
    wanted = torch.tensor([math.log(share * groups) / codes for share in shares], device=log_probs.device)
    return _over_pairs(log_odds(log_probs.float().mean(dim=-1) - wanted), comparing)


def posterior_loss(
    log_probs: Float[Tensor, "tuples groups codes"],
    reference: Float[Tensor, "tuples groups"],
    *,
    comparing: Comparing = "all",
    target: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, " tuples"]:
    r"""The same bounded shape on what a picture says of its group's share; the mean over pairs. Range [0, 0.2231).

    .. math:: \Delta_{ij} = \frac{r_i - r_j - \log(t_i / t_j)}{\tau}, \quad
        r_d = \log p(y_d | x) - \log p_\mathrm{ref}(y_d | x_d)

    Sums over codes, not means. 0 where the shares are the target's. Not in the paper.

    Args:
        log_probs: Of each code, in nats, under the prompt x that names no group.
        reference: Of each whole picture, in nats, under the prompt that asks for its group, of the model before
            training; no gradient goes there.
        comparing: Which pairs.
        target: Wanted shares; even by default.
        temperature: tau, above 0: larger where single pictures are noisy.

    Raises:
        BadInputError: As ``pairs_of`` and ``check_target``, or a temperature that is not above 0.
    """
    if not 0 < temperature < math.inf:
        raise BadInputError(f"temperature: got {temperature}; allowed: above 0, 1 by default.")
    share = log_probs.float().sum(dim=-1) - reference.float().detach()
    wanted = torch.tensor(check_target(target, share.shape[1]), device=share.device).log()
    return _over_pairs((share - wanted) / temperature, comparing)


def weighted_nll(
    log_probs: Float[Tensor, "tuples groups codes"], *, target: Sequence[float] | None = None
) -> Float[Tensor, " tuples"]:
    r"""Negative log-likelihood of a code, in nats, each group's picture weighted with its wanted share; 0 or more.

    .. math:: -\sum_d t_d \bar l_d

    Its minimum is the mixture of the groups' pictures in the wanted shares.

    Raises:
        BadInputError: As ``check_target``.
    """
    weights = torch.tensor(check_target(target, log_probs.shape[1]), device=log_probs.device)
    return -(log_probs.float().mean(dim=-1) * weights).sum(dim=-1)


def _over_pairs(level: Float[Tensor, "tuples groups"], comparing: Comparing) -> Float[Tensor, " tuples"]:
    pairs: Int[Tensor, "pairs 2"] = torch.tensor(pairs_of(level.shape[1], comparing), device=level.device)
    return balance(level[:, pairs[:, 0]] - level[:, pairs[:, 1]]).mean(dim=-1)
