"""Which state of the token weights each row is in. In: what is written. Out: a row of the weights' tables."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["States"]


class States:
    """``TokenWeights.states``; on CPU most texts are seen at one look not to be inside a word of several pieces.

    Args:
        weights: On any device; ``listed`` is for CPU.
    """

    def __init__(self, weights: TokenWeights) -> None:
        self._weights = weights
        self._inner = frozenset((weights.keys & 0xFFFFFFFF).tolist())

    def to(self, device: torch.device) -> None:
        """Move the tables to a device."""
        self._weights = self._weights.to(device)

    def of(self, written: Int[Tensor, "rows written"]) -> Int[Tensor, " rows"]:
        """The state of each row."""
        if written.device.type == "cpu" and written.shape[1] and self._inner.isdisjoint(written[:, -1].tolist()):
            return torch.zeros(len(written), dtype=torch.int64)
        return self._weights.states(written)

    def listed(self, written: Sequence[Sequence[int]]) -> list[int]:
        """The same of lists of ids, as a list; for CPU."""
        if all(row and row[-1] not in self._inner for row in written):
            return [0] * len(written)
        states: list[int] = self._weights.states(torch.tensor(written, dtype=torch.int64)).tolist()
        return states
