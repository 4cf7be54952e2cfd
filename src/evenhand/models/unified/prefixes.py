"""Many pictures behind one prefix. In: a prefix, then codes. Out: the hidden states in front of each code.

The prefix is read once; its keys and values are shared by every row of every batch that follows, without a copy kept.
Nothing is padded, because all rows of a batch begin with the same prefix. What a layer reads of the codes is forgotten
as soon as the layer is done.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from evenhand.models.unified.family import Family

__all__ = ["ReadPrefix", "SharedLayer"]


class ReadPrefix:
    """One prefix, read up to its last token, which is fed in front of the codes: from it follows the first code.

    Args:
        family: Its language model reads.
        prefix: Two tokens or more, as ``Family.prefix`` gives them.
    """

    def __init__(self, family: Family, prefix: tuple[int, ...]) -> None:
        ids = torch.tensor([prefix], device=family.model.device)
        embedded = family.embed(ids)
        self._family, self._length = family, len(prefix) - 1
        self._last: Float[Tensor, "1 1 hidden"] = embedded[:, -1:]
        cache: Any = DynamicCache()
        family.language_model(inputs_embeds=embedded[:, :-1], past_key_values=cache, use_cache=True)
        self._cache = Cache(layers=[SharedLayer(one.keys, one.values) for one in cache.layers])

    def states(
        self, written: Float[Tensor, "rows tokens hidden"], places: Int[Tensor, " codes"] | None
    ) -> Float[Tensor, "rows codes hidden"]:
        """Last hidden states in front of each code.

        Args:
            written: Embeddings of everything from the first code to the last.
            places: Where among it the codes are; None: everywhere.
        """
        fed = torch.cat([self._last.expand(len(written), -1, -1), written[:, :-1]], dim=1)
        positions = torch.arange(self._length, self._length + fed.shape[1], device=fed.device)
        out = self._family.language_model(
            inputs_embeds=fed, position_ids=positions[None], past_key_values=self._cache, use_cache=True
        )
        states: Tensor = out.last_hidden_state
        return states if places is None else states[:, places]


class SharedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of prefixes in one layer, (prefixes, heads, tokens, dimension); never changed."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._prefix_keys, self._prefix_values = self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the tensors are there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """A prefix in front of each row's new tokens, which are not kept; rows of one prefix stand together."""
        each = len(key_states) // len(self._prefix_keys)
        keys, values = (
            own[:, None].expand(-1, each, -1, -1, -1).flatten(0, 1) for own in (self._prefix_keys, self._prefix_values)
        )
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what a query of this length sees."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens of the prefix."""
        return int(self._prefix_keys.shape[2])

    def get_max_length(self) -> int:
        """No limit."""
        return -1
