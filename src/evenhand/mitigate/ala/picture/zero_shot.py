"""What a model of pictures and texts finds likelier. In: a picture. Out: a claim, or none where it is unsure.

Any transformers model with image and text features in one space: CLIP, SigLIP and their kin. Each group has a few
texts; a group's prototype is the mean of their unit features (Radford et al. 2021, section 3.1.4):

    shares = softmax_k(scale <image, prototype_k>),   scale = exp(logit_scale) of the model

Nothing is trained, so nothing says how far it can be believed: it guesses from the whole picture, clothes and scene
included. Its band is wide, and its accuracy is to be measured on labelled pictures before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from evenhand.classify.pictures.zero_shot import ZeroShotClassifier, load_zero_shot_classifier
from evenhand.mitigate.ala.picture.shares import check_certain, claim_from_shares
from evenhand.records import Attribute, Claim

__all__ = ["ZeroShotSignal", "load_zero_shot"]


class ZeroShotSignal:
    """The group whose texts fit a picture best.

    Args:
        model: With ``get_image_features``, ``get_text_features`` and ``logit_scale``.
        processor: The model's.
        attribute: Its groups.
        name: Of the model, for the manifest; by default its class and its path.
        texts: Texts per group; by default ``default_texts``.
        certain: The abstain band on the top share minus the runner-up, in [0, 1).
        sharpen: Give all of a claim to the top group.

    Raises:
        BadInputError: The model has no common space, a group has no text, or an option is out of its range.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        attribute: Attribute,
        *,
        name: str | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        certain: float = 0.8,
        sharpen: bool = False,
    ) -> None:
        check_certain(certain, attribute)
        self._classifier = ZeroShotClassifier(model, processor, attribute, name=name, texts=texts)
        self._certain, self._sharpen = certain, sharpen
        self.settings: Mapping[str, object] = {**self._classifier.settings, "certain": certain, "sharpen": sharpen}

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the texts say about one picture."""
        shares = self.shares(picture())
        return claim_from_shares(shares.tolist(), certain=self._certain, sharpen=self._sharpen, reason="texts")

    def shares(self, picture: Image) -> Float[Tensor, " groups"]:
        """Each group's share of one picture, of sum 1."""
        return self._classifier.shares([picture])[0]


def load_zero_shot(
    path: str,
    attribute: Attribute,
    *,
    revision: str | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    certain: float = 0.8,
    sharpen: bool = False,
) -> ZeroShotSignal:
    """The signal of a model from a folder or a hub; code that comes with a model is not run.

    Args:
        path: Folder or hub id.
        attribute: Its groups.
        revision: Of the hub's repository.
        texts: As in ``ZeroShotSignal``.
        certain: As in ``ZeroShotSignal``.
        sharpen: As in ``ZeroShotSignal``.
    """
    read = load_zero_shot_classifier(path, attribute, revision=revision, texts=texts)
    return ZeroShotSignal(
        read.model, read.processor, attribute, name=read.name, texts=texts, certain=certain, sharpen=sharpen
    )
