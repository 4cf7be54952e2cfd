"""Which state of the token weights each row is in. In: what is written. Out: a row of the weights' tables."""

import torch
from jaxtyping import Int
from torch import Tensor

from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["States"]


class States:
    """``TokenWeights.states``; on CPU most texts are seen at one look not to be inside a listed word.

    Args:
        weights: On CPU.
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
