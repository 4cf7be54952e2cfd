"""Labels pictures. In: samples with pictures, a classifier, an attribute. Out: one label per sample, nothing dropped.

    group = argmax_g share_g,   confidence = max_g share_g

``no face``, ``several faces``, ``uncertain`` and ``error`` are labels too, with group None: which of them belong into a
denominator (all, face, confident) is the metric's choice, and it needs all of them to make it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from PIL import Image

from evenhand.classify.pictures.protocol import FaceCutter, PictureClassifier, Reading
from evenhand.errors import ArtefactError, BadInputError, PictureError
from evenhand.pictures import decode_picture
from evenhand.records import Attribute, Label, Sample

__all__ = ["Judgement", "PictureLabeller"]

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a picture shows.

    Attributes:
        group: One of the attribute's groups, or None.
        reason: Where ``group`` is None, why.
        confidence: The largest share, in [0, 1]; 0 where nothing was read.
    """

    group: str | None
    reason: str | None
    confidence: float


class PictureLabeller:
    """Labels samples by what a classifier says of their pictures.

    Args:
        classifier: Reads pictures; its groups are the attribute's, in any order.
        attribute: Its groups.
        faces: Cuts the face that is read out of each picture; None reads whole pictures.
        confident: A largest share below this is ``uncertain``, in [0, 1]. At 0 every reading keeps its group and its
            confidence, so that a metric can still choose; only two groups of equal share are uncertain then.

    Raises:
        BadInputError: ``confident`` is out of its range, the groups differ, or the classifier was fitted on other
            parts of pictures (whole ones, other faces) than it would be given.
    """

    def __init__(
        self,
        classifier: PictureClassifier,
        attribute: Attribute,
        *,
        faces: FaceCutter | None = None,
        confident: float = 0.0,
    ) -> None:
        if not isfinite(confident) or not 0 <= confident <= 1:
            raise BadInputError(f"confident: got {confident}; allowed: a share in [0, 1], for example 0.8.")
        if len(classifier.groups) != len(attribute.groups) or set(classifier.groups) != set(attribute.groups):
            raise BadInputError(
                f"attribute {attribute.name!r} has the groups {', '.join(attribute.groups)}; {classifier.name} tells "
                f"{', '.join(classifier.groups)} apart. Give a classifier of these groups, or an attribute file that "
                "declares the classifier's."
            )
        given = None if faces is None else dict(faces.settings)
        if classifier.settings.get("faces", given) != given:
            raise BadInputError(
                f"{classifier.name} was fitted on faces cut with {classifier.settings['faces']}; it would be given "
                f"{given or 'whole pictures'}. Use the same face stage, or fit it again."
            )
        self.attribute = attribute
        self._classifier, self._faces, self._confident = classifier, faces, confident
        self.name = classifier.name
        self.settings: Mapping[str, object] = {
            **classifier.settings,
            "name": classifier.name,
            "faces": given,
            "confident": confident,
        }

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; a sample that failed, or whose picture cannot be read, is ``error``.

        Raises:
            BadInputError: A sample that did not fail has no picture.
            ArtefactError: The classifier gave shares that are not finite, negative or not of sum 1.
        """
        judged: list[Judgement] = []
        for start in range(0, len(samples), _AT_ONCE):
            batch = [_picture(sample) for sample in samples[start : start + _AT_ONCE]]
            told = iter(self.judge([one for one in batch if one is not None]))
            judged += [Judgement(None, "error", 0.0) if one is None else next(told) for one in batch]
        name = self.attribute.name
        return tuple(
            Label(sample.prompt_id, sample.k, name, one.group, one.reason, one.confidence)
            for sample, one in zip(samples, judged, strict=True)
        )

    def judge(self, pictures: Sequence[Image.Image]) -> tuple[Judgement, ...]:
        """What each RGB picture shows, same order.

        Raises:
            ArtefactError: As ``label``.
        """
        cut = [self._faces.cut(one) if self._faces else None for one in pictures]
        seen = [face.chip if face else one for face, one in zip(cut, pictures, strict=True)]
        told = iter(self._read([one for one in seen if one is not None]))
        return tuple(
            Judgement(None, face.reason, 0.0) if face and face.chip is None else self._judgement(next(told))
            for face in cut
        )

    def _read(self, seen: Sequence[Image.Image]) -> tuple[Reading, ...]:
        read = self._classifier.read(seen) if seen else ()
        if len(read) != len(seen):
            raise ArtefactError(f"{self.name}: {len(seen)} pictures gave {len(read)} readings; allowed: one for each.")
        return read

    def _judgement(self, reading: Reading) -> Judgement:
        if reading.shares is None:
            return Judgement(None, reading.reason or "uncertain", 0.0)
        shares = reading.shares
        wanted = len(self._classifier.groups)
        sound = all(isfinite(one) and one >= 0 for one in shares) and abs(sum(shares) - 1) <= 1e-3
        if len(shares) != wanted or not sound:
            raise ArtefactError(
                f"{self.name}: gave the shares {shares}; allowed: {wanted} numbers in [0, 1] of sum 1. Its weights may "
                "hold NaN or be too large for their float type; load it anew, in float32."
            )
        runner_up, top = sorted(shares)[-2:]
        if top < self._confident or top == runner_up:
            return Judgement(None, "uncertain", min(top, 1.0))
        return Judgement(self._classifier.groups[shares.index(top)], None, min(top, 1.0))


def _picture(sample: Sample) -> Image.Image | None:
    """The picture of a sample; None where there is none to read."""
    if sample.error is not None:
        return None
    if sample.image is None:
        raise BadInputError(
            f"sample {sample.k} of {sample.prompt_id!r} has no picture in memory; load the run with its pictures, or "
            "give samples of a model that draws."
        )
    try:
        return decode_picture(sample.image)
    except PictureError:
        return None
