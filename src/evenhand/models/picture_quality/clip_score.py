r"""How well a picture fits its text. In: pictures and their texts. Out: one CLIP-S each.

Hessel et al. 2021 (arXiv:2104.08718), section 3: :math:`w \max(\cos(v, t), 0)` with the unit features of picture and
text. Two scales are in use, and the weights move the number more than most models do, so both are named in the result:

- ``torchmetrics`` (default): w = 100 and the text as it is; range 0 to 100. What papers on generation report.
- ``paper``: w = 2.5 and "A photo depicts " before the text; range 0 to 2.5. The paper's weights are ViT-B/32.

Negative cosines count as 0 picture by picture, as in the paper; torchmetrics clips the mean over all pictures only.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Float64
from PIL.Image import Image

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.models.picture_quality.protocol import PictureExtractor, TextExtractor, check_texts, checked_rows

__all__ = ["FORMULAS", "ClipScore", "load_clip_scorer", "unit_rows"]

FORMULAS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {"torchmetrics": (100.0, ""), "paper": (2.5, "A photo depicts ")}
)
"""Name -> w and what is put before each text."""


class ClipScore:
    """CLIP-S: a ``QualityMetric``.

    Args:
        pictures: Features of pictures.
        texts: Features of texts, in the same space.
        weights: Name of what the features come from.
        sha256: Of its weights; None where nothing was loaded.
        formula: A name of ``FORMULAS``.
        cut: Says of texts whether they are too long and will be cut; None where none is.
        limit: Tokens of the longest text, named where texts are cut.

    Raises:
        BadInputError: No such formula.
    """

    def __init__(
        self,
        pictures: PictureExtractor,
        texts: TextExtractor,
        *,
        weights: str,
        sha256: str | None = None,
        formula: str = "torchmetrics",
        cut: Callable[[Sequence[str]], Bool[np.ndarray, " texts"]] | None = None,
        limit: int | None = None,
    ) -> None:
        if formula not in FORMULAS:
            raise BadInputError(f"formula: got {formula!r}; allowed: {', '.join(FORMULAS)}.")
        self._pictures, self._texts, self._cut = pictures, texts, cut
        self._scale, self._prefix = FORMULAS[formula]
        self.name = "CLIP-S"
        before = f" with {self._prefix!r} before each text" if self._prefix else ""
        self.settings: Mapping[str, object] = {
            "kind": self.name,
            "formula": f"{self._scale:g} max(cos, 0){before}",
            "weights": weights,
            "sha256": sha256,
            "statistic": "mean",
            "columns": [self.name, "cut"] if cut else [self.name],
            "largest": self._scale,
            "long_texts": "refused or as the extractor does" if cut is None else f"cut to {limit} tokens",
        }

    def rows(self, pictures: Sequence[Image], texts: Sequence[str]) -> Float64[np.ndarray, "pictures columns"]:
        """One CLIP-S per picture; where texts may be cut, 1 or 0 in a second column.

        Raises:
            BadInputError: Not one text per picture, a text that is too long, or features that are not what is wanted.
        """
        check_texts(pictures, texts, who=self.name)
        if not pictures:
            return np.zeros((0, 2 if self._cut else 1))
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        place = np.array([distinct[text] for text in texts])
        said = [self._prefix + text for text in distinct]
        shown = unit_rows(self._pictures(pictures), len(pictures), who="CLIP-S, pictures")
        asked = unit_rows(self._texts(said), len(said), who="CLIP-S, texts")
        if shown.shape[1] != asked.shape[1]:
            raise BadInputError(
                f"CLIP-S: pictures have {shown.shape[1]} features and texts {asked.shape[1]}; give both of one model."
            )
        cosine = (shown * asked[place]).sum(axis=1)
        columns = [self._scale * np.clip(cosine, 0.0, 1.0)]
        if self._cut is not None:
            columns.append(self._cut(said)[place].astype(np.float64))
        return np.stack(columns, axis=1)


def load_clip_scorer(
    path: str | None,
    *,
    device: str = "cpu",
    revision: str | None = None,
    formula: str = "torchmetrics",
    truncate: bool = False,
) -> ClipScore:
    """CLIP-S with the weights of a folder or a hub id; code that comes with a model is not run.

    Args:
        path: A folder that ``save_pretrained`` made of a CLIP or SigLIP with its processor, or a hub id. Safetensors
            only.
        device: Where the model runs.
        revision: Commit, tag or branch on the hub.
        formula: A name of ``FORMULAS``.
        truncate: Cut texts that are longer than the model's, and count them. By default they are refused: what is cut
            off cannot lower the score.

    Raises:
        BadInputError: No such folder or hub id, or an option that is not allowed.
        ArtefactError: Not such a model, no safetensors, incomplete, or NaN in its weights.
        MissingExtraError: torch or transformers is not installed.
    """
    if formula not in FORMULAS:
        raise BadInputError(f"formula: got {formula!r}; allowed: {', '.join(FORMULAS)}.")
    if path is None:
        raise BadInputError("clip-s: no weights; give clip-s:FOLDER or clip-s:HUB_ID of a CLIP or SigLIP.")
    try:
        from evenhand.models.picture_quality.clip_features import load_clip_features
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch or transformers", "quality") from error
    features = load_clip_features(path, device=device, revision=revision, truncate=truncate)
    return ClipScore(
        features.of_pictures,
        features.of_texts,
        weights=features.weights,
        sha256=features.sha256,
        formula=formula,
        cut=features.too_long if truncate else None,
        limit=features.token_limit,
    )


def unit_rows(found: object, wanted: int, *, who: str) -> Float64[np.ndarray, "rows features"]:
    """Features divided by their length.

    Raises:
        BadInputError: Not one finite row each, or a row of zeros, which has no direction.
    """
    rows: Float[np.ndarray, "rows features"] = checked_rows(found, wanted, who=who).astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not length.all():
        raise BadInputError(f"{who}: a row of features is all 0 and has no direction; look at the extractor's weights.")
    unit: Float64[np.ndarray, "rows features"] = rows / length
    return unit
