"""The mathematics of ALA. In: rows of logits, alpha and s. Out: which rows act, and nats to add per listed token.

Pure functions over tensors; nothing here knows a tokenizer, a model or a mode's name. Signs follow the paper:
alpha, s and direction are positive for the attribute's first declared group and negative for its second.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Gate",
    "align_shift",
    "lift_replacements",
    "neutral_shift",
    "open_gate",
    "paper_shift",
    "shift_logits",
]

LEAD = 0.5
"""Nats by which a lifted token wins: more than half-precision logits round away."""


class Gate(NamedTuple):
    """Which rows a shift may act on, and the gating tokens' scores.

    Attributes:
        opened: True where the row's greedy token is one of the gating tokens.
        scores: Of the gating tokens, in the order they were listed.
    """

    opened: Bool[Tensor, " rows"]
    scores: Float[Tensor, "rows gates"]


def open_gate(scores: Float[Tensor, "rows vocab"], gate_ids: Int[Tensor, " gates"]) -> Gate:
    """The rows whose greedy token is a gating token (ALA, the test on beta of the argmax).

    Equal to testing the argmax, but reads the vocabulary with ``amax``, which is vectorised on CPU where ``argmax``
    is not. A tie between a gating token and any other token opens the gate.

    Args:
        scores: Logits or log-probabilities in nats; ``-inf`` allowed, but not for a whole row.
        gate_ids: Unique vocabulary ids, at least one.
    """
    listed = scores.index_select(1, gate_ids)
    return Gate((listed >= scores.amax(dim=1, keepdim=True)).any(dim=1), listed)


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


def lift_replacements(
    scores: Float[Tensor, "rows tokens"],
    shift: Float[Tensor, "rows tokens"],
    replacements: Bool[Tensor, "rows tokens"],
) -> Float[Tensor, "rows tokens"]:
    r"""Raise the replacements of a drafted token, all by the same, until the best of them is chosen.

    .. math:: \Delta'_i = \Delta_i + \Big[\max\big(\max_j z_j,\, \max_j (z_j + \Delta_j)\big)
        - \max_{r} (z_r + \Delta_r) + \varepsilon\Big]_+ , \quad i \in r

    A shift of fixed strength takes a word back and leaves its place to whatever comes next, a full stop as soon as
    the right word. With this the replacement inherits the place: the drafted token was the best of the whole
    vocabulary, so what beats its former score beats everything. A row whose shift is zero, or that has no
    replacement, keeps its shift.

    Args:
        scores: Of the listed tokens, in nats, before any shift; the row's best token is among them.
        shift: Nats of the update.
        replacements: The tokens that may stand in the drafted one's place.
    """
    shifted = scores + shift
    best = torch.where(replacements, shifted, -torch.inf).amax(dim=1)
    lead = torch.maximum(scores.amax(dim=1), shifted.amax(dim=1)) - best
    wanted = (shift != 0).any(dim=1) & (lead > 0) & (lead < torch.inf)
    return torch.where(replacements & wanted[:, None], shift + (lead + LEAD)[:, None], shift)


def shift_logits(
    scores: Float[Tensor, "rows vocab"],
    token_ids: Int[Tensor, " tokens"],
    shift: Float[Tensor, "rows tokens"],
    *,
    in_place: bool = False,
) -> Float[Tensor, "rows vocab"]:
    """Add a shift to the listed tokens.

    Args:
        scores: Nats, any float dtype; ``-inf`` stays ``-inf``.
        token_ids: Unique vocabulary ids.
        shift: Nats, finite; zero rows are left bit-identical.
        in_place: Change ``scores`` itself. By default it is not modified, which costs a copy of every row.
    """
    # Adding 0.0 would turn -0.0 into 0.0; -0.0 is what leaves every number as it is.
    nats = shift.masked_fill(shift == 0, -0.0).to(scores.dtype)
    return scores.index_add_(1, token_ids, nats) if in_place else scores.index_add(1, token_ids, nats)
