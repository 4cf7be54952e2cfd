"""What a classifier of pictures is, and what may stand in front of it. In: pictures. Out: a share per group; a face.

No base class: any object with these members qualifies. A classifier says how a person in a picture is *perceived*; it
knows no attribute and counts nothing, that is a labeller's: ``labeller.py`` over any classifier, ``people.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL.Image import Image

from evenhand.records import Attribute, Label, Sample

__all__ = ["CutFace", "FaceCutter", "Labeller", "PictureClassifier", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a classifier says of one picture.

    Attributes:
        shares: Of the classifier's groups in its order, each in [0, 1], of sum 1; None where it says nothing.
        reason: Where ``shares`` is None, why: ``no face``, ``several faces`` or ``uncertain``.
    """

    shares: tuple[float, ...] | None
    reason: str | None = None


@runtime_checkable
class PictureClassifier(Protocol):
    """Reads pictures.

    A reading does not depend on the other pictures, float rounding aside.

    Attributes:
        name: Shown in reports; another name for another classifier.
        groups: What it tells apart, in its own order.
        settings: JSON values that say exactly what reads the pictures. ``faces``, where it is there, are the settings
            of the face stage the classifier was fitted behind, or None for whole pictures.
    """

    name: str
    groups: tuple[str, ...]
    settings: Mapping[str, object]

    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per RGB picture, same order."""
        ...


@dataclass(frozen=True, slots=True)
class CutFace:
    """The face of one picture, ready to be read.

    Attributes:
        chip: RGB; None where there is no face to read.
        faces: Faces that count.
        reason: Where ``chip`` is None, why: ``no face`` or ``several faces``.
    """

    chip: Image | None
    faces: int
    reason: str | None = None


@runtime_checkable
class FaceCutter(Protocol):
    """Finds the face that is read.

    Attributes:
        settings: JSON values that say exactly what is cut.
    """

    settings: Mapping[str, object]

    def cut(self, picture: Image) -> CutFace:
        """The face of an RGB picture."""
        ...


@runtime_checkable
class Labeller(Protocol):
    """Says what pictures show.

    Attributes:
        attribute: Whose groups it tells apart.
        settings: JSON values that say exactly how.
    """

    attribute: Attribute
    settings: Mapping[str, object]

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; the samples come with their pictures."""
        ...
