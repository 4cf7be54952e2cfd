"""Runs batches in this process. In: a function and batches. Out: each batch's result, in order.

An executor is any callable of this form; one that spreads batches over machines may yield them in any order.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["run_locally"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def run_locally(work: Callable[[Batch], Result], batches: Sequence[Batch]) -> Iterator[Result]:
    """Yield each batch's result when it is finished, so that the caller can store it before the next begins."""
    for batch in batches:
        yield work(batch)
