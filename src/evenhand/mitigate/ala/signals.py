"""What the text carries and what it should. In: token ids; pictures. Out: alpha and s, in [-1, 1].

``WordScorer`` is an additive log-odds scorer over words (no training, exact attributions); ``FaceSignal`` asks a
face reader and makes no claim where it finds no face or faces that disagree; ``GivenSignal`` takes the caller's
word. The sign follows the attribute: positive is its first declared group.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.classify.faces import FaceReader
from evenhand.errors import BadInputError
from evenhand.records import Attribute, Claim

__all__ = ["FaceSignal", "GivenSignal", "PictureSignal", "WordScorer"]

_MOST_CERTAIN = 100.0
"""Nats; alpha is 1 in float32 long before, and a sum of such words stays finite."""


@runtime_checkable
class PictureSignal(Protocol):
    """Says what a text about a picture should carry.

    Attributes:
        settings: JSON values that say exactly what is asked.
    """

    settings: Mapping[str, object]

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """The claim for one picture; the picture is opened only if it is looked at."""
        ...


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


class FaceSignal:
    """The perceived gender of the faces found, where they agree.

    ``s = 2 P(male) - 1``, the least certain face's; no face, faces that disagree, or ``|s| < certain`` make no
    claim, so that the text is left as it is.

    Args:
        reader: Finds and reads faces.
        attribute: Its groups are the reader's; s is positive for the first.
        certain: The abstain band, in [0, 1).
    """

    def __init__(self, reader: FaceReader, attribute: Attribute, *, certain: float = 0.4) -> None:
        if not isfinite(certain) or not 0 <= certain < 1:
            raise BadInputError(f"certain: got {certain}; allowed: a number in [0, 1).")
        if set(attribute.groups) != set(reader.groups):
            raise BadInputError(
                f"attribute {attribute.name!r} has the groups {', '.join(attribute.groups)}; {reader.name} reads "
                f"{', '.join(reader.groups)} in a face; give another signal, or use neutral."
            )
        self._reader, self._certain, self._first = reader, certain, attribute.groups[0]
        self.settings: Mapping[str, object] = {
            "kind": "faces",
            "reader": reader.name,
            "sides": list(reader.sides),
            "certain": certain,
        }

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the faces of one picture say."""
        faces = self._reader.read(picture())
        if not faces:
            return Claim(None, "no face", 0)
        if len({face.group for face in faces}) > 1:
            return Claim(None, "faces disagree", len(faces))
        size = 2 * min(face.confidence for face in faces) - 1
        if size < self._certain:
            return Claim(None, "uncertain", len(faces))
        s = size if faces[0].group == self._first else -size
        return Claim(round(s, 6), "faces agree", len(faces))


class WordScorer:
    r"""Additive log-odds of the groups' tokens, with every earlier word's weight fading.

    .. math:: L_t = \sum_{j \le t} d^{\,t-j}\, w(y_j), \qquad \alpha = \tanh(L / 2)

    w is ``log_odds`` times the token's direction, from the same word list. With decay d = 1 the whole text counts
    (the paper's f_text reads the whole text), with d = 0 only the drafted token, so that an early word cannot hide a
    later contradiction.

    Args:
        log_odds: Nats a full-direction token gives for its group, in (0, 100].
        decay: d, per token, in [0, 1].
    """

    def __init__(self, *, log_odds: float = 4.0, decay: float = 0.0) -> None:
        if not isfinite(log_odds) or not 0 < log_odds <= _MOST_CERTAIN:
            raise BadInputError(
                f"log_odds: got {log_odds}; allowed: a number of nats in (0, {_MOST_CERTAIN:g}], for example 4."
            )
        if not isfinite(decay) or not 0 <= decay <= 1:
            raise BadInputError(f"decay: got {decay}; allowed: a number in [0, 1].")
        self.log_odds, self.decay = log_odds, decay
        self.settings: Mapping[str, object] = {"kind": "words", "log_odds": log_odds, "decay": decay}

    def alpha(
        self,
        written: Int[Tensor, "rows written"],
        drafted: Int[Tensor, " rows"],
        token_ids: Int[Tensor, " tokens"],
        direction: Float[Tensor, " tokens"],
    ) -> Float[Tensor, " rows"]:
        """What each row's text carries once its drafted token is added.

        Args:
            written: Vocabulary ids of the generated text so far; the prompt is not part of it.
            drafted: Index of the drafted token into ``token_ids``.
            token_ids: Unique, ascending.
            direction: In [-1, 1].
        """
        score = direction[drafted]
        length = written.shape[1]
        if length and self.decay > 0:
            place = torch.searchsorted(token_ids, written.contiguous()).clamp(max=token_ids.numel() - 1)
            carried = torch.where(token_ids[place] == written, direction[place], 0.0)
            age = torch.arange(length, 0, -1, device=written.device, dtype=carried.dtype)
            score = score + (carried * self.decay**age).sum(dim=1)
        return torch.tanh(score * (self.log_odds / 2))
