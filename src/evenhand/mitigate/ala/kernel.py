"""The mathematics of ALA. In: rows of logits, alpha and s. Out: which rows act, and nats to add per listed token.

Pure functions over tensors; nothing here knows a tokenizer, a model or a mode's name. Signs follow the paper:
alpha, s and direction are positive for the attribute's first declared group and negative for its second.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Gate", "align_shift", "neutral_shift", "open_gate", "paper_shift", "shift_logits"]


class Gate(NamedTuple):
    """Which rows a shift may act on, and the listed token each row would choose.

    Attributes:
        opened: True where the row's greedy token is one of the gating tokens.
        drafted: Index, into the listed tokens, of the best gating token; meaningful where ``opened``.
    """

    opened: Bool[Tensor, " rows"]
    drafted: Int[Tensor, " rows"]


def open_gate(
    scores: Float[Tensor, "rows vocab"], token_ids: Int[Tensor, " tokens"], gates: Bool[Tensor, " tokens"]
) -> Gate:
    """The rows whose greedy token is a gating token (ALA, the test on beta of the argmax).

    Equal to ``gates_of(argmax(scores))`` but reads the vocabulary with ``amax``, which is vectorised on CPU where
    ``argmax`` is not. A tie between a gating token and any other token opens the gate.

    Args:
        scores: Logits or log-probabilities in nats; ``-inf`` allowed.
        token_ids: Unique vocabulary ids.
        gates: Which of them open the gate; at least one.
    """
    listed = scores.index_select(1, token_ids).masked_fill(~gates, -torch.inf)
    best, drafted = listed.max(dim=1)
    return Gate((best >= scores.amax(dim=1)) & (best > -torch.inf), drafted)


def paper_shift(
    alpha: Float[Tensor, " rows"],
    s: Float[Tensor, " rows"],
    direction: Float[Tensor, " tokens"],
    *,
    strength: float,
) -> Float[Tensor, "rows tokens"]:
    """The paper's update, ``-strength (alpha - s) direction`` (ALA, Bias Alignment; s = 0 is its neutral mode).

    Zero where ``alpha == s``. It overshoots where s is small: with alpha near 1 and s = 0 it can prefer the other
    group, which is why it is not the default.

    Args:
        alpha: What the text carries with the drafted token, in [-1, 1].
        s: What it should carry, in [-1, 1].
        direction: Signed weight per token, in [-1, 1].
        strength: Lambda, nats per unit.
    """
    return (-strength * (alpha - s))[:, None] * direction


def align_shift(
    alpha: Float[Tensor, " rows"],
    s: Float[Tensor, " rows"],
    direction: Float[Tensor, " tokens"],
    *,
    strength: float,
    margin: float,
) -> Float[Tensor, "rows tokens"]:
    r"""Shift toward s only where the text contradicts it.

    .. math:: \Delta = \lambda\, [m - \mathrm{sign}(s)\, \alpha]_+ \, \mathrm{sign}(s)\, \beta

    Zero wherever the text already agrees with the picture by ``margin`` or more, and where s = 0: a right word
    is never weakened, an unsure picture never flips one.

    Args:
        alpha: What the text carries with the drafted token, in [-1, 1].
        s: What it should carry, in [-1, 1]; only its sign is used.
        direction: Signed weight per token, in [-1, 1].
        strength: Lambda, nats per unit.
        margin: m, how strongly the text must agree to be left alone, in [-1, 1].
    """
    side = torch.sign(s)
    contradiction = torch.relu(margin - side * alpha)
    return (strength * contradiction * side)[:, None] * direction


def neutral_shift(
    alpha: Float[Tensor, " rows"],
    direction: Float[Tensor, " tokens"],
    neutral_forms: Float[Tensor, "rows tokens"],
    *,
    strength: float,
) -> Float[Tensor, "rows tokens"]:
    r"""Weaken every group's tokens and strengthen the neutral forms of the drafted one.

    .. math:: \Delta = \lambda\, |\alpha|\, (\nu - |\beta|)

    Symmetric in the groups: no group's token ever gains, so nothing is flipped.

    Args:
        alpha: What the text carries with the drafted token, in [-1, 1].
        direction: Signed weight per token, in [-1, 1].
        neutral_forms: 1 for the tokens that can stand in the drafted token's place, else 0.
        strength: Lambda, nats per unit.
    """
    return (strength * alpha.abs())[:, None] * (neutral_forms - direction.abs())


def shift_logits(
    scores: Float[Tensor, "rows vocab"],
    token_ids: Int[Tensor, " tokens"],
    shift: Float[Tensor, "rows tokens"],
) -> Float[Tensor, "rows vocab"]:
    """Add a shift to the listed tokens; the input is not modified.

    Args:
        scores: Nats, any float dtype; ``-inf`` stays ``-inf``.
        token_ids: Unique vocabulary ids.
        shift: Nats, finite; zero rows are left bit-identical.
    """
    # Adding 0.0 would turn -0.0 into 0.0; -0.0 is what leaves every number as it is.
    nats = shift.masked_fill(shift == 0, -0.0).to(scores.dtype)
    return scores.index_add(1, token_ids, nats)
