"""Greedy decoding from prefix embeddings. In: a causal LM and a prefix per row. Out: token ids per row.

One loop with a KV cache. It differs from transformers' ``generate`` in one thing: after a hook has corrected a
token, the model may be fed the token it drafted instead of the one that was emitted (``continuation="draft"``). The
answer then is the model's own but for the corrected words, and the hook learns what the model would say next.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.models.protocol import Continuation, LogitsHook

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["decode_greedily", "text_of"]


@torch.inference_mode()
def decode_greedily(
    lm: Any,
    prefix: Float[Tensor, "rows prefix embedding"],
    *,
    stop_ids: frozenset[int],
    max_new_tokens: int,
    mask: Int[Tensor, "rows prefix"] | None = None,
    hook: LogitsHook | None = None,
    continuation: Continuation = "emitted",
    lookahead: bool = True,
) -> list[list[int]]:
    """The most likely continuation of each row, ended by and including its stop token.

    Rows do not touch each other.

    Args:
        lm: A transformers causal LM.
        prefix: Input embeddings, padded on the left where rows differ in length.
        stop_ids: A row ends with the first of these.
        max_new_tokens: A row ends after this many tokens at the latest.
        mask: 1 for embeddings, 0 for padding before them; None where no row is padded.
        hook: Called on every step's logits.
        continuation: What the model is fed after a token the hook changed.
        lookahead: Whether a draft's next token is read before the hook is asked; not for a hook that reads the
            model's last hidden state, which would be one step ahead of it.
    """
    if not stop_ids or max_new_tokens < 1:
        raise BadInputError(f"got {len(stop_ids)} stop tokens and at most {max_new_tokens} new ones; give 1 or more.")
    rows, device = prefix.shape[0], prefix.device
    stops = torch.tensor(sorted(stop_ids), device=device)
    emitted = torch.empty(rows, 0, dtype=torch.long, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    model = _CachedModel(lm, prefix, mask)
    logits = model.read_prefix()
    for length in range(1, max_new_tokens + 1):
        # An ended row only repeats a stop token, so that no hook acts on it.
        logits[ended] = -torch.inf
        logits[ended, int(stops[0])] = 0.0
        drafted = logits.argmax(dim=-1)
        following = None
        ends = length == max_new_tokens or bool((ended | torch.isin(drafted, stops)).all())
        if hook is not None and lookahead and continuation == "draft" and not ends:
            following = model.read(drafted)
            hook.foresee(following.argmax(dim=-1))
        scores = logits if hook is None else hook(emitted, logits)
        untouched = hook is None or (scores is logits and hook.drafted() is None)
        chosen = drafted if untouched else scores.argmax(dim=-1)
        emitted = torch.cat([emitted, chosen[:, None]], dim=1)
        ended = ended | torch.isin(chosen, stops)
        if length == max_new_tokens or bool(ended.all()):
            break
        if following is None:
            following = model.read(drafted if continuation == "draft" else chosen)
        logits = following
    return [_through_stop(row, stop_ids) for row in emitted.tolist()]


class _CachedModel:
    """A causal LM with its KV cache: logits of the next token, given one token more."""

    def __init__(self, lm: Any, prefix: Float[Tensor, "rows prefix embedding"], mask: Tensor | None) -> None:
        self._lm, self._prefix, self._mask, self._cache = lm, prefix, mask, None

    def read_prefix(self) -> Float[Tensor, "rows vocab"]:
        given: dict[str, Any] = {"inputs_embeds": self._prefix}
        if self._mask is not None:
            positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
            given |= {"attention_mask": self._mask, "position_ids": positions}
        return self._logits(given)

    def read(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocab"]:
        given: dict[str, Any] = {"input_ids": ids[:, None], "past_key_values": self._cache}
        if self._mask is not None:
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
            given |= {"attention_mask": self._mask, "position_ids": self._mask.sum(dim=1, keepdim=True) - 1}
        return self._logits(given)

    def _logits(self, given: dict[str, Any]) -> Float[Tensor, "rows vocab"]:
        step = self._lm(**given, use_cache=True)
        self._cache = step.past_key_values
        logits: Tensor = step.logits[:, -1].float()
        return logits


def text_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """The text of some tokens, without special ones; white space at its ends is kept."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text if isinstance(text, str) else "".join(text)


def _through_stop(ids: list[int], stop_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return ids[: end + 1]
