r"""How far a prompt's next codes are from a mixture of other prompts'. In: prefixes, codes. Out: nats, with gradients.

The mixture draws a prompt at random and then a picture from it. What it would write next follows from what is written:

.. math:: m(z_t | z_{<t}) = \sum_d w_d(z_{<t})\, p(z_t | z_{<t}, x_d), \quad w_d(z_{<t}) \propto \pi_d\, p(z_{<t} | x_d)

Logits are worked out a few positions at a time and thrown away; of each position only the derivative by what the head
reads is kept.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.models.unified.codes import guided
from evenhand.models.unified.family import Family
from evenhand.models.unified.kept_slope import with_kept_slope
from evenhand.models.unified.likelihood import head_input

__all__ = ["mixture_divergence"]

_ROWS = 512
"""Codes, whichever picture's and prompt's, whose logits are held together."""


def mixture_divergence(
    family: Family,
    prefixes: Sequence[tuple[int, ...]],
    mixed: Sequence[Sequence[tuple[int, ...]]],
    codes: Int[Tensor, "pictures codes"],
    *,
    shares: Sequence[float],
    guidance: Sequence[float] | None = None,
    mixed_guidance: Sequence[float] | None = None,
    reference: Callable[[], AbstractContextManager[None]],
) -> Float[Tensor, "pictures codes"]:
    r"""Kullback-Leibler divergence of the next code from the mixture's, at every position; nats, 0 or more, float32.

    .. math:: \sum_v m(v | z_{<t}) \log \frac{m(v | z_{<t})}{p_\theta(v | z_{<t}, x)}

    Its expectation over pictures of the mixture, summed over positions, is the divergence of whole pictures. Gradients
    flow to what the head reads under ``prefixes``; the head itself is taken to be frozen.

    Args:
        family: Its model is asked.
        prefixes: x, one a picture.
        mixed: x_d, as many for each picture as there are shares.
        codes: In raster order.
        shares: pi, of sum 1.
        guidance: w of ``codes.guided``, one a picture, of its prompt; 1 by default.
        mixed_guidance: The same, of the prompts in the mixture.
        reference: Makes the context in which the mixture is asked: the model before training.
    """
    with torch.no_grad(), reference():
        every = _read(family, [[one[d] for one in mixed] for d in range(len(shares))], codes, mixed_guidance)
        asked = torch.stack(every, dim=1)
    (read,) = _read(family, [prefixes], codes, guidance)
    weights = torch.tensor(shares, device=codes.device).log().expand(len(codes), -1)
    width = max(1, _ROWS // (len(codes) * len(shares)))
    found: list[Tensor] = []
    for start in range(0, codes.shape[1], width):
        part = slice(start, start + width)
        with torch.no_grad(), reference():
            mixture, weights = _mixture(family.code_logits(asked[:, :, part]), codes[:, part], weights)
        found.append(_divergence(family, read[:, part], mixture))
    return torch.cat(found, dim=1)


def _read(
    family: Family,
    prompts: Sequence[Sequence[tuple[int, ...]]],
    codes: Int[Tensor, "pictures codes"],
    guidance: Sequence[float] | None,
) -> list[Float[Tensor, "pictures codes read"]]:
    """What the head reads, guided, of each of several prompts a picture; equal unconditional branches are read once."""
    every = [head_input(family, one, codes) for one in prompts]
    if guidance is None or all(one == 1 for one in guidance):
        return every
    branches = [tuple(family.without_text(one) for one in own) for own in prompts]
    without = {branch: head_input(family, branch, codes) for branch in dict.fromkeys(branches)}
    weight = torch.tensor(guidance, device=codes.device)[:, None, None]
    return [guided(torch.cat([one, without[branch]]), weight) for one, branch in zip(every, branches, strict=True)]


def _mixture(
    logits: Float[Tensor, "pictures prompts codes codebook"],
    codes: Int[Tensor, "pictures codes"],
    weights: Float[Tensor, "pictures prompts"],
) -> tuple[Float[Tensor, "pictures codes codebook"], Float[Tensor, "pictures prompts"]]:
    """Log-probabilities of the mixture, and the prompts' log weights behind the last of these positions."""
    told = logits.log_softmax(dim=-1)
    index = codes[:, None, :, None].expand(-1, told.shape[1], -1, 1)
    along = weights[..., None] + told.gather(-1, index)[..., 0].cumsum(dim=-1)
    before = torch.cat([weights[..., None], along[..., :-1]], dim=-1).log_softmax(dim=1)
    return (before[..., None] + told).logsumexp(dim=1), along[..., -1]


def _divergence(family: Family, read: Tensor, mixture: Tensor) -> Tensor:
    def worth(own: Tensor) -> Tensor:
        return (mixture.exp() * (mixture - family.code_logits(own).log_softmax(dim=-1))).sum(dim=-1)

    return with_kept_slope(worth, read)
