"""A model that never learned to see. In: a family, a seed. Out: its picture side with shuffled weights, for a while.

Every tensor keeps its numbers and loses their order: what can still be read from such features is in the architecture
and in the pixels, not in what the encoder was taught.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evenhand.errors import BadInputError
from evenhand.models.unified.family import Family

__all__ = ["shuffled_pictures"]


@contextmanager
def shuffled_pictures(family: Family, *, seed: int) -> Iterator[None]:
    """Each floating-point tensor of ``family.picture_modules`` has its entries in another order until the block ends.

    The same seed gives the same order on every device. The weights come back whatever happens in the block; until then
    they are in memory twice.

    Raises:
        BadInputError: The seed is negative.
    """
    if seed < 0:
        raise BadInputError(f"seed: got {seed}; allowed: 0 and more.")
    held = [each for module in family.picture_modules for each in (*module.parameters(), *module.buffers())]
    found = list({id(each): each for each in held if each.is_floating_point()}.values())  # a shared one once
    kept = [each.detach().clone() for each in found]
    drawn_by = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for each, own in zip(found, kept, strict=True):
                order = torch.randperm(own.numel(), generator=drawn_by).to(own.device)
                each.copy_(own.reshape(-1)[order].view_as(own))
        yield
    finally:
        with torch.no_grad():
            for each, own in zip(found, kept, strict=True):
                each.copy_(own)
