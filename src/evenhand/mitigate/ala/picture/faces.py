"""What the faces of a picture say. In: a picture. Out: a claim where the people shown agree, else none and why."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Literal, get_args

from PIL.Image import Image

from evenhand.classify.faces import Face, FaceReader
from evenhand.errors import BadInputError
from evenhand.records import Attribute, Claim

__all__ = ["FaceSignal", "People"]

People = Literal["agree", "largest"]
"""Who a claim is about: everyone whose face counts, or the largest face alone."""


class FaceSignal:
    """The perceived gender of the faces found, where they agree.

    ``s = 2 P(male) - 1``, the least certain face's; no face, faces that disagree, or ``|s| < certain`` make no
    claim, so that the text is left as it is. A face much smaller than the largest is somebody in the background and
    does not count. Where what is rather a face than not, but was not read, is larger than every face that was, the
    text may be about that person: no claim.

    Args:
        reader: Finds and reads faces.
        attribute: Its groups are the reader's; s is positive for the first.
        certain: The abstain band, in [0, 1).
        people: ``agree``: everyone whose face counts must be perceived alike. ``largest``: the largest face speaks
            for the picture.
        background: A face whose area is below this share of the largest face's does not count, in [0, 1]; 0.1 is
            about a third of its height.

    Raises:
        BadInputError: An option is out of its range, or the attribute has other groups than the reader.
    """

    def __init__(
        self,
        reader: FaceReader,
        attribute: Attribute,
        *,
        certain: float = 0.4,
        people: People = "agree",
        background: float = 0.1,
    ) -> None:
        if not isfinite(certain) or not 0 <= certain < 1:
            raise BadInputError(f"certain: got {certain}; allowed: a number in [0, 1).")
        if people not in get_args(People):
            raise BadInputError(f"people: got {people!r}; allowed: {', '.join(get_args(People))}.")
        if not isfinite(background) or not 0 <= background <= 1:
            raise BadInputError(f"background: got {background}; allowed: a share in [0, 1].")
        if set(attribute.groups) != set(reader.groups):
            raise BadInputError(
                f"attribute {attribute.name!r} has the groups {', '.join(attribute.groups)}; {reader.name} reads "
                f"{', '.join(reader.groups)} in a face; give another signal, or use neutral."
            )
        self._reader, self._certain, self._first = reader, certain, attribute.groups[0]
        self._people, self._background = people, background
        self.settings: Mapping[str, object] = {
            "kind": "faces",
            **reader.settings,
            "certain": certain,
            "people": people,
            "background": background,
        }

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the faces of one picture say; ``Claim.faces`` counts all that were found and read."""
        told = self._reader.read(picture())
        found = tuple(face for face in told if face.group is not None)
        if not found:
            return Claim(None, "no face", 0)
        if max(told, key=_area).group is None:
            return Claim(None, "the largest face is unread", len(found))
        faces = self._counted(found)
        if len({face.group for face in faces}) > 1:
            return Claim(None, "faces disagree", len(found))
        size = 2 * min(face.confidence for face in faces) - 1
        if size < self._certain:
            return Claim(None, "uncertain", len(found))
        s = round(size if faces[0].group == self._first else -size, 6)
        return Claim(s, "faces agree", len(found), (round((1 + s) / 2, 6), round((1 - s) / 2, 6)))

    def _counted(self, found: tuple[Face, ...]) -> tuple[Face, ...]:
        largest = max(found, key=_area)
        if self._people == "largest":
            return (largest,)
        return tuple(face for face in found if _area(face) >= self._background * _area(largest))


def _area(face: Face) -> int:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
