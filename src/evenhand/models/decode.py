"""Greedy decoding from prefix embeddings. In: a causal LM and a prefix per row. Out: token ids per row.

One loop with a KV cache. It differs from transformers' ``generate`` in one thing: after a hook has corrected a
token, the model may be fed the token it drafted instead of the one that was emitted (``continuation="draft"``).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

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
    hook: LogitsHook | None = None,
    continuation: Continuation = "emitted",
) -> list[list[int]]:
    """The most likely continuation of each row, ended by and including its stop token.

    Rows do not touch each other; all prefixes have one length, so no padding enters the model.

    Args:
        lm: A transformers causal LM.
        prefix: Input embeddings.
        stop_ids: A row ends with the first of these.
        max_new_tokens: A row ends after this many tokens at the latest.
        hook: Called on every step's logits.
        continuation: What the model is fed after a token the hook changed.
    """
    rows, device = prefix.shape[0], prefix.device
    stops = torch.tensor(sorted(stop_ids), device=device)
    filler = int(stops[0])
    emitted = torch.empty(rows, 0, dtype=torch.long, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    step = lm(inputs_embeds=prefix, use_cache=True)
    for _ in range(max_new_tokens):
        logits = step.logits[:, -1].float()
        # An ended row only repeats a stop token, so that no hook acts on it.
        logits[ended] = -torch.inf
        logits[ended, filler] = 0.0
        scores = logits if hook is None else hook(emitted, logits)
        chosen = scores.argmax(dim=-1)
        emitted = torch.cat([emitted, chosen[:, None]], dim=1)
        ended = ended | torch.isin(chosen, stops)
        if bool(ended.all()):
            break
        drafted = hook.drafted() if hook is not None and continuation == "draft" else None
        fed = chosen if drafted is None else torch.where(drafted < 0, chosen, drafted)
        step = lm(input_ids=fed[:, None], past_key_values=step.past_key_values, use_cache=True)
    return [_through_stop(row, stop_ids) for row in emitted.tolist()]


def text_of(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """The text of some tokens, without special ones; white space at its ends is kept."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text if isinstance(text, str) else "".join(text)


def _through_stop(ids: list[int], stop_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return ids[: end + 1]
