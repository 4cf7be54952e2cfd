"""What a metric of picture quality is. In: pictures, with the texts they were asked for. Out: rows of numbers.

No base class: any object with these members qualifies. Rows and ``settings`` go to ``quality_estimates`` of
:mod:`evenhand.metrics.picture_quality`; no picture is kept, so any number can be measured batch by batch.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from evenhand.errors import BadInputError

__all__ = ["PictureExtractor", "QualityMetric", "TextExtractor", "check_texts", "checked_rows"]


@runtime_checkable
class PictureExtractor(Protocol):
    """Numbers of pictures: a plain function will do. A row does not depend on the other pictures."""

    def __call__(self, pictures: Sequence[Image], /) -> Float[np.ndarray, "pictures features"]:
        """One row per RGB picture, same order, finite."""
        ...


@runtime_checkable
class TextExtractor(Protocol):
    """Numbers of texts, in the same space as the pictures': a plain function will do."""

    def __call__(self, texts: Sequence[str], /) -> Float[np.ndarray, "texts features"]:
        """One row per text, same order, finite."""
        ...


@runtime_checkable
class QualityMetric(Protocol):
    """Measures pictures one by one.

    Attributes:
        name: ``CLIP-S``, ``CLIP-IQA``, ``Inception Score`` or another that is shown in reports.
        settings: JSON values that say exactly what is measured, and how the rows become estimates:

            - ``statistic``: ``mean``, or ``inception score`` for rows of class scores;
            - ``columns``: names of the columns that are measured, for ``mean``; ``cut`` marks texts that were cut;
            - ``largest``: of each column, for ``mean``;
            - ``splits``: for ``inception score``;
            - ``formula``, ``weights`` and ``sha256`` (None where nothing was loaded): named in each estimate.
    """

    name: str
    settings: Mapping[str, object]

    def rows(self, pictures: Sequence[Image], texts: Sequence[str]) -> Float[np.ndarray, "pictures columns"]:
        """One row per RGB picture, same order.

        Args:
            pictures: Any number; no pictures give no rows.
            texts: What each picture was asked for.
        """
        ...


def check_texts(pictures: Sequence[Image], texts: Sequence[str], *, who: str) -> None:
    """Refuse lists of different length.

    Raises:
        BadInputError: They are.
    """
    if len(texts) != len(pictures):
        raise BadInputError(f"{who}: got {len(texts)} texts for {len(pictures)} pictures; give one per picture.")


def checked_rows(found: object, wanted: int, *, who: str) -> Float[np.ndarray, "rows columns"]:
    """What an extractor gave, if it is one finite row each.

    Raises:
        BadInputError: It is not.
    """
    if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != wanted or found.dtype.kind != "f":
        shape = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise BadInputError(f"{who}: gave {shape} for {wanted} inputs; allowed: an array of floats, one row each.")
    if not np.isfinite(found).all():
        raise BadInputError(f"{who}: gave NaN or infinity; allowed: finite numbers. Look at the extractor's weights.")
    return found
