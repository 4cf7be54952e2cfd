"""The mathematics of ALA. In: rows of logits, alpha and s. Out: which rows act, and nats to add per listed token.

Pure functions over tensors; nothing here knows a tokenizer, a model or a mode's name. Signs follow the paper:
alpha, s and direction are positive for the attribute's first declared group and negative for its second. What spends
a KL divergence is in ``proximal``.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Gate",
    "add_nats",
    "align_shift",
    "contradiction",
    "group_shift",
    "hand_over",
    "log_moved",
    "log_normaliser",
    "move_draft",
    "move_mass",
    "neutral_shift",
    "open_gate",
    "paper_shift",
    "shift_logits",
]

BANNED = -5e4
"""Nats; a score below it is a ban: masks are -inf, -1e9 or the smallest number of a half-precision type."""


class Gate(NamedTuple):
    """Which rows a shift may act on, and the gating tokens' scores.

    Attributes:
        opened: True where the row's greedy token is one of the gating tokens.
        scores: Of the gating tokens, in the order they were listed.
        best: Of the greedy token.
    """

    opened: Bool[Tensor, " rows"]
    scores: Float[Tensor, "rows gates"]
    best: Float[Tensor, "rows 1"]


def open_gate(scores: Float[Tensor, "rows vocab"], gate_ids: Int[Tensor, " gates"], *, lead: float = 0.0) -> Gate:
    """The rows whose greedy token is a gating token (ALA, the test on beta of the argmax).

    Equal to testing the argmax, but reads the vocabulary with ``amax``, which is vectorised on CPU where ``argmax``
    is not. A tie between a gating token and any other token opens the gate.

    Args:
        scores: Logits or log-probabilities in nats; ``-inf`` allowed, but not for a whole row.
        gate_ids: Unique vocabulary ids, at least one.
        lead: Nats a gating token may fall short of the greedy one. With ``log(gates / epsilon)`` no row stays closed
            whose gating tokens hold a mass of epsilon: the test that comes before a test of the mass itself.
    """
    listed = scores.index_select(1, gate_ids)
    best = scores.amax(dim=1, keepdim=True)
    return Gate((listed >= (best - lead if lead else best)).any(dim=1), listed, best)


def log_normaliser(scores: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """The log of the sum of the exponentials of each row, float32.

    On CPU from the softmax, row by row: it is one fused pass over a row where ``logsumexp`` makes four.

    Args:
        scores: Nats; ``-inf`` allowed, but not for a whole row.
    """
    if scores.device.type != "cpu":
        return scores.float().logsumexp(dim=1)
    found = [row.amax() - row.softmax(dim=0).amax().log() for row in scores.float()]
    return torch.stack(found) if found else scores.float().sum(dim=1)


def paper_shift(
    alpha: Float[Tensor, " rows"],
    s: Float[Tensor, " rows"],
    direction: Float[Tensor, "#rows tokens"],
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


def group_shift(
    shares: Float[Tensor, "rows groups"],
    wanted: Float[Tensor, "rows groups"],
    group: Int[Tensor, "rows tokens"],
    weight: Float[Tensor, "rows tokens"],
    *,
    strength: float,
) -> Float[Tensor, "rows tokens"]:
    r"""The paper's update for any number of groups.

    .. math:: \Delta_i = -\lambda \sum_k (a_k - s_k) B_{ik}, \quad
        B_{ik} = b_i \, (1 \text{ for the token's group, else } -1/(K-1))

    For two groups it is ``paper_shift`` with alpha and s the differences of the shares.

    Args:
        shares: a, what the text carries, on the simplex.
        wanted: s, what it should carry, on the simplex.
        group: The token's group, -1 for none.
        weight: b, in [0, 1].
        strength: Lambda, nats per unit.
    """
    gap = shares - wanted
    groups = gap.shape[1]
    own = gap.gather(1, group.clamp(min=0).long())
    others = (gap.sum(dim=1, keepdim=True) - own) / (groups - 1)
    return torch.where(group >= 0, -strength * weight * (own - others), 0.0)


def contradiction(
    shares: Float[Tensor, "rows candidates groups"], wanted: Int[Tensor, " rows"], *, margin: float
) -> Float[Tensor, "rows candidates"]:
    r"""How far a text is from carrying the wanted group by ``margin`` more than any other.

    .. math:: c = \big[m - (a_{k^*} - \max_{k \ne k^*} a_k)\big]_+

    For two groups this is ``[m - sign(s) alpha]_+``. Range [0, 1 + m]; 0 where the text agrees.

    Args:
        shares: a, on the simplex, per candidate.
        wanted: Index of the group the text should carry.
        margin: m, in [-1, 1].
    """
    index = wanted[:, None, None].expand(-1, shares.shape[1], 1)
    own = shares.gather(2, index)[..., 0]
    if shares.shape[2] == 2:  # noqa: SIM108  (one launch less than the general form)
        rest = 1 - own
    else:
        rest = shares.scatter(2, index, -1.0).amax(dim=2)
    return torch.relu(margin - own + rest)


def align_shift(
    alpha: Float[Tensor, " rows"],
    s: Float[Tensor, " rows"],
    direction: Float[Tensor, "#rows tokens"],
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
    amount = torch.relu(margin - side * alpha)
    return (strength * amount * side)[:, None] * direction


def neutral_shift(
    alpha: Float[Tensor, " rows"],
    weight: Float[Tensor, "#rows tokens"],
    neutral_forms: Float[Tensor, "rows tokens"],
    *,
    strength: float,
) -> Float[Tensor, "rows tokens"]:
    r"""Weaken every group's tokens and strengthen the neutral forms of the drafted one.

    .. math:: \Delta = \lambda\, |\alpha|\, (\nu - |\beta|)

    Symmetric in the groups: no group's token ever gains, so nothing is flipped.

    Args:
        alpha: What the text carries with the drafted token, in [-1, 1].
        weight: |beta| per token, in [0, 1].
        neutral_forms: nu, 1 for the tokens that can stand in the drafted token's place, else 0.
        strength: Lambda, nats per unit.
    """
    return (strength * alpha.abs())[:, None] * (neutral_forms - weight)


def move_draft(
    drafted: Float[Tensor, " rows"], stand_in: Float[Tensor, " rows"], nats: Float[Tensor, " rows"]
) -> Float[Tensor, "rows 2"]:
    r"""Move the drafted token's probability to the token that stands in its place; everything else keeps its own.

    .. math:: f = 1 - e^{-n}, \quad p'_w = (1 - f)\, p_w, \quad p'_r = p_r + f p_w

    The two tokens' total does not change, so neither does any other token's probability: the KL divergence of the
    rest is 0 whatever n is. The stand-in ends with at least the drafted token's score plus log f (-0.0025 nats at
    n = 6), so it is the greedy token, as the drafted one was, unless another was equally likely.

    Args:
        drafted: Score of the drafted token, nats.
        stand_in: Score of its stand-in, nats; one that is banned keeps the row as it is.
        nats: n, by how much the drafted token's score falls, >= 0; 0 keeps the row.

    Returns:
        Nats to add to the drafted token and to its stand-in; -0.0 in rows that are kept.
    """
    return hand_over(drafted, stand_in, torch.stack([-nats, log_moved(nats)], dim=1))


def log_moved(nats: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The log of the share f = 1 - exp(-n) that moves; ``-inf`` for n = 0."""
    return torch.log(-torch.expm1(-nats))


def hand_over(
    drafted: Float[Tensor, " rows"], stand_in: Float[Tensor, " rows"], move: Float[Tensor, "rows 2"]
) -> Float[Tensor, "rows 2"]:
    """``move_draft`` with -n and log f worked out beforehand."""
    rise = torch.logaddexp(stand_in, drafted + move[:, 1]) - stand_in
    shift = torch.stack([move[:, 0], rise], dim=1)
    return torch.where((move[:, :1] < 0) & (stand_in > BANNED)[:, None], shift, -0.0)


def move_mass(
    scores: Float[Tensor, "rows tokens"],
    sources: Int[Tensor, "rows moves"],
    targets: Int[Tensor, "rows moves"],
    nats: Float[Tensor, "rows moves"],
) -> Float[Tensor, "rows tokens"]:
    """``move_draft`` for many tokens at once, as sampling and beams need: every source's mass goes to its target.

    Args:
        scores: Of the listed tokens, nats; ``-inf`` for banned ones.
        sources: Columns of ``scores``, unique in a row, none of them a target of another source.
        targets: Columns; several sources may share one. A banned target keeps its source as it is.
        nats: By how much each source's score falls, >= 0; 0 keeps it.

    Returns:
        Nats to add per listed token; the row's total probability does not change.
    """
    allowed = (scores.gather(1, targets) > BANNED) & (scores.gather(1, sources) > BANNED)
    fall = torch.where(allowed, nats, 0.0)
    best = scores.amax(dim=1, keepdim=True)
    best = torch.where(best > -torch.inf, best, 0.0)
    share = (scores - best).exp()
    moved = share.gather(1, sources) * -torch.expm1(-fall)
    gain = torch.zeros_like(share).scatter_add(1, targets, moved)
    lost = torch.zeros_like(share).scatter(1, sources, fall)
    raised = best + (share + gain).log() - scores
    return torch.where(gain > 0, raised, -lost)


def shift_logits(
    scores: Float[Tensor, "rows vocab"],
    token_ids: Int[Tensor, "rows tokens"],
    shift: Float[Tensor, "rows tokens"],
    *,
    in_place: bool = False,
) -> Float[Tensor, "rows vocab"]:
    """Add a shift to some tokens of each row.

    Args:
        scores: Nats, any float dtype; ``-inf`` stays ``-inf``.
        token_ids: Vocabulary ids, unique in a row wherever the shift is not zero.
        shift: Nats, finite; zero rows are left bit-identical.
        in_place: Change ``scores`` itself. By default it is not modified, which costs a copy of every row.
    """
    # Adding 0.0 would turn -0.0 into 0.0; -0.0 is what leaves every number as it is.
    return add_nats(scores, token_ids, shift.masked_fill(shift == 0, -0.0), in_place=in_place)


def add_nats(
    scores: Float[Tensor, "rows vocab"],
    token_ids: Int[Tensor, "rows tokens"],
    nats: Float[Tensor, "rows tokens"],
    *,
    in_place: bool,
) -> Float[Tensor, "rows vocab"]:
    """``shift_logits`` for nats whose zeros are -0.0."""
    nats = nats.to(scores.dtype)
    return scores.scatter_add_(1, token_ids, nats) if in_place else scores.scatter_add(1, token_ids, nats)
