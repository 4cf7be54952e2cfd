"""What a step on CPU works out in Python's numbers. In: numbers of one row. Out: numbers."""

from collections.abc import Sequence
from math import exp, log1p

__all__ = ["log_sum", "softmax"]


def log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other)); one of them finite."""
    high, low = (one, other) if one > other else (other, one)
    return high + log1p(exp(low - high))


def softmax(logits: Sequence[float]) -> list[float]:
    """Shares in [0, 1] of sum 1; all finite."""
    most = max(logits)
    sizes = [exp(one - most) for one in logits]
    total = sum(sizes)
    return [size / total for size in sizes]
