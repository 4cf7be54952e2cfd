"""What a model of pictures and texts finds likelier. In: a picture. Out: a claim, or none where it is unsure.

Any transformers model with image and text features in one space: CLIP, SigLIP and their kin. Each group has a few
texts; a group's prototype is the mean of their unit features (Radford et al. 2021, section 3.1.4):

    shares = softmax_k(scale <image, prototype_k>),   scale = exp(logit_scale) of the model

Nothing is trained, so nothing says how far it can be believed: it guesses from the whole picture, clothes and scene
included. Its band is wide, and its accuracy is to be measured on labelled pictures before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.shares import check_certain, claim_from_shares
from evenhand.records import Attribute, Claim

__all__ = ["ZeroShotSignal", "default_texts", "load_zero_shot"]

_WORDS = MappingProxyType(
    {
        ("male", "female"): MappingProxyType(
            {"male": ("man", "boy", "gentleman", "male person"), "female": ("woman", "girl", "lady", "female person")}
        ),
    }
)


def default_texts(attribute: Attribute) -> Mapping[str, tuple[str, ...]]:
    """Each group's texts, ``a photo of a WORD``: words for male and female, else ``GROUP person``, ``GROUP face``."""
    known = next((words for groups, words in _WORDS.items() if set(groups) == set(attribute.groups)), None)
    return {
        group: tuple(
            f"a photo of {'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
            for word in (known[group] if known else (f"{group} person", f"{group} face"))
        )
        for group in attribute.groups
    }


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
        needed = ("get_image_features", "get_text_features", "logit_scale")
        lacks = [one for one in needed if not hasattr(model, one)]
        if lacks:
            raise BadInputError(f"{type(model).__name__} lacks {', '.join(lacks)}; give a CLIP or SigLIP model.")
        said = default_texts(attribute) if texts is None else {group: tuple(texts[group]) for group in texts}
        if set(said) != set(attribute.groups) or not all(said.values()):
            raise BadInputError(
                f"texts: got groups {sorted(said)}; allowed: at least one text for each of {attribute.groups}."
            )
        self._model, self._processor = model.eval(), processor
        self._certain, self._sharpen = certain, sharpen
        self._prototypes = torch.stack([self._prototype(said[group]) for group in attribute.groups])
        self._scale = float(model.logit_scale.detach().float().exp())
        named = name or f"{type(model).__name__}/{getattr(model.config, '_name_or_path', '') or 'unnamed'}"
        self.settings: Mapping[str, object] = {
            "kind": "zero-shot",
            "model": named,
            "texts": {group: list(said[group]) for group in attribute.groups},
            "scale": round(self._scale, 6),
            "certain": certain,
            "sharpen": sharpen,
        }

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """What the texts say about one picture."""
        shares = self.shares(picture())
        return claim_from_shares(shares.tolist(), certain=self._certain, sharpen=self._sharpen, reason="texts")

    @torch.inference_mode()
    def shares(self, picture: Image) -> Float[Tensor, " groups"]:
        """Each group's share of one picture, of sum 1."""
        inputs = self._processor(images=picture.convert("RGB"), return_tensors="pt")
        seen = _unit(self._model.get_image_features(pixel_values=inputs["pixel_values"].to(self._model.dtype)))
        return (self._scale * (self._prototypes @ seen[0])).double().softmax(0)

    @torch.inference_mode()
    def _prototype(self, texts: Sequence[str]) -> Float[Tensor, " features"]:
        # SigLIP was trained on texts padded to their full length; CLIP masks what is padded, so it does not mind.
        inputs = self._processor(text=list(texts), return_tensors="pt", padding="max_length", truncation=True)
        known = {key: inputs[key] for key in ("input_ids", "attention_mask") if key in inputs}
        mean = _unit(self._model.get_text_features(**known)).mean(0)
        prototype: Tensor = mean / mean.norm()
        return prototype


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
    from transformers import AutoModel, AutoProcessor

    auto: Any = AutoProcessor
    model = AutoModel.from_pretrained(path, revision=revision)
    processor = auto.from_pretrained(path, revision=revision)
    name = path if revision is None else f"{path}@{revision}"
    return ZeroShotSignal(model, processor, attribute, name=name, texts=texts, certain=certain, sharpen=sharpen)


def _unit(out: Any) -> Tensor:
    features = (out if isinstance(out, Tensor) else out.pooler_output).float()
    unit: Tensor = features / features.norm(dim=-1, keepdim=True)
    return unit
