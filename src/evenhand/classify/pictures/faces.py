"""Cuts the face out of a picture. In: a picture. Out: a square chip of its largest face, or why there is none.

The chip is that of Shen et al. 2024 (arXiv 2311.07604): the box of the largest face, its area counted inside the
picture, made square around its middle with a side of 1.5 times the box's longer side, black where it reaches outside,
scaled to 224 pixels. Their box comes from another face finder, so chips are alike and not equal; scaling is Pillow's.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Literal, get_args

from PIL.Image import Image, Resampling

from evenhand.classify.face_finder import FaceFinder
from evenhand.classify.pictures.protocol import CutFace
from evenhand.errors import BadInputError

__all__ = ["FaceStage", "Several", "square_chip"]

Several = Literal["unknown", "largest"]
"""What several faces make of a picture: unknown, or a picture of the largest (Shen et al.)."""

_SIDE = 1024  # a picture whose longer side has more pixels is searched in a smaller copy


class FaceStage:
    """Finds the face that is read.

    Args:
        several: ``unknown``: a picture with several faces is ``several faces``. ``largest``: its largest is read.
        background: A face whose area is below this share of the largest's is somebody in the background and does not
            count, in [0, 1].
        expand: How much longer the chip's side is than the box's longer side, as a share of it, at least 0.
        side: Pixels of the chip's side.
        smallest: Sides of the smallest face looked for, as shares of the picture's longer side, descending; searched
            at the next only where there is none.
        sure: Scores, in (0, 1), that a box needs to pass each of the finder's three networks.

    Raises:
        BadInputError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        several: Several = "unknown",
        background: float = 0.1,
        expand: float = 0.5,
        side: int = 224,
        smallest: Sequence[float] = (0.08, 0.03),
        sure: Sequence[float] = (0.7, 0.7, 0.9),
    ) -> None:
        if several not in get_args(Several):
            raise BadInputError(f"several: got {several!r}; allowed: {', '.join(get_args(Several))}.")
        if not isfinite(background) or not 0 <= background <= 1:
            raise BadInputError(f"background: got {background}; allowed: a share in [0, 1].")
        if not isfinite(expand) or not 0 <= expand <= 4:
            raise BadInputError(f"expand: got {expand}; allowed: a number in [0, 4], for example 0.5.")
        if not 16 <= side <= 2048:
            raise BadInputError(f"side: got {side}; allowed: 16 to 2048 pixels.")
        falling = all(first > second for first, second in pairwise(smallest))
        if not smallest or not falling or not all(0.02 <= one <= 0.5 for one in smallest):
            raise BadInputError(f"smallest {list(smallest)}: give descending shares of the longer side in [0.02, 0.5].")
        self._finder = FaceFinder(sure=sure)
        self._several, self._background, self._smallest = several, background, tuple(smallest)
        self._expand, self._side = expand, side
        self.settings: Mapping[str, object] = {
            "finder": self._finder.name,
            "several": several,
            "background": background,
            "expand": expand,
            "side": side,
            "smallest": [float(one) for one in smallest],
            "sure": list(self._finder.sure),
        }

    def cut(self, picture: Image) -> CutFace:
        """The face of an RGB picture. Safe to call from threads."""
        boxes = self._boxes(picture)
        areas = [_area_inside(box, picture.size) for box in boxes]
        largest = max(areas, default=0.0)
        if largest <= 0:
            return CutFace(None, 0, "no face")
        counted = sum(area >= self._background * largest for area in areas)
        if counted > 1 and self._several == "unknown":
            return CutFace(None, counted, "several faces")
        box = boxes[areas.index(largest)]
        return CutFace(square_chip(picture, box, expand=self._expand, side=self._side), counted)

    def _boxes(self, picture: Image) -> list[tuple[float, float, float, float]]:
        scale = min(1.0, _SIDE / max(picture.size))
        searched = picture
        if scale < 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            searched = picture.resize(size, Resampling.BILINEAR, reducing_gap=2.0)
        for smallest in self._smallest:
            found = self._finder.find(searched, smallest=smallest)
            if found:
                return [
                    (one.box[0] / scale, one.box[1] / scale, one.box[2] / scale, one.box[3] / scale) for one in found
                ]
        return []


def square_chip(picture: Image, box: tuple[float, float, float, float], *, expand: float, side: int) -> Image:
    """The square around a box's middle, with a side of ``1 + expand`` times the box's longer side, scaled to ``side``.

    Args:
        picture: RGB; what lies outside it is black.
        box: left, top, right, bottom in pixels of the picture.
        expand: At least 0.
        side: Pixels of the chip's side.
    """
    left, top, right, bottom = box
    half = (1 + expand) * max(right - left, bottom - top) / 2
    middle = (left + right) / 2, (top + bottom) / 2
    edges = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    x0, y0, x1, y1 = (round(edge) for edge in edges)
    chip = picture.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
    return chip.resize((side, side), Resampling.BILINEAR)


def _area_inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> float:
    wide = min(box[2], size[0]) - max(box[0], 0)
    high = min(box[3], size[1]) - max(box[1], 0)
    return max(wide, 0.0) * max(high, 0.0)
