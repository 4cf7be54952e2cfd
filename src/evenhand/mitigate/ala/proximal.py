"""Updates that spend a KL divergence. In: probabilities of listed tokens, what each would carry. Out: nats.

The listed tokens S and "the rest" are all that is looked at: every other token would leave the text as it is, so all
of them share one value and move together. Solved in float64; pure functions, no branch on a tensor's value.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.mitigate.ala.kernel import log_normaliser

__all__ = ["Proximal", "divergence", "divergence_of_scores", "largest_scale", "normaliser", "proximal_shift"]

_NEWTON_STEPS = 30
_HALVINGS = 60
_STEP_SIZES = tuple(2.0**-n for n in range(10))


class Proximal(NamedTuple):
    """The solution of a proximal step.

    Attributes:
        shift: Nats to add per listed token; the rest is not moved.
        multiplier: kappa, per dimension of what the text carries.
        reached: E_q a.
        divergence: KL(q || p) in nats.
    """

    shift: Float[Tensor, "rows tokens"]
    multiplier: Float[Tensor, "rows aims"]
    reached: Float[Tensor, "rows aims"]
    divergence: Float[Tensor, " rows"]


def proximal_shift(
    probability: Float[Tensor, "rows tokens"],
    carried: Float[Tensor, "rows tokens aims"],
    otherwise: Float[Tensor, "rows aims"],
    wanted: Float[Tensor, "rows aims"],
    *,
    pull: float,
    cap: float,
) -> Proximal:
    r"""The nearest distribution whose expected text carries what it should.

    .. math:: \min_q\; \mathrm{KL}(q \,\|\, p) + \tfrac{\mu}{2} \| E_q a - s \|^2
        \quad\Rightarrow\quad q_i \propto p_i\, e^{-\kappa \cdot a_i},\; \kappa = \mu (E_q a - s)

    The paper's update with a strength that adapts: it never overshoots s and never moves E a away from it. kappa is the
    unique minimum of the strictly convex dual ``log sum p_i exp(-kappa a_i) + |kappa|^2 / 2 mu + kappa s``, found by
    Newton steps of the best of ten lengths. Where KL(q || p) would be more than ``cap``, kappa is scaled back to it.

    Several attributes at once are several aims: one ``cap`` is shared by all of them.

    Args:
        probability: p of the listed tokens; their sum is at most 1, the remainder is the rest's.
        carried: a_i, what the text carries if token i is added, in [-1, 1] per aim.
        otherwise: a of the rest: what the text carries without a listed token.
        wanted: s, in [-1, 1].
        pull: mu, > 0; nats per squared unit. Large values reach s, small ones stay near p.
        cap: Largest KL divergence of a step, in nats, >= 0.
    """
    p = probability.double()
    rest = (1 - p.sum(dim=1, keepdim=True)).clamp(min=0)
    mass = torch.cat([p, rest], dim=1)
    a = torch.cat([carried.double(), otherwise.double()[:, None]], dim=1)
    s = wanted.double()
    kappa = torch.zeros_like(s)
    eye = torch.eye(s.shape[1], dtype=torch.float64, device=s.device)
    for _ in range(_NEWTON_STEPS):
        q = _tilt(mass, a, kappa)
        mean = torch.einsum("rt,rta->ra", q, a)
        slope = kappa / pull - mean + s
        spread = a - mean[:, None]
        curvature = torch.einsum("rt,rta,rtb->rab", q, spread, spread) + eye / pull
        step = torch.linalg.solve(curvature, slope)
        tried = torch.stack([kappa - size * step for size in _STEP_SIZES])
        values = torch.stack([_dual(mass, a, s, candidate, pull) for candidate in tried])
        best = values.argmin(dim=0)
        kappa = tried[best, torch.arange(len(best), device=s.device)]
    full = kappa
    scale = _largest(
        lambda t: _divergence(_tilt(mass, a, t[:, None] * full), mass), rows=len(s), cap=cap, device=s.device
    )
    kappa = full * scale[:, None]
    q = _tilt(mass, a, kappa)
    shift = -torch.einsum("rta,ra->rt", a[:, :-1] - a[:, -1:], kappa)
    return Proximal(
        shift=torch.where(p > 0, shift, 0.0).to(probability.dtype),
        multiplier=kappa,
        reached=torch.einsum("rt,rta->ra", q, a),
        divergence=_divergence(q, mass),
    )


def divergence(
    probability: Float[Tensor, "rows tokens"], shift: Float[Tensor, "rows tokens"]
) -> Float[Tensor, " rows"]:
    r"""KL(q || p) of the distribution after a shift from the one before, in nats.

    .. math:: \mathrm{KL} = \sum_{i \in S} q_i \Delta_i - \log Z, \quad Z = 1 + \sum_{i \in S} p_i (e^{\Delta_i} - 1)

    Args:
        probability: p of the shifted tokens.
        shift: Nats added to each.
    """
    p, nats = probability.double(), shift.double()
    log_z = normaliser(p, nats)
    q = p * (nats - log_z[:, None]).exp()
    return ((q * nats).sum(dim=1) - log_z).clamp(min=0).to(probability.dtype)


def divergence_of_scores(
    scores: Float[Tensor, "rows vocab"],
    token_ids: Int[Tensor, "rows tokens"],
    shift: Float[Tensor, "rows tokens"],
    *,
    keeps_sum: bool,
) -> Float[Tensor, " rows"]:
    """KL(q || p) in nats of a shift of scores; from the new scores, so that a token of no probability counts too.

    Args:
        scores: Before the shift, nats; ``-inf`` allowed.
        token_ids: The shifted tokens, unique in a row wherever the shift is not zero.
        shift: Nats.
        keeps_sum: Whether the shift leaves the row's total probability as it is.
    """
    nats, log_z = shift.double(), log_normaliser(scores).double()
    if not keeps_sum:
        before = scores.double()
        grown = before.scatter_add(1, token_ids, nats).logsumexp(dim=1) - before.logsumexp(dim=1)
    else:
        grown = torch.zeros_like(log_z)
    share = (scores.gather(1, token_ids).double() + nats - (log_z + grown)[:, None]).exp()
    spent = torch.where(share > 0, share * nats, 0.0).sum(dim=1) - grown
    return spent.clamp(min=0).float()


def normaliser(
    probability: Float[Tensor, "rows tokens"], shift: Float[Tensor, "rows tokens"]
) -> Float[Tensor, " rows"]:
    """The log of Z after a shift of log-probabilities; subtracted from a whole row it keeps its sum at 1 (beams)."""
    return torch.log1p((probability * torch.expm1(shift)).sum(dim=1).clamp(min=-1 + 1e-12))


def largest_scale(
    probability: Float[Tensor, "rows tokens"], shift: Float[Tensor, "rows tokens"], *, cap: float
) -> Float[Tensor, " rows"]:
    """The largest t in [0, 1] for which ``t shift`` spends at most ``cap``, per row.

    KL(q_t || p) for q_t proportional to p exp(t shift) grows with t, so t is found by halving.

    Args:
        probability: p of the shifted tokens.
        shift: Nats.
        cap: Nats, >= 0.
    """
    p, nats = probability.double(), shift.double()
    scale = _largest(lambda t: divergence(p, t[:, None] * nats), rows=len(nats), cap=cap, device=nats.device)
    return scale.to(shift.dtype)


def _dual(
    mass: Float[Tensor, "rows all"],
    a: Float[Tensor, "rows all aims"],
    s: Float[Tensor, "rows aims"],
    kappa: Float[Tensor, "rows aims"],
    pull: float,
) -> Float[Tensor, " rows"]:
    log_z = torch.logsumexp(mass.log() - torch.einsum("rta,ra->rt", a, kappa), dim=1)
    return log_z + (kappa**2).sum(dim=1) / (2 * pull) + (kappa * s).sum(dim=1)


def _tilt(
    mass: Float[Tensor, "rows all"], a: Float[Tensor, "rows all aims"], kappa: Float[Tensor, "rows aims"]
) -> Float[Tensor, "rows all"]:
    return torch.softmax(mass.log() - torch.einsum("rta,ra->rt", a, kappa), dim=1)


def _divergence(q: Float[Tensor, "rows all"], p: Float[Tensor, "rows all"]) -> Float[Tensor, " rows"]:
    ratio = torch.where(q > 0, q.log() - p.log(), 0.0)
    return (q * ratio).sum(dim=1).clamp(min=0)


def _largest(
    spent: Callable[[Float[Tensor, " rows"]], Float[Tensor, " rows"]], *, rows: int, cap: float, device: torch.device
) -> Float[Tensor, " rows"]:
    """The largest t in [0, 1], per row, at which an increasing ``spent(t)`` is at most ``cap``."""
    low = torch.zeros(rows, dtype=torch.float64, device=device)
    high = torch.ones_like(low)
    fits = spent(high) <= cap
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = spent(middle) <= cap
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return torch.where(fits, 1.0, low)
