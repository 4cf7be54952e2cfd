"""Rows of a language model that share prefixes. In: prefixes and embeddings. Out: last hidden states, step by step.

Each distinct prefix is read once and on its own, so that what a row knows of its prompt does not depend on its
neighbours; its keys and values are then copied into every row that begins with it. The cache is allocated once: a step
writes into it instead of copying it. Shorter prefixes are padded on the left, masked, and positions count real tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from evenhand.models.unified.family import Family

__all__ = ["PrefixedRows"]


class PrefixedRows:
    """The rows of one batch, after their prefixes.

    Args:
        family: Its language model is used.
        prefixes: One a row; equal ones are read once.
        room: Tokens that will be fed at most.

    Attributes:
        hidden: Last hidden state of each row, from which its next token follows.
    """

    def __init__(self, family: Family, prefixes: Sequence[tuple[int, ...]], *, room: int) -> None:
        self._family, self._device, self._fed = family, family.model.device, 0
        self._width = max(len(prefix) for prefix in prefixes)
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=self._device)
        self._lengths: Int[Tensor, "rows 1"] = lengths[:, None]
        owners: dict[tuple[int, ...], list[int]] = {}
        for row, prefix in enumerate(prefixes):
            owners.setdefault(prefix, []).append(row)
        layers: list[_RowLayer] = []
        states: list[Tensor] = [torch.empty(0)] * len(prefixes)
        for prefix, rows in owners.items():
            cache, hidden = self._read(prefix)
            if not layers:
                layers = [_RowLayer(one.keys, one.values, len(prefixes), self._width, room) for one in cache.layers]
            for layer, one in zip(layers, cache.layers, strict=True):
                layer.fill(rows, one.keys, one.values)
            for row in rows:
                states[row] = hidden
        self._cache = Cache(layers=[*layers])
        self._hidden_pads = self._mask_of_pads(prefixes, room, states[0].dtype)
        self.hidden: Float[Tensor, "rows hidden"] = torch.stack(states)

    def feed(self, embeddings: Float[Tensor, "rows new hidden"]) -> None:
        """Read one or a few tokens more in every row."""
        new = embeddings.shape[1]
        positions = self._lengths + torch.arange(self._fed, self._fed + new, device=self._device)
        out = self._family.language_model(
            inputs_embeds=embeddings,
            attention_mask=self._mask(new, embeddings.dtype),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._fed += new
        self.hidden = out.last_hidden_state[:, -1]

    def _read(self, prefix: tuple[int, ...]) -> tuple[Any, Tensor]:
        """The keys and values of one prefix, and the hidden state of its last token."""
        embeddings = self._family.embed(torch.tensor([prefix], device=self._device))
        out = self._family.language_model(inputs_embeds=embeddings, past_key_values=DynamicCache(), use_cache=True)
        return out.past_key_values, out.last_hidden_state[0, -1]

    def _mask_of_pads(self, prefixes: Sequence[tuple[int, ...]], room: int, dtype: torch.dtype) -> Tensor | None:
        """What is added to attention scores: 0, or the lowest number before a row begins; None without pads."""
        if all(len(prefix) == self._width for prefix in prefixes):
            return None
        places = torch.arange(self._width + room, device=self._device)
        before = places[None] < self._width - self._lengths
        return torch.zeros(before.shape, dtype=dtype, device=self._device).masked_fill(before, torch.finfo(dtype).min)[
            :, None, None, :
        ]

    def _mask(self, new: int, dtype: torch.dtype) -> Tensor | None:
        """The mask of one step, (rows, 1, new, seen); None where every row sees everything."""
        seen = self._width + self._fed + new
        pads = None if self._hidden_pads is None else self._hidden_pads[..., :seen]
        if new == 1:
            return pads
        ahead = torch.full((new, new), torch.finfo(dtype).min, dtype=dtype, device=self._device).triu(1)
        causal = torch.cat([torch.zeros(new, seen - new, dtype=dtype, device=self._device), ahead], dim=1)
        whole = causal if pads is None else torch.minimum(causal, pads)
        return whole.expand(self._lengths.shape[0], 1, new, seen)


class _RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, allocated for as many tokens as will come."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, rows: int, width: int, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._all_keys = keys.new_empty(rows, keys.shape[1], width + room, keys.shape[3])
        self._all_values = values.new_empty(rows, values.shape[1], width + room, values.shape[3])
        self.keys, self.values = self._all_keys, self._all_values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._width = self._length = width

    def fill(self, rows: Sequence[int], keys: Tensor, values: Tensor) -> None:
        """Copy one prefix, (1, heads, tokens, dimension), to the end of the prefix columns of its rows."""
        place = torch.tensor(list(rows), device=keys.device)
        before = self._width - keys.shape[2]
        for all_rows, own in ((self._all_keys, keys), (self._all_values, values)):
            all_rows[place, :, :before] = 0  # masked, but a NaN there would pass a mask
            all_rows[place, :, before : self._width] = own

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the tensors are there from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind the old ones, and give all."""
        end = self._length + key_states.shape[2]
        self._all_keys[:, :, self._length : end] = key_states
        self._all_values[:, :, self._length : end] = value_states
        self._length = end
        return self._all_keys[:, :, :end], self._all_values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what a query of this length sees."""
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use, padding included."""
        return self._length

    def get_max_length(self) -> int:
        """Columns there are."""
        return int(self._all_keys.shape[2])
