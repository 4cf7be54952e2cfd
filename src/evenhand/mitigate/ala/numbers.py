"""What a step on CPU works out in Python's numbers. In: numbers of one row. Out: numbers."""

from collections.abc import Sequence
from math import exp, expm1, inf, log, log1p

__all__ = ["log_moved_of", "log_sum", "softmax"]


def log_moved_of(nats: float) -> float:
    """``kernel.log_moved`` of one number, >= 0."""
    return log(-expm1(-nats)) if nats > 0 else -inf


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
