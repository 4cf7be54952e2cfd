"""What classes pictures show, for the Inception Score. In: pictures. Out: class scores, one row each.

Salimans et al. 2016 (arXiv:1606.03498), section 4. The score itself, with its interval and its bias, is
:func:`evenhand.metrics.picture_quality.inception_score`; a row here is the network's class scores for one picture.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.models.picture_quality.protocol import PictureExtractor, check_texts, checked_rows

__all__ = ["InceptionScore", "load_inception"]


class InceptionScore:
    """Inception Score: a ``QualityMetric``.

    Args:
        classes: Scores of pictures before the softmax; logarithms of shares will do.
        weights: Name of what the scores come from.
        sha256: Of its weights; None where nothing was loaded.
        splits: Parts the pictures are shared out over at random; the score is the mean of theirs.
        resize: What is said of it in the settings.

    Raises:
        BadInputError: Fewer than one split.
    """

    def __init__(
        self,
        classes: PictureExtractor,
        *,
        weights: str,
        sha256: str | None = None,
        splits: int = 1,
        resize: str = "as the extractor does",
    ) -> None:
        if splits < 1:
            raise BadInputError(f"splits: got {splits}; allowed: 1 or more; 10 is what was published first.")
        self._classes = classes
        self.name = "Inception Score"
        self.settings: Mapping[str, object] = {
            "kind": self.name,
            "formula": f"exp(mean KL(p(y|x) || p(y))); pictures resized: {resize}",
            "weights": weights,
            "sha256": sha256,
            "statistic": "inception score",
            "splits": splits,
        }

    def rows(self, pictures: Sequence[Image], texts: Sequence[str]) -> Float[np.ndarray, "pictures classes"]:
        """Class scores of each picture; ``texts`` have no effect.

        Raises:
            BadInputError: Not one text per picture, or scores that are not what is wanted.
        """
        check_texts(pictures, texts, who=self.name)
        found = checked_rows(self._classes(pictures), len(pictures), who=self.name)
        if found.shape[1] < 2:
            raise BadInputError(f"{self.name}: the extractor tells {found.shape[1]} classes apart; allowed: 2 or more.")
        return found


def load_inception(
    path: str | None, *, device: str = "cpu", splits: int = 1, resize: str = "tensorflow"
) -> InceptionScore:
    """The Inception Score with the weights of a file.

    Args:
        path: torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth`` (read with ``weights_only``, so nothing in
            it is run), or safetensors with the same names.
        device: Where the network runs.
        splits: As in ``InceptionScore``.
        resize: ``tensorflow``, as it was published and as torch-fidelity does it; or ``antialias``, as torchmetrics
            does it by default.

    Raises:
        BadInputError: No file is named, or an option is not allowed.
        ArtefactError: The file is not such weights, or holds NaN.
        MissingExtraError: torch is not installed.
    """
    if path is None:
        raise BadInputError("inception: no weights; give inception:FILE, for example torch-fidelity's.")
    try:
        from evenhand.models.picture_quality.inception_load import InceptionClasses
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", "quality") from error
    found = InceptionClasses.from_file(path, device=device, resize=resize)
    return InceptionScore(
        found.of_pictures, weights=found.weights, sha256=found.sha256, splits=splits, resize=found.resize
    )
