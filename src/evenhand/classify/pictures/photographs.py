"""Perceived gender in photographs. In: pictures. Out: shares from the one face each shows, or why there are none.

The face reader that ships finds and reads faces; a picture with none, or with several, is told as such. It was trained
on photographs: of drawings and avatars it finds few.
"""

from collections.abc import Mapping, Sequence

from PIL.Image import Image

from evenhand.classify.faces import Face, FaceReader
from evenhand.classify.pictures.protocol import Reading

__all__ = ["PhotographClassifier"]


class PhotographClassifier:
    """A ``PictureClassifier`` over ``FaceReader``.

    Args:
        background: A face whose box has less than this share of the largest one's area does not count, in [0, 1].

    Raises:
        MissingExtraError: The extra ``faces`` is not installed.
    """

    groups: tuple[str, ...] = FaceReader.groups

    def __init__(self, *, background: float = 0.1) -> None:
        self._reader, self._background = FaceReader(), background
        self.name = f"photographs/{self._reader.name}"
        # It looks for faces itself: pictures are given to it whole.
        self.settings: Mapping[str, object] = {**self._reader.settings, "background": background, "faces": None}

    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per RGB picture, same order."""
        return tuple(self._reading(self._reader.read(picture)) for picture in pictures)

    def _reading(self, faces: Sequence[Face]) -> Reading:
        areas = [_area(face) for face in faces]
        counted = [
            face for face, area in zip(faces, areas, strict=True) if area >= self._background * max(areas, default=0)
        ]
        if not counted:
            return Reading(None, "no face")
        if len(counted) > 1:
            return Reading(None, "several faces")
        face = counted[0]
        if face.group is None:
            return Reading(None, "uncertain")
        shares = {face.group: face.confidence}
        return Reading(tuple(shares.get(group, 1 - face.confidence) for group in self.groups))


def _area(face: Face) -> int:
    left, top, right, bottom = face.box
    return max(0, right - left) * max(0, bottom - top)
