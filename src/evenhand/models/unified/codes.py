"""Drawing pictures code by code. In: prefixes and seeds. Out: codes. One batched loop with a KV cache.

Both branches of classifier-free guidance stand in one batch: logits = u + w (c - u), and w = 1 needs no unconditional
branch. A row's draw is the argmax of its logits plus Gumbel noise from its own generator, one number a code and step.
Two runs whose logits differ in the last bits (other batch sizes take other matrix kernels) then differ in a draw with a
probability of the order of the change in probabilities. An inverse CDF adds such changes up over the whole codebook.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.models.unified.family import Family
from evenhand.models.unified.rows import PrefixedRows

__all__ = ["DrawnCodes", "draw_codes", "guided"]


@dataclass(frozen=True, slots=True)
class DrawnCodes:
    """What a batch drew.

    Attributes:
        codes: One row a picture, raster order.
        finite: False where a row's logits held NaN or only infinities: its codes mean nothing.
    """

    codes: Int[Tensor, "pictures codes"]
    finite: Bool[Tensor, " pictures"]


@torch.no_grad()
def draw_codes(
    family: Family,
    prefixes: Sequence[tuple[int, ...]],
    *,
    seeds: Sequence[int],
    guidance: float,
    temperature: float,
    top_k: int = 0,
) -> DrawnCodes:
    """One picture for each prefix.

    Args:
        family: What draws.
        prefixes: One a picture; equal ones are read once.
        seeds: One a picture.
        guidance: w, any finite number; 1 is the model as it was trained.
        temperature: Divides the guided logits; 0 takes the likeliest code.
        top_k: Draw from this many likeliest codes; 0 draws from all.
    """
    rows, columns = family.code_shape
    steps = rows * columns
    branches = list(prefixes)
    if guidance != 1:
        branches += [family.without_text(prefix) for prefix in prefixes]
    batch = PrefixedRows(family, branches, room=steps + (0 if family.row_end is None else rows))
    noise = _RowNoise(seeds, family.codebook_size) if temperature > 0 else None
    drawn: list[Tensor] = []
    finite = torch.ones(len(prefixes), dtype=torch.bool, device=batch.hidden.device)
    for step in range(steps):
        read = family.before_head(batch.hidden)
        logits = family.code_logits(read if guidance == 1 else guided(read, guidance))
        finite &= logits.amax(dim=-1).isfinite()
        code = _choose(logits, noise, temperature, top_k)
        drawn.append(code)
        if step + 1 < steps:
            batch.feed(_embedded(family, code, row_is_full=(step + 1) % columns == 0, twice=guidance != 1))
    return DrawnCodes(torch.stack(drawn, dim=1), finite)


def guided(read: Float[Tensor, "branches *shape read"], weight: float) -> Float[Tensor, "pictures *shape read"]:
    r"""What the head reads under classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    .. math:: u + w (c - u)

    w = 0 is the unconditional branch, 1 the conditional one. The head's last layer is affine, so that mixing what it
    reads is mixing the logits, at half the work. A constant added to a branch's logits changes no probability: the
    branches may as well be log-probabilities.

    Args:
        read: Conditional rows, then as many unconditional ones.
        weight: w.
    """
    conditional, unconditional = read.float().chunk(2)
    return (unconditional + weight * (conditional - unconditional)).to(read.dtype)


def _embedded(family: Family, code: Int[Tensor, " pictures"], *, row_is_full: bool, twice: bool) -> Tensor:
    """What is fed after a code: its embedding, the end of its row where it is the last, for both branches."""
    fed = family.embed_codes(code[:, None])
    if row_is_full and family.row_end is not None:
        ends = family.embed(torch.full_like(code[:, None], family.row_end))
        fed = torch.cat([fed, ends], dim=1)
    return torch.cat([fed, fed]) if twice else fed


def _choose(
    logits: Float[Tensor, "pictures codebook"], noise: "_RowNoise | None", temperature: float, top_k: int
) -> Int[Tensor, " pictures"]:
    if noise is None:
        return logits.argmax(dim=-1)
    if 0 < top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    drawn = noise.next().to(logits.device, non_blocking=True)
    return drawn.add_(logits if temperature == 1 else logits / temperature).argmax(dim=-1)


class _RowNoise:
    """Standard Gumbel numbers, a row's from its own generator on the CPU, the same on every device.

    Made of 31 bits each: the largest is 22, so that codes of probability under 1e-9 are drawn a little too seldom.
    """

    def __init__(self, seeds: Sequence[int], size: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._bits = torch.empty(len(seeds), size + size % 2, dtype=torch.int32)
        self._size = size

    def next(self) -> Float[Tensor, "pictures codebook"]:
        for row, generator in zip(self._bits.view(torch.int64), self._generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        # -log(-log(1 - u)): u keeps its precision near 0, where the large numbers come from.
        uniform = self._bits.bitwise_and_(2**31 - 1)[:, : self._size].to(torch.float32).add_(0.5).mul_(2.0**-31)
        return uniform.clamp_(max=1 - 2.0**-24).neg_().log1p_().neg_().log_().neg_()
