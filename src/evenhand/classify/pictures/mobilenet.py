"""The published classifiers of faces. In: a checkpoint, face chips. Out: shares per group.

torchvision's MobileNetV3-Large (Howard et al. 2019) with a last layer of 1280 -> groups, as Shen et al. 2024
(arXiv 2311.07604, github.com/sail-sg/finetune-fair-diffusion) trained it: perceived gender on CelebA, race and age on
FairFace. Its input is the face chip of ``FaceStage``, 224 pixels, scaled to [-1, 1] and not normalised otherwise.
"""

from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL.Image import Image, Resampling
from torch import Tensor

from evenhand.classify.pictures.protocol import Reading
from evenhand.errors import ArtefactError, BadInputError, MissingExtraError

__all__ = ["LAYOUTS", "MobileNetClassifier", "chip_values", "load_mobilenet"]

LAYOUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gender": ("female", "male"),
        "race": ("wmelh", "black", "indian", "asian"),
        "age": ("young", "old"),
    }
)
"""What the outputs of the published checkpoints mean, in order; ``wmelh`` is White, Middle Eastern and Latino Hispanic
together, ``asian`` East and Southeast Asian."""

_SIDE = 224
_LAST = "classifier.3.weight"
_WRAPPERS = ("state_dict", "model")


class MobileNetClassifier:
    """Reads face chips.

    Args:
        net: A MobileNetV3-Large with one output per group.
        groups: What its outputs mean, in order.
        name: Shown in reports; another name for other weights.

    Raises:
        BadInputError: Fewer than two groups, or one named twice.
    """

    def __init__(self, net: Any, groups: Sequence[str], *, name: str) -> None:
        if len(groups) < 2 or len(set(groups)) != len(groups):
            raise BadInputError(f"groups: got {list(groups)}; allowed: two or more names, each once.")
        self._net, self.groups, self.name = net.eval().requires_grad_(False), tuple(groups), name
        self.settings: Mapping[str, object] = {"kind": "mobilenet_v3_large", "weights": name, "groups": list(groups)}

    @torch.inference_mode()
    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per picture; what is not 224 by 224 pixels is scaled to it."""
        if not pictures:
            return ()
        device = next(self._net.parameters()).device
        shares = self._net(chip_values(pictures).to(device)).double().softmax(1)
        return tuple(Reading(tuple(row)) for row in shares.tolist())


def chip_values(pictures: Sequence[Image]) -> Float32[Tensor, "pictures 3 224 224"]:
    """RGB pictures as the network's input: v / 127.5 - 1, in [-1, 1]."""
    chips = [one if one.size == (_SIDE, _SIDE) else one.resize((_SIDE, _SIDE), Resampling.BILINEAR) for one in pictures]
    pixels = torch.from_numpy(np.stack([np.asarray(one.convert("RGB")) for one in chips]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def load_mobilenet(path: str | Path, *, groups: Sequence[str], device: str = "cpu") -> MobileNetClassifier:
    """The classifier of a checkpoint: a state dict saved by torch, or safetensors with the same names.

    Args:
        path: The file. A file of torch is read with ``weights_only``, so nothing in it is run.
        groups: What its outputs mean, in order; ``LAYOUTS`` has those of the published ones.
        device: Where it runs.

    Raises:
        MissingExtraError: torchvision is not installed.
        ArtefactError: The file is not such a checkpoint, holds NaN, or has another number of outputs.
    """
    path = Path(path)
    stored = _unwrapped(_state(path), path)
    outputs = stored[_LAST].shape[0] if _LAST in stored and stored[_LAST].ndim == 2 else None
    if outputs != len(groups):
        raise ArtefactError(
            f"{path.name}: has {'no last layer ' + _LAST if outputs is None else f'{outputs} outputs'}; wanted: one "
            f"for each of {', '.join(groups)}. Give the groups of this checkpoint, in its order."
        )
    net = _network(len(groups))
    wanted = {key: tuple(one.shape) for key, one in net.state_dict().items()}
    given = {key: tuple(one.shape) for key, one in stored.items()}
    if given != wanted:
        odd = sorted(key for key in {*given, *wanted} if given.get(key) != wanted.get(key))
        raise ArtefactError(
            f"{path.name}: {len(odd)} tensors are not those of MobileNetV3-Large, for example {odd[0]!r}; give a "
            "checkpoint of torchvision's mobilenet_v3_large."
        )
    unsound = sorted(key for key, one in stored.items() if one.is_floating_point() and not bool(one.isfinite().all()))
    if unsound:
        raise ArtefactError(f"{path.name}: {unsound[0]} holds NaN or infinite weights; get the checkpoint anew.")
    net.load_state_dict(stored)
    return MobileNetClassifier(net.float().to(device), groups, name=f"mobilenet_v3_large/{_digest(path)}")


def _network(outputs: int) -> Any:
    try:
        from torchvision.models import mobilenet_v3_large
    except ImportError as error:
        raise MissingExtraError("torchvision", "classifiers") from error
    except RuntimeError as error:  # its operators were built for another torch
        raise BadInputError(
            f"torchvision does not fit torch {torch.__version__} ({error}); install the torchvision made for it."
        ) from error
    return mobilenet_v3_large(weights=None, num_classes=outputs)


def _state(path: Path) -> Any:
    """What the file holds."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ArtefactError(
            f"{path.name}: is a pickle that holds more than tensors, or no checkpoint; it was not run. Save its "
            "state_dict alone, or as safetensors."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ArtefactError(f"{path.name}: cannot be read as a checkpoint ({error}); give the file anew.") from error


def _unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    """The state dict, out of what training scripts put around it."""
    for name in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping) or not held or not all(isinstance(one, Tensor) for one in held.values()):
        raise ArtefactError(f"{path.name}: holds {type(held).__name__}; wanted: names and their tensors.")
    return {str(key).removeprefix("module."): one for key, one in held.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()[:16]
