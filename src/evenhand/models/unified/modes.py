"""What a model is in while it draws or is scored. In: a model. Out: the same, in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for a while: no dropout, no batch statistics, and a cache also under gradient checkpointing."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
