"""What a server makes of seeds. In: a way to ask. Out: whether the same seed gives the same picture.

One prompt is drawn twice with one seed and once with another: three paid pictures.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["PICTURES", "SeedCheck", "check_seeds"]

PICTURES = 3
_PROMPT = "a red apple on a white table"
_SEEDS = (11, 11, 12)


@dataclass(frozen=True, slots=True)
class SeedCheck:
    """What three pictures said.

    Attributes:
        honoured: The same seed gave the same pixels, another seed gave others.
        reason: In words.
        pictures: How many were drawn.
    """

    honoured: bool
    reason: str
    pictures: int


def check_seeds(draw: Callable[[str, int], bytes], takes_seed: Callable[[], bool]) -> SeedCheck:
    """Draw and compare; stops after one picture where no seed is taken.

    A server that keeps its answers and gives the kept one for the same request passes too: it replays.

    Args:
        draw: A PNG file of a prompt and a seed as it is sent; what it raises is raised.
        takes_seed: Whether the field is (still) sent.
    """
    drawn: list[np.ndarray] = []
    for seed in _SEEDS:
        png = draw(_PROMPT, seed)
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            drawn.append(np.asarray(picture, dtype=np.int16))
        if not takes_seed():
            return SeedCheck(False, "the server takes no seed", len(drawn))
    first, again, other = drawn
    if first.shape != again.shape:
        return SeedCheck(False, "the same seed gave pictures of two sizes", PICTURES)
    if not np.array_equal(first, again):
        apart = float(np.abs(first - again).mean())
        said = f"the same seed gave two pictures, {apart:.2f} of 255 levels apart on average"
        return SeedCheck(False, said, PICTURES)
    if np.array_equal(first, other):
        return SeedCheck(False, "another seed gave the same picture: the seed has no effect", PICTURES)
    return SeedCheck(True, "the same seed gave the same picture, another seed another", PICTURES)
