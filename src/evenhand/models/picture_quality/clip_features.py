"""Pictures and texts in one space. In: a CLIP or SigLIP, pictures, texts. Out: their features, as numpy.

Weights come from safetensors only, code from transformers only. Pictures are resized with Pillow, also where
torchvision is installed, and everything is computed in float32, so that a number does not depend on what else is there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float32
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.picture_quality.weights import check_finite, digest, weights_name

__all__ = ["ClipFeatures", "load_clip_features"]

_AT_ONCE = 32
_KINDS = ("clip", "siglip")
_SHOWN = 60


class ClipFeatures:
    """A frozen model of pictures and texts. Make one with ``load_clip_features``, or give the parts.

    Args:
        model: A ``CLIPModel`` or ``SiglipModel``. With ``positions=False`` its positional embedding of pictures is set
            to 0.
        images: Its image processor.
        tokenizer: Its tokenizer.
        weights: Its name.
        truncate: Cut texts longer than ``token_limit``; else they are refused.
        positions: Keep the positional embedding of pictures and the model's own picture size.

    Attributes:
        weights: As given.
        sha256: Of the model's weights, sixteen digits.
        token_limit: Tokens of the longest text, marks of start and end included.

    Raises:
        ArtefactError: The model holds NaN or infinite weights.
    """

    def __init__(
        self,
        model: Any,
        images: Any,
        tokenizer: Any,
        *,
        weights: str,
        truncate: bool = False,
        positions: bool = True,
    ) -> None:
        state = model.state_dict()
        check_finite(weights, state)
        self.weights, self.sha256 = weights, digest(state)
        self.token_limit = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
        self._model, self._images, self._tokenizer = model.eval().requires_grad_(False), images, tokenizer
        self._truncate, self._positions = truncate, positions
        if not positions:
            model.vision_model.embeddings.position_embedding.weight.data.zero_()

    @torch.inference_mode()
    def of_pictures(self, pictures: Sequence[Image]) -> Float32[np.ndarray, "pictures features"]:
        """The features of each picture, any mode and size; converted to RGB.

        Raises:
            BadInputError: With ``positions=False``, a picture smaller than one patch of the model.
        """
        at_once = _AT_ONCE if self._positions else 1  # at their own sizes, pictures make no common batch
        parts = [self._of_batch(pictures[i : i + at_once]) for i in range(0, len(pictures), at_once)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self._width), dtype=np.float32)

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts features"]:
        """The features of each text.

        A text that is cut keeps its mark of the end, which CLIP reads the whole text at.

        Raises:
            BadInputError: A text is too long, and texts are not to be cut.
        """
        if not texts:
            return np.zeros((0, self._width), dtype=np.float32)
        if not self._truncate:
            self._refuse_long(texts)
        parts = [self._of_words(texts[i : i + _AT_ONCE]) for i in range(0, len(texts), _AT_ONCE)]
        return torch.cat(parts).numpy()

    def too_long(self, texts: Sequence[str]) -> Bool[np.ndarray, " texts"]:
        """Whether each text has more tokens than the model takes."""
        return np.array([length > self.token_limit for length in self._lengths(texts)], dtype=np.bool_)

    @property
    def _width(self) -> int:
        config = self._model.config
        return int(config.projection_dim if config.model_type == "clip" else config.vision_config.hidden_size)

    def _of_batch(self, pictures: Sequence[Image]) -> Tensor:
        seen = [one.convert("RGB") for one in pictures]
        options: dict[str, Any] = {}
        if not self._positions:
            options = {"do_resize": False}
            if hasattr(self._images, "do_center_crop"):
                options["do_center_crop"] = False
            patch = self._model.config.vision_config.patch_size
            small = next((one.size for one in seen if min(one.size) < patch), None)
            if small is not None:
                raise BadInputError(
                    f"{self.weights}: got a picture of {small[0]} by {small[1]} pixels; allowed without positional "
                    f"embedding: {patch} by {patch} or larger."
                )
        pixels = self._images(images=seen, return_tensors="pt", **options)["pixel_values"]
        found = self._model.get_image_features(
            pixel_values=pixels.to(self._model.device, self._model.dtype),
            interpolate_pos_encoding=not self._positions,
        )
        return _pooled(found)

    def _of_words(self, texts: Sequence[str]) -> Tensor:
        # SigLIP was trained on texts padded to their full length; CLIP masks what is padded, so it does not mind.
        inputs = self._tokenizer(
            list(texts), return_tensors="pt", padding="max_length", max_length=self.token_limit, truncation=True
        )
        known = {key: inputs[key].to(self._model.device) for key in ("input_ids", "attention_mask") if key in inputs}
        return _pooled(self._model.get_text_features(**known))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(one) for one in self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]

    def _refuse_long(self, texts: Sequence[str]) -> None:
        for text, length in zip(texts, self._lengths(texts), strict=True):
            if length > self.token_limit:
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
                raise BadInputError(
                    f"{self.weights}: the text {shown!r} has {length} tokens; allowed: {self.token_limit}. Shorten it, "
                    "or set truncate to cut and count such texts."
                )


def load_clip_features(
    path: str,
    *,
    device: str = "cpu",
    revision: str | None = None,
    truncate: bool = False,
    positions: bool = True,
) -> ClipFeatures:
    """The features of a model from a folder or a hub; code that comes with a model is not run.

    Args:
        path: Folder or hub id.
        device: Where the model runs.
        revision: Of the hub's repository.
        truncate: As in ``ClipFeatures``.
        positions: As in ``ClipFeatures``.

    Raises:
        BadInputError: There is no such folder or hub id.
        ArtefactError: Not a CLIP or SigLIP, no safetensors, incomplete or not finite weights, or no processor.
    """
    hf: Any = transformers
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        config = hf.AutoConfig.from_pretrained(path, **where)
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(
            f"no CLIP in {path!r}; give a folder with config.json, safetensors and processor, or a hub id that can be "
            f"reached: {error}"
        ) from error
    if config.model_type not in _KINDS:
        raise ArtefactError(f"{path!r} is a {config.model_type!r} model; allowed: {', '.join(_KINDS)}.")
    model = _model(path, where)
    try:
        images = hf.AutoImageProcessor.from_pretrained(path, backend="pil", **where)
        tokenizer = hf.AutoTokenizer.from_pretrained(path, **where)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ArtefactError(
            f"{path!r} lacks an image processor or a tokenizer that can be read; save the model's own beside its "
            f"weights: {error}"
        ) from error
    _check_words(path, tokenizer)
    return ClipFeatures(
        model.to(device),
        images,
        tokenizer,
        weights=weights_name(path, revision),
        truncate=truncate,
        positions=positions,
    )


def _model(path: str, where: dict[str, Any]) -> Any:
    kind: Any = transformers.AutoModel
    try:
        model, report = kind.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below
            **where,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        beside = sorted(one.name for one in Path(path).glob("*.bin")) if Path(path).is_dir() else []
        pickled = f" {beside[0]} is a pickle, which is never read;" if beside else ""
        raise ArtefactError(
            f"no weights in safetensors in {path!r};{pickled} save the model with save_pretrained, which writes them: "
            f"{error}"
        ) from error
    lacking = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if lacking:
        raise ArtefactError(f"{path!r} lacks weights, or they are misshapen: {', '.join(lacking[:8])}")
    return model


def _check_words(path: str, tokenizer: Any) -> None:
    """Refuse a tokenizer without a vocabulary: where its files are absent, transformers makes an empty one."""
    ids = set(tokenizer("a good photo of a person")["input_ids"]) - set(tokenizer.all_special_ids)
    if len(ids) < 2:
        raise ArtefactError(f"{path!r} lacks a tokenizer's vocabulary; save the model's tokenizer beside its weights.")


def _pooled(out: Any) -> Tensor:
    features: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return features.float().cpu()
