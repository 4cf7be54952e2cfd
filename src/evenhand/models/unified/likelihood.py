"""How likely given codes are. In: prefixes and codes. Out: logits, or log-probabilities of each code.

Teacher-forced: one forward pass over the prefix and all codes but the last, without a cache. Gradients flow wherever
autograd is on. The softmax is over the codebook alone, which is the distribution that is drawn from at temperature 1.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from evenhand.models.unified.codes import guided
from evenhand.models.unified.family import Family

__all__ = ["code_log_probs", "forced_logits", "head_input", "written_codes"]

_POSITIONS = 1024
"""Positions whose logits are held together: a codebook of 32,768 and 8,100 codes would take 1 GB a picture."""


def forced_logits(
    family: Family, prefixes: Sequence[tuple[int, ...]], codes: Int[Tensor, "pictures codes"], *, guidance: float
) -> Float[Tensor, "pictures codes codebook"]:
    """Guided logits of every position, in nats, given all codes before it.

    Args:
        family: Its model is asked.
        prefixes: One a picture.
        codes: In raster order.
        guidance: w of ``codes.guided``; 1 leaves the unconditional branch out.
    """
    return family.code_logits(head_input(family, prefixes, codes, guidance=guidance))


def code_log_probs(
    family: Family, prefixes: Sequence[tuple[int, ...]], codes: Int[Tensor, "pictures codes"], *, guidance: float
) -> Float[Tensor, "pictures codes"]:
    r"""Log-probability of each code in nats, at most 0; the picture's is their sum.

    .. math:: \log \mathrm{softmax}(u_t + w (c_t - u_t))[z_t]

    The arguments are ``forced_logits``'.
    """
    read = head_input(family, prefixes, codes, guidance=guidance)

    def score(read: Tensor, codes: Tensor) -> Tensor:
        return family.code_logits(read).log_softmax(dim=-1).gather(-1, codes[..., None])[..., 0]

    if codes.shape[1] <= _POSITIONS:
        return score(read, codes)
    parts = zip(torch.split(read, _POSITIONS, 1), torch.split(codes, _POSITIONS, 1), strict=True)
    return torch.cat([_without_keeping(score, part, code) for part, code in parts], dim=1)


def head_input(
    family: Family, prefixes: Sequence[tuple[int, ...]], codes: Int[Tensor, "pictures codes"], *, guidance: float = 1.0
) -> Float[Tensor, "pictures codes read"]:
    """What the head's last layer reads in front of each code, guided; arguments as ``forced_logits``."""
    if guidance == 1:
        return family.before_head(_states(family, prefixes, codes))
    both = [*prefixes, *(family.without_text(prefix) for prefix in prefixes)]
    return guided(family.before_head(_states(family, both, torch.cat([codes, codes]))), guidance)


def _without_keeping(score: Callable[[Tensor, Tensor], Tensor], read: Tensor, codes: Tensor) -> Tensor:
    """A part's scores; its logits are made again for the gradient rather than kept."""
    if not torch.is_grad_enabled():
        return score(read, codes)
    made: Tensor = checkpoint(score, read, codes, use_reentrant=False)
    return made


def _states(
    family: Family, prefixes: Sequence[tuple[int, ...]], codes: Int[Tensor, "rows codes"]
) -> Float[Tensor, "rows codes hidden"]:
    """The last hidden state in front of each code."""
    width = max(len(prefix) for prefix in prefixes)
    ids = torch.tensor([[0] * (width - len(prefix)) + list(prefix) for prefix in prefixes], device=codes.device)
    real = torch.tensor([[0] * (width - len(prefix)) + [1] * len(prefix) for prefix in prefixes], device=codes.device)
    written, places = written_codes(family, codes)
    read = torch.cat([family.embed(ids), written[:, :-1]], dim=1)
    given: dict[str, Tensor] = {}
    if not bool(real.all()):
        mask = torch.cat([real, real.new_ones(len(prefixes), written.shape[1] - 1)], dim=1)
        given = {"attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}
    out = family.language_model(inputs_embeds=read, use_cache=False, **given)
    states: Tensor = out.last_hidden_state[:, width - 1 :]
    return states if places is None else states[:, places]


def written_codes(family: Family, codes: Int[Tensor, "rows codes"]) -> tuple[Tensor, Tensor | None]:
    """Embeddings of everything from the first code to the last, and where among it the codes are."""
    embedded = family.embed_codes(codes)
    if family.row_end is None:
        return embedded, None
    lines, columns = family.code_shape
    ends = family.embed(torch.full((1, 1, 1), family.row_end, device=codes.device))
    grid = embedded.reshape(len(codes), lines, columns, -1)
    ended = torch.cat([grid, ends.expand(len(codes), lines, 1, -1)], dim=2).flatten(1, 2)
    places = torch.arange(lines * (columns + 1), device=codes.device).view(lines, columns + 1)
    return ended[:, :-1], places[:, :-1].flatten()
