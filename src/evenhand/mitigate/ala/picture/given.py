"""A target given by the caller. In: s. Out: the same claim for every picture."""

from collections.abc import Callable, Mapping
from math import isfinite

from PIL.Image import Image

from evenhand.errors import BadInputError
from evenhand.records import Claim

__all__ = ["GivenSignal"]


class GivenSignal:
    """The same target for every picture, given by the caller.

    Args:
        s: In [-1, 1].

    Raises:
        BadInputError: ``s`` is NaN or out of range.
    """

    def __init__(self, s: float) -> None:
        if not isfinite(s) or abs(s) > 1:
            raise BadInputError(f"s: got {s}; allowed: a number in [-1, 1], negative for the second group.")
        self._claim = Claim(float(s), "given")
        self.settings: Mapping[str, object] = {"kind": "given", "s": float(s)}

    def claim(self, picture: Callable[[], Image]) -> Claim:  # noqa: ARG002  (the protocol's signature)
        """The given target."""
        return self._claim
