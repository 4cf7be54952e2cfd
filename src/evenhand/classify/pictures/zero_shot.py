"""What a model of pictures and texts finds likelier. In: pictures. Out: shares per group.

Any transformers model with image and text features in one space: CLIP, SigLIP and their kin. Each group has a few
texts; a group's prototype is the mean of their unit features (Radford et al. 2021, section 3.1.4):

    shares = softmax_k(scale <image, prototype_k>),   scale = exp(logit_scale) of the model

Nothing is trained, so nothing says how far it can be believed: it guesses from the whole picture, clothes and scene
included. Measure its confusion on labelled pictures before it is used.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float64
from PIL.Image import Image
from torch import Tensor

from evenhand.classify.pictures.protocol import Reading
from evenhand.errors import ArtefactError, BadInputError, MissingExtraError
from evenhand.records import Attribute

__all__ = ["ZeroShotClassifier", "default_texts", "load_zero_shot_classifier"]

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


class ZeroShotClassifier:
    """The group whose texts fit a picture best.

    Args:
        model: With ``get_image_features``, ``get_text_features`` and ``logit_scale``.
        processor: The model's.
        attribute: Its groups.
        name: Of the model, for the manifest; by default its class and its path.
        texts: Texts per group; by default ``default_texts``.

    Attributes:
        model: As given, in evaluation mode.
        processor: As given.

    Raises:
        BadInputError: The model has no common space, or a group has no text.
        ArtefactError: The model holds NaN or infinite weights.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        attribute: Attribute,
        *,
        name: str | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        needed = ("get_image_features", "get_text_features", "logit_scale")
        lacks = [one for one in needed if not hasattr(model, one)]
        if lacks:
            raise BadInputError(f"{type(model).__name__} lacks {', '.join(lacks)}; give a CLIP or SigLIP model.")
        said = default_texts(attribute) if texts is None else {group: tuple(texts[group]) for group in texts}
        if set(said) != set(attribute.groups) or not all(said.values()):
            raise BadInputError(
                f"texts: got groups {sorted(said)}; allowed: at least one text for each of {attribute.groups}."
            )
        self.name = name or f"{type(model).__name__}/{getattr(model.config, '_name_or_path', '') or 'unnamed'}"
        unsound = next((key for key, one in model.named_parameters() if not bool(one.isfinite().all())), None)
        if unsound is not None:
            raise ArtefactError(f"{self.name}: {unsound} holds NaN or infinite weights; load the model anew.")
        self.model, self.processor, self.groups = model.eval(), processor, attribute.groups
        self._device = next(model.parameters()).device
        self._prototypes = torch.stack([self._prototype(said[group]) for group in attribute.groups])
        self._scale = float(model.logit_scale.detach().float().exp())
        self.settings: Mapping[str, object] = {
            "kind": "zero-shot",
            "model": self.name,
            "texts": {group: list(said[group]) for group in attribute.groups},
            "scale": round(self._scale, 6),
        }

    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per picture."""
        return tuple(Reading(tuple(row)) for row in self.shares(pictures).tolist())

    @torch.inference_mode()
    def shares(self, pictures: Sequence[Image]) -> Float64[Tensor, "pictures groups"]:
        """Each group's share of each picture, rows of sum 1."""
        if not pictures:
            return torch.zeros(0, len(self.groups), dtype=torch.float64)
        inputs = self.processor(images=[one.convert("RGB") for one in pictures], return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._device, self.model.dtype)
        seen = _unit(self.model.get_image_features(pixel_values=pixels))
        return (self._scale * (seen @ self._prototypes.T)).double().softmax(1).cpu()

    @torch.inference_mode()
    def _prototype(self, texts: Sequence[str]) -> Tensor:
        # SigLIP was trained on texts padded to their full length; CLIP masks what is padded, so it does not mind.
        inputs = self.processor(text=list(texts), return_tensors="pt", padding="max_length", truncation=True)
        known = {key: inputs[key].to(self._device) for key in ("input_ids", "attention_mask") if key in inputs}
        mean = _unit(self.model.get_text_features(**known)).mean(0)
        prototype: Tensor = mean / mean.norm()
        return prototype


def load_zero_shot_classifier(
    path: str,
    attribute: Attribute,
    *,
    revision: str | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    device: str = "cpu",
) -> ZeroShotClassifier:
    """The classifier of a model from a folder or a hub; code that comes with a model is not run.

    Args:
        path: Folder or hub id.
        attribute: Its groups.
        revision: Of the hub's repository.
        texts: As in ``ZeroShotClassifier``.
        device: Where the model runs.

    Raises:
        MissingExtraError: transformers is not installed.
        BadInputError: There is no such model, or it has no common space.
        ArtefactError: It holds NaN or infinite weights, or its tokenizer has no words.
    """
    try:
        from transformers import AutoModel, AutoProcessor
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    auto: Any = AutoProcessor
    try:
        model: Any = AutoModel.from_pretrained(path, revision=revision)
        processor = auto.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"no CLIP or SigLIP model in {path!r}; give a folder with config, weights and processor, or a hub id that "
            f"can be reached: {error}"
        ) from error
    _check_words(path, processor)
    name = path if revision is None else f"{path}@{revision}"
    return ZeroShotClassifier(model.to(device), processor, attribute, name=name, texts=texts)


def _check_words(path: str, processor: Any) -> None:
    """Refuse a tokenizer without a vocabulary: where its files are absent, transformers makes an empty one."""
    tokenizer = getattr(processor, "tokenizer", None)
    known = [] if tokenizer is None else tokenizer("a photo of a person")["input_ids"]
    if tokenizer is not None and not set(known) - set(tokenizer.all_special_ids):
        raise ArtefactError(f"{path!r} lacks a tokenizer's vocabulary; save the model's tokenizer beside its weights.")


def _unit(out: Any) -> Tensor:
    features = (out if isinstance(out, Tensor) else out.pooler_output).float()
    unit: Tensor = features / features.norm(dim=-1, keepdim=True)
    return unit
