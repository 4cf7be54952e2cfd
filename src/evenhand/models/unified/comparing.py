"""How likely given pictures are under several prompts. In: prefixes and codes. Out: numbers on the CPU; no gradient.

Each prefix is read once for all pictures (``prefixes``), the unconditional branch of guidance once a batch for all
prompts that share it. Logits are worked out and thrown away a few positions at a time, so that memory grows with the
batch and not with the pictures. ``likelihood.code_log_probs`` gives the same numbers, with gradients.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.models.unified.codes import guided
from evenhand.models.unified.family import Family
from evenhand.models.unified.likelihood import written_codes
from evenhand.models.unified.prefixes import ReadPrefix

__all__ = ["compared_log_probs", "mean_probabilities"]

_ROWS = 256
"""Codes, whichever picture's, whose logits are held together: 34 MB of a codebook of 32,768."""


@torch.no_grad()
def compared_log_probs(
    family: Family,
    prefixes: Sequence[tuple[int, ...]],
    codes: Int[Tensor, "pictures codes"],
    *,
    guidance: float,
    batch_size: int,
) -> Float[Tensor, "pictures prefixes codes"]:
    r"""Log-probability of each code of each picture behind each prefix, in nats, at most 0; float32 on the CPU.

    .. math:: \log \mathrm{softmax}(u_t + w (c_t - u_t))[z_t]

    Args:
        family: Its model is asked.
        prefixes: One a prompt.
        codes: In raster order.
        guidance: w of ``codes.guided``; 1 leaves the unconditional branch out.
        batch_size: Pictures that are read together.
    """
    found = torch.empty(len(codes), len(prefixes), codes.shape[1])
    for start, batch, at, read in _readings(family, prefixes, codes, guidance, batch_size):
        parts = zip(torch.split(read.flatten(0, 1), _ROWS), torch.split(batch.flatten(), _ROWS), strict=True)
        scores = torch.cat([_scores(family.code_logits(part), own) for part, own in parts])
        found[start : start + len(batch), at] = scores.view(batch.shape).cpu()
    return found


@torch.no_grad()
def mean_probabilities(
    family: Family,
    prefix: tuple[int, ...],
    codes: Int[Tensor, "pictures codes"],
    *,
    guidance: float,
    batch_size: int,
    positions: slice,
) -> Float[Tensor, "positions codebook"]:
    r"""Of each position the mean over pictures of the next code's probabilities; float32 on the CPU.

    .. math:: \frac1n \sum_i \mathrm{softmax}(u_t + w (c_t - u_t)), \quad z^{(i)}_{<t} \text{ given}

    Args:
        family: Its model is asked.
        prefix: In front of every picture.
        codes: In raster order.
        guidance: As ``compared_log_probs``.
        batch_size: As ``compared_log_probs``.
        positions: Which codes.
    """
    size = len(range(codes.shape[1])[positions])
    total = torch.zeros(size, family.codebook_size)
    for _, batch, _, read in _readings(family, [prefix], codes, guidance, batch_size):
        own, width = read[:, positions], max(1, _ROWS // len(batch))
        for start in range(0, size, width):
            logits = family.code_logits(own[:, start : start + width])
            total[start : start + width] += logits.softmax(dim=-1).sum(dim=0).cpu()
    return total / len(codes)


def _scores(logits: Float[Tensor, "rows codebook"], codes: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    return logits.gather(-1, codes[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _readings(
    family: Family,
    prefixes: Sequence[tuple[int, ...]],
    codes: Int[Tensor, "pictures codes"],
    guidance: float,
    batch_size: int,
) -> Iterator[tuple[int, Tensor, int, Tensor]]:
    """A batch's first picture, its codes, a prefix's place, and what the head reads in front of each code, guided."""
    known: dict[tuple[int, ...], ReadPrefix] = {}

    def read(prefix: tuple[int, ...], written: Tensor, places: Tensor | None) -> Tensor:
        if prefix not in known:
            known[prefix] = ReadPrefix(family, prefix)
        return family.before_head(known[prefix].states(written, places))

    sharing: dict[tuple[int, ...] | None, list[int]] = {}
    for at, prefix in enumerate(prefixes):
        sharing.setdefault(None if guidance == 1 else family.without_text(prefix), []).append(at)
    for start in range(0, len(codes), batch_size):
        batch = codes[start : start + batch_size]
        written, places = written_codes(family, batch)
        for nothing, members in sharing.items():
            without = None if nothing is None else read(nothing, written, places)
            for at in members:
                own = read(prefixes[at], written, places)
                yield start, batch, at, own if without is None else guided(torch.cat([own, without]), guidance)
