"""Features of two groups that differ in known dimensions."""

import torch
from torch import Tensor

__all__ = ["planted"]


def planted(
    rows: int, width: int, telling: list[int], *, seed: int, shift: float = 1.5, spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Noise of unit variance; in the telling dimensions group 1 lies ``2 * shift`` above group 0."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    features = torch.randn(rows, width, generator=draw)
    features[:, telling] = spread * features[:, telling] + shift * (2.0 * labels[:, None] - 1)
    return features, labels
