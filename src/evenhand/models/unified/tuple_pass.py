"""How likely several pictures of each prompt are, for training. In: prefixes and codes. Out: nats, with gradients.

What makes it lean: a prompt is read once for all its pictures, and its keys and values are shared; no logits are kept
(``kept_slope``); and, where it is wanted, the activations of one picture of a prompt at a time are in memory, so that
the peak does not grow with their number. ``likelihood.code_log_probs`` gives the same numbers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache

from evenhand.models.unified.chosen import chosen_log_probs
from evenhand.models.unified.codes import guided
from evenhand.models.unified.family import Family
from evenhand.models.unified.kept_slope import with_kept_slope
from evenhand.models.unified.likelihood import head_input, written_codes
from evenhand.models.unified.prefixes import SharedLayer

__all__ = ["tuple_log_probs"]

_ROWS = 256
"""Codes, whichever picture's, whose logits are held together."""


def tuple_log_probs(
    family: Family,
    prefixes: Sequence[tuple[int, ...]],
    codes: Int[Tensor, "tuples pictures codes"],
    *,
    guidance: float = 1.0,
    one_at_a_time: bool = False,
    share_prefix: bool = True,
) -> Float[Tensor, "tuples pictures codes"]:
    """Log-probability of each code in nats, at most 0, float32; differentiable.

    The head's last layer gets no gradient.

    Args:
        family: Its model is asked.
        prefixes: One a tuple.
        codes: Of its pictures, in raster order.
        guidance: w of ``codes.guided``; any but 1 reads each picture twice, and gradients flow to both branches.
        one_at_a_time: Forget the activations of a tuple's picture and make them again for the gradient: a third more
            time, memory that does not grow with the number of pictures.
        share_prefix: Read a prompt once for all its pictures. Where the model makes its activations again by itself,
            which drops keys and values, it is read with each picture.
    """
    without = [] if guidance == 1 else [family.without_text(one) for one in prefixes]
    shared = _ReadPrefixes(family, [*prefixes, *without]) if share_prefix and not _forgets(family) else None

    def score(part: Tensor) -> Tensor:
        tuples, pictures, _ = part.shape
        flat = part.flatten(0, 1)
        if shared is None:
            read = head_input(family, [one for one in prefixes for _ in range(pictures)], flat, guidance=guidance)
        elif without:
            read = guided(family.before_head(shared.states(torch.cat([flat, flat]))), guidance)
        else:
            read = family.before_head(shared.states(flat))
        return _log_probs(family, read.flatten(0, 1), flat.flatten()).view(tuples, pictures, -1)

    if not (one_at_a_time and torch.is_grad_enabled()):
        return score(codes)
    parts: list[Tensor] = [checkpoint(score, one, use_reentrant=False) for one in torch.split(codes, 1, dim=1)]
    return torch.cat(parts, dim=1)


def _log_probs(family: Family, read: Float[Tensor, "rows read"], codes: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    def told(part: Tensor, own: Tensor) -> Tensor:
        def worth(some: Tensor) -> Tensor:
            return chosen_log_probs(family.code_logits(some), own)

        return with_kept_slope(worth, part)

    parts = zip(torch.split(read, _ROWS), torch.split(codes, _ROWS), strict=True)
    return torch.cat([told(part, own) for part, own in parts])


def _forgets(family: Family) -> bool:
    """Whether the model's layers are checkpointed: they take no keys and values then."""
    return any(module.training and getattr(module, "gradient_checkpointing", False) for module in _layers(family))


def _layers(family: Family) -> list[Any]:
    return list(family.language_model.modules())


class _ReadPrefixes:
    """Prompts, read once up to their last token, which is fed in front of the codes; differentiable.

    Shorter prompts are padded on the left; nothing sees the padding.
    """

    def __init__(self, family: Family, prefixes: Sequence[tuple[int, ...]]) -> None:
        self._family, width = family, max(map(len, prefixes))
        device = family.model.device
        ids = torch.tensor([[0] * (width - len(one)) + list(one) for one in prefixes], device=device)
        self._real = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prefixes], device=device)
        self._padded = any(len(one) < width for one in prefixes)
        embedded = family.embed(ids)
        self._last: Float[Tensor, "tuples 1 hidden"] = embedded[:, -1:]
        cache: Any = DynamicCache()
        given: dict[str, Tensor] = {}
        if self._padded:
            mask = self._real[:, :-1]
            given = {"attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}
        family.language_model(inputs_embeds=embedded[:, :-1], past_key_values=cache, use_cache=True, **given)
        self._cache = Cache(layers=[SharedLayer(one.keys, one.values) for one in cache.layers])

    def states(self, codes: Int[Tensor, "rows codes"]) -> Float[Tensor, "rows codes hidden"]:
        """Last hidden states in front of each code; rows of one prompt stand together."""
        each = len(codes) // len(self._last)
        written, places = written_codes(self._family, codes)
        fed = torch.cat([self._last.repeat_interleave(each, dim=0), written[:, :-1]], dim=1)
        real = self._real[:, :-1].repeat_interleave(each, dim=0)
        mask = torch.cat([real, real.new_ones(fed.shape[:2])], dim=1)
        positions = (mask.cumsum(dim=1) - 1)[:, real.shape[1] :]
        given = {"attention_mask": mask} if self._padded else {}
        out = self._family.language_model(
            inputs_embeds=fed, position_ids=positions, past_key_values=self._cache, use_cache=True, **given
        )
        states: Tensor = out.last_hidden_state
        return states if places is None else states[:, places]
