"""Drawing pictures code by code. In: prefixes and seeds. Out: codes. One batched loop with a KV cache.

All branches of a picture stand in one batch, and their logits are mixed: u + w (c - u) under classifier-free guidance,
where w = 1 needs no unconditional branch. A row draws by the argmax of logits plus Gumbel noise from its own generator,
in two stages: a block of codes by the block's probability, then a code in it. So 256 numbers do for a codebook of
16,384. Two runs whose logits differ in the last bits (other batch sizes take other matrix kernels) differ in a draw
with a probability of the order of the change in probabilities. An inverse CDF adds such changes up over the whole
codebook.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from evenhand.models.unified.family import Family
from evenhand.models.unified.rows import PrefixedRows

__all__ = ["DrawnCodes", "RowDraws", "draw_codes", "draw_mixture", "guided", "mixed"]


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
    texts = [(prefix,) for prefix in prefixes]
    return draw_mixture(
        family, texts, shares=(1.0,), seeds=seeds, guidance=guidance, temperature=temperature, top_k=top_k
    )


@torch.no_grad()
def draw_mixture(
    family: Family,
    texts: Sequence[Sequence[tuple[int, ...]]],
    *,
    shares: Sequence[float],
    seeds: Sequence[int],
    guidance: float,
    temperature: float,
    top_k: int = 0,
) -> DrawnCodes:
    r"""One picture for each group of prefixes, whose logits are mixed before they are guided.

    .. math:: u + w (c - u), \qquad c = \sum_i v_i x_i

    Args:
        family: What draws.
        texts: Per picture the prefixes x of its texts, the same number each; equal ones are read once. The last one
            says which unconditional branch u belongs to the picture.
        shares: v, one a text, of sum 1; any sign.
        seeds: One a picture.
        guidance: w, as ``draw_codes``.
        temperature: As there.
        top_k: As there.
    """
    rows, columns = family.code_shape
    steps = rows * columns
    branches, weights = [list(branch) for branch in zip(*texts, strict=True)], shares[:-1]
    if guidance != 1:
        branches.append([family.without_text(prefix) for prefix in branches[-1]])
        weights = [guidance * share for share in shares]
    room = steps + (0 if family.row_end is None else rows)
    batch = PrefixedRows(family, [prefix for branch in branches for prefix in branch], room=room)
    draws = RowDraws(seeds, family.codebook_size) if temperature > 0 else None
    drawn: list[Tensor] = []
    finite = torch.ones(len(branches[0]), dtype=torch.bool, device=batch.hidden.device)
    for step in range(steps):
        read = family.before_head(batch.hidden)
        logits = family.code_logits(mixed(read, weights) if weights else read)
        largest = logits.amax(dim=-1, keepdim=True)
        finite &= largest[:, 0].isfinite()
        if draws is None:
            code = logits.argmax(dim=-1)
        else:
            code = draws.next((_likeliest(logits, top_k) - largest) / temperature)
        drawn.append(code)
        if step + 1 < steps:
            batch.feed(_embedded(family, code, row_is_full=(step + 1) % columns == 0, times=len(branches)))
    return DrawnCodes(torch.stack(drawn, dim=1), finite)


def guided(
    read: Float[Tensor, "branches *shape read"], weight: float | Tensor
) -> Float[Tensor, "pictures *shape read"]:
    r"""What the head reads under classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    .. math:: u + w (c - u)

    w = 0 is the unconditional branch, 1 the conditional one. The head's last layer is affine, so that mixing what it
    reads is mixing the logits, at half the work. A constant added to a branch's logits changes no probability: the
    branches may as well be log-probabilities.

    Args:
        read: Conditional rows, then as many unconditional ones.
        weight: w; a tensor that broadcasts over pictures gives each its own.
    """
    return mixed(read, (weight,))


def mixed(
    read: Float[Tensor, "branches *shape read"], weights: Sequence[float | Tensor]
) -> Float[Tensor, "pictures *shape read"]:
    r"""What the head reads where the logits of several branches are mixed.

    .. math:: b + \sum_i w_i (x_i - b)

    b is the last branch, so that the weights and what b has, :math:`1 - \sum_i w_i`, sum to 1: mixing what an affine
    layer reads is then mixing its logits.

    Args:
        read: The rows of the first branch, then as many of each of the others, those of b last.
        weights: One for each branch but the last, any finite numbers, as ``guided``'s.
    """
    *others, base = read.float().chunk(len(weights) + 1)
    moved = base
    for weight, one in zip(weights, others, strict=True):
        moved = moved + weight * (one - base)
    return moved.to(read.dtype)


def _embedded(family: Family, code: Int[Tensor, " pictures"], *, row_is_full: bool, times: int) -> Tensor:
    """What is fed after a code: its embedding, the end of its row where it is the last, for every branch."""
    fed = family.embed_codes(code[:, None])
    if row_is_full and family.row_end is not None:
        ends = family.embed(torch.full_like(code[:, None], family.row_end))
        fed = torch.cat([fed, ends], dim=1)
    return torch.cat([fed] * times) if times > 1 else fed


def _likeliest(logits: Float[Tensor, "pictures codebook"], top_k: int) -> Float[Tensor, "pictures codebook"]:
    if not 0 < top_k < logits.shape[1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


class RowDraws:
    """Draws one code a row and step; a row's randomness is from its own generator on the CPU, the same on every device.

    Args:
        seeds: One a row.
        size: Codes there are.
    """

    def __init__(self, seeds: Sequence[int], size: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._width = 2 ** math.ceil(math.log2(size) / 2)
        self._blocks = math.ceil(size / self._width)
        self._padding = self._blocks * self._width - size
        self._uniform = torch.empty(len(seeds), self._blocks + self._width, dtype=torch.float64)

    def next(self, logits: Float[Tensor, "rows codes"]) -> Int[Tensor, " rows"]:
        """One code a row.

        Args:
            logits: The largest of each row is 0; a row with NaN draws some code.
        """
        for row, generator in zip(self._uniform, self._generators, strict=True):
            row.uniform_(generator=generator)
        noise = (-(-self._uniform.log()).log()).to(logits.device, torch.float32, non_blocking=True)
        blocks = pad(logits, (0, self._padding), value=-torch.inf).reshape(-1, self._blocks, self._width)
        block = (blocks.exp().sum(dim=-1).log() + noise[:, : self._blocks]).argmax(dim=-1)
        chosen = blocks[torch.arange(len(block), device=block.device), block]
        code: Tensor = block * self._width + (chosen + noise[:, self._blocks :]).argmax(dim=-1)
        return code
