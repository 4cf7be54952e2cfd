r"""How good a picture looks to CLIP. In: pictures. Out: for each pair of opposite texts a number in [0, 1].

Wang et al. 2023 (arXiv:2207.12396), section 3: with :math:`t_1, t_2` the unit features of "Good photo." and
"Bad photo.", :math:`v` the picture's and a scale of 100 (CLIP's trained temperature, as in torchmetrics),

.. math:: \frac{e^{100 \cos(v, t_1)}}{e^{100 \cos(v, t_1)} + e^{100 \cos(v, t_2)}}

1 is the first text, 0 the second, 0.5 neither. The paper takes a CLIP with a ResNet-50, leaves out its positional
embedding and feeds pictures at their own size; so does torchmetrics with its default weights (piq's ``clip_iqa``). With
CLIP's vision transformers torchmetrics keeps the positional embedding and resizes, and that is the default here, with
the same numbers. ``positions=False`` is the paper's way for a vision transformer. The result says which it was.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64
from PIL.Image import Image

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.models.picture_quality.clip_score import unit_rows
from evenhand.models.picture_quality.protocol import PictureExtractor, TextExtractor, check_texts

__all__ = ["PAIRS", "ClipIqa", "load_clip_iqa"]

PAIRS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "quality": ("Good photo.", "Bad photo."),
        "brightness": ("Bright photo.", "Dark photo."),
        "noisiness": ("Clean photo.", "Noisy photo."),
        "colourfulness": ("Colorful photo.", "Dull photo."),
        "sharpness": ("Sharp photo.", "Blurry photo."),
        "contrast": ("High contrast photo.", "Low contrast photo."),
        "natural": ("Natural photo.", "Synthetic photo."),
        "real": ("Real photo.", "Abstract photo."),
    }
)
"""Name -> the text that counts as 1 and the one that counts as 0."""


class ClipIqa:
    """CLIP-IQA: a ``QualityMetric`` with one column per pair; ``CLIP-IQA`` is that of ``quality``.

    Args:
        pictures: Features of pictures.
        texts: Features of texts, in the same space; asked once, here.
        weights: Name of what the features come from.
        sha256: Of its weights; None where nothing was loaded.
        pairs: Name -> texts.
        scale: What cosines are multiplied by, above 0.
        positions: What is said of the positional embedding in the settings.

    Raises:
        BadInputError: No pair, a pair of one text, a scale out of range, or features that are not what is wanted.
    """

    def __init__(
        self,
        pictures: PictureExtractor,
        texts: TextExtractor,
        *,
        weights: str,
        sha256: str | None = None,
        pairs: Mapping[str, tuple[str, str]] = MappingProxyType({"quality": PAIRS["quality"]}),
        scale: float = 100.0,
        positions: str = "as the extractor does",
    ) -> None:
        if not pairs or any(first == second for first, second in pairs.values()):
            raise BadInputError(f"pairs: got {dict(pairs)}; allowed: at least one pair of two different texts.")
        if not 0.0 < scale < float("inf"):
            raise BadInputError(f"scale: got {scale}; allowed: above 0; 100 is CLIP's.")
        self.name = "CLIP-IQA"
        self._pictures, self._scale = pictures, scale
        said = [text for pair in pairs.values() for text in pair]
        self._anchors = unit_rows(texts(said), len(said), who="CLIP-IQA, texts")
        self.settings: Mapping[str, object] = {
            "kind": self.name,
            "formula": f"softmax over {scale:g} cos of opposite texts; positional embedding {positions}",
            "weights": weights,
            "sha256": sha256,
            "statistic": "mean",
            "columns": [self.name if name == "quality" else f"{self.name} {name}" for name in pairs],
            "largest": 1.0,
            "pairs": {name: list(pair) for name, pair in pairs.items()},
        }

    def rows(self, pictures: Sequence[Image], texts: Sequence[str]) -> Float64[np.ndarray, "pictures columns"]:
        """One number per picture and pair, in [0, 1]; ``texts`` have no effect.

        Raises:
            BadInputError: Not one text per picture, or features that are not what is wanted.
        """
        check_texts(pictures, texts, who=self.name)
        if not pictures:
            return np.zeros((0, len(self._anchors) // 2))
        shown = unit_rows(self._pictures(pictures), len(pictures), who="CLIP-IQA, pictures")
        if shown.shape[1] != self._anchors.shape[1]:
            raise BadInputError(
                f"CLIP-IQA: pictures have {shown.shape[1]} features and texts {self._anchors.shape[1]}; give both of "
                "one model."
            )
        cosine = shown @ self._anchors.T
        margin: Float64[np.ndarray, "pictures columns"] = self._scale * (cosine[:, ::2] - cosine[:, 1::2])
        shares: Float64[np.ndarray, "pictures columns"] = np.exp(-np.logaddexp(0.0, -margin))
        return shares


def load_clip_iqa(
    path: str | None,
    *,
    device: str = "cpu",
    revision: str | None = None,
    pairs: str = "quality",
    scale: float = 100.0,
    positions: bool = True,
) -> ClipIqa:
    """CLIP-IQA with the weights of a folder or a hub id; code that comes with a model is not run.

    Args:
        path: As for :func:`evenhand.models.picture_quality.clip_score.load_clip_scorer`.
        device: Where the model runs.
        revision: Commit, tag or branch on the hub.
        pairs: Names of ``PAIRS`` with commas between them; or your own texts, ``Calm photo.|Wild photo.``.
        scale: What cosines are multiplied by.
        positions: Keep the positional embedding and the model's own picture size. False leaves it out and feeds
            pictures at their own size, as the paper does.

    Raises:
        BadInputError: No such folder or hub id, or an option that is not allowed.
        ArtefactError: Not such a model, no safetensors, incomplete, or NaN in its weights.
        MissingExtraError: torch or transformers is not installed.
    """
    wanted = _pairs(pairs)
    if path is None:
        raise BadInputError("clip-iqa: no weights; give clip-iqa:FOLDER or clip-iqa:HUB_ID of a CLIP or SigLIP.")
    try:
        from evenhand.models.picture_quality.clip_features import load_clip_features
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch or transformers", "quality") from error
    features = load_clip_features(path, device=device, revision=revision, positions=positions)
    return ClipIqa(
        features.of_pictures,
        features.of_texts,
        weights=features.weights,
        sha256=features.sha256,
        pairs=wanted,
        scale=scale,
        positions="kept" if positions else "left out, pictures at their own size",
    )


def _pairs(asked: str) -> dict[str, tuple[str, str]]:
    if "|" in asked:
        first, _, second = (part.strip() for part in asked.partition("|"))
        if not first or not second or "|" in second:
            raise BadInputError(f"pairs: got {asked!r}; allowed: two texts, 'Calm photo.|Wild photo.'.")
        return {f"{first} {second}": (first, second)}
    names = [name.strip() for name in asked.split(",")]
    unknown = [name for name in names if name not in PAIRS]
    if unknown or len(set(names)) < len(names):
        raise BadInputError(
            f"pairs: got {asked!r}; allowed: each once, of {', '.join(PAIRS)}; or two texts with | between them."
        )
    return {name: PAIRS[name] for name in names}
