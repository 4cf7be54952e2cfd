"""What a model's frozen vision tower sees. In: any transformers model with one, its processor, pictures. Out: features.

The pooled output of the tower where it has one (CLIP in LLaVA, BLIP, Janus), else the mean of its last hidden state
(SigLIP in PaliGemma). A tower that takes patches of several pictures in one row (Qwen2-VL and Qwen2.5-VL) gives visual
tokens, which are averaged for each picture. CLIP and SigLIP models themselves give their image features.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import Float
from PIL.Image import Image
from PIL.Image import new as new_picture
from torch import Tensor

from evenhand.errors import BadInputError

__all__ = ["VisionFeatures", "load_vision_features", "vision_features"]

_TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder", "image_encoder", "encoder")
_INSIDE = ("model", "vlm", "base_model")  # where transformers keeps the model without its head


class VisionFeatures:
    """Features from one vision tower: a ``FeatureEncoder`` of ``classify.pictures.encoder``.

    Args:
        tower: A callable module, or a model with ``get_image_features``.
        processor: Called with ``images=`` and ``return_tensors="pt"``.
        name: Of the encoder.
    """

    def __init__(self, tower: Any, processor: Any, *, name: str) -> None:
        self._tower, self._processor, self.name = tower.eval(), processor, name
        self._images = getattr(tower, "get_image_features", None) if _projects(tower) else None
        self._grids = "grid_thw" in _arguments(tower.forward) and self._images is None
        self.feature_dim = int(self.encode([new_picture("RGB", (224, 224))]).shape[1])

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """One row per picture."""
        if not pictures:
            return torch.zeros(0, self.feature_dim)
        seen = [one if one.mode == "RGB" else one.convert("RGB") for one in pictures]
        inputs = self._processor(images=seen, return_tensors="pt")
        first = next(self._tower.parameters())
        pixels = inputs["pixel_values"].to(first.device, first.dtype)
        if self._grids:
            features = self._of_tokens(pixels, inputs["image_grid_thw"].to(first.device))
        elif self._images is not None:
            features = _pooled(self._images(pixel_values=pixels))
        else:
            features = _pooled(self._tower(pixels))
        if features.shape[0] != len(pictures):
            raise BadInputError(
                f"{self.name}: {len(pictures)} pictures gave {features.shape[0]} rows of features; give a processor "
                "that makes one input of a picture (no tiles)."
            )
        return features.float().cpu()

    def _of_tokens(self, pixels: Tensor, grids: Tensor) -> Tensor:
        out = self._tower(pixels, grid_thw=grids)
        tokens = out if isinstance(out, Tensor) else getattr(out, "pooler_output", None)
        tokens = out.last_hidden_state if tokens is None else tokens
        merged = int(grids.prod(1).sum()) // len(tokens)  # patches that became one token
        return torch.stack([part.mean(0) for part in tokens.split((grids.prod(1) // merged).tolist())])


def vision_features(model: Any, processor: Any, *, name: str | None = None) -> VisionFeatures:
    """The features of a model's vision tower.

    Args:
        model: A transformers model; its weights are not changed.
        processor: The model's processor or image processor.
        name: By default the model's class and a digest of the tower's weights.

    Raises:
        BadInputError: The model has no vision tower, or the processor takes no pictures.
    """
    tower = model if _projects(model) else _tower(model)
    if tower is None:
        raise BadInputError(
            f"{type(model).__name__} has no vision tower ({', '.join(_TOWERS)}); give a model that reads pictures."
        )
    pictures = getattr(processor, "image_processor", processor)
    if not callable(pictures):
        raise BadInputError(f"{type(processor).__name__} takes no pictures; give the model's processor.")
    return VisionFeatures(tower, pictures, name=name or f"{type(model).__name__}/{_digest(tower)}")


def load_vision_features(path: str, *, revision: str | None = None) -> VisionFeatures:
    """The features of a model from a folder or a hub; code that comes with a model is not run.

    Args:
        path: Folder or hub id of any model transformers loads by itself.
        revision: Of the hub's repository.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    config = AutoConfig.from_pretrained(path, revision=revision)
    generates = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    kind = AutoModelForImageTextToText if generates else AutoModel
    model = kind.from_pretrained(path, revision=revision)
    auto: Any = AutoImageProcessor
    return vision_features(model, auto.from_pretrained(path, revision=revision))


def _projects(model: Any) -> bool:
    """Whether a model puts pictures and texts into one space: CLIP, SigLIP and their kin."""
    return callable(getattr(model, "get_image_features", None)) and callable(getattr(model, "get_text_features", None))


def _tower(model: Any) -> Any:
    for holder in (model, *(getattr(model, inside, None) for inside in _INSIDE)):
        for name in _TOWERS:
            found = getattr(holder, name, None)
            if isinstance(found, torch.nn.Module):
                return found
    # A tower on its own is one too; a language model is not: it has no such input.
    return model if getattr(model, "main_input_name", "") == "pixel_values" else None


def _pooled(out: Any) -> Tensor:
    if isinstance(out, Tensor):
        return out if out.ndim == 2 else out.flatten(1, -2).mean(1)
    pooled = getattr(out, "pooler_output", None)
    features: Tensor = out.last_hidden_state.mean(1) if pooled is None else pooled
    return features


def _arguments(function: Any) -> frozenset[str]:
    from inspect import signature

    return frozenset(signature(function).parameters)


def _digest(tower: Any) -> str:
    """Twelve hexadecimal digits of the class and the weights: two towers of one class are not taken for one."""
    digest = sha256(type(tower).__name__.encode())
    for name, value in tower.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().float().sum().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
