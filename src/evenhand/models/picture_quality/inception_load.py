"""The Inception network with its published weights. In: a file, pictures. Out: class scores, as numpy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.picture_quality.inception_network import InceptionNetwork, resize_like_tensorflow
from evenhand.models.picture_quality.weights import check_finite, digest, weights_name

__all__ = ["InceptionClasses"]

_SIDE = 299
_AT_ONCE = 16
_RESIZES = ("tensorflow", "antialias")
_COUNTER = "num_batches_tracked"  # batch normalisation counts with it while training; older files lack it


class InceptionClasses:
    """A filled network. Make one with ``from_file``.

    Args:
        network: In evaluation mode from here on.
        weights: Its name.
        resize: ``tensorflow`` or ``antialias``.

    Attributes:
        weights: As given.
        sha256: Of the network's weights, sixteen digits.
        resize: As given.

    Raises:
        BadInputError: No such way to resize.
    """

    def __init__(self, network: InceptionNetwork, *, weights: str, resize: str = "tensorflow") -> None:
        _check_resize(resize)
        self._network = network.eval().requires_grad_(False)
        self.weights, self.resize = weights, resize
        self.sha256 = digest(_without_counters(network.state_dict()))

    @classmethod
    def from_file(cls, path: str | Path, *, device: str = "cpu", resize: str = "tensorflow") -> "InceptionClasses":
        """The network of a file: safetensors, or a state dict saved by torch, of which nothing is run.

        Raises:
            BadInputError: No such way to resize.
            ArtefactError: The file is not these weights, or holds NaN.
        """
        _check_resize(resize)
        path = Path(path)
        stored = _without_counters(_state(path))
        network = InceptionNetwork()
        wanted = {key: tuple(one.shape) for key, one in _without_counters(network.state_dict()).items()}
        given = {key: tuple(one.shape) for key, one in stored.items()}
        if given != wanted:
            odd = sorted(key for key in {*given, *wanted} if given.get(key) != wanted.get(key))
            raise ArtefactError(
                f"{path.name}: {len(odd)} tensors are not those of the Inception network of 2015, for example "
                f"{odd[0]!r}; give torch-fidelity's weights-inception-2015-12-05 (torchvision's do not fit)."
            )
        check_finite(path.name, stored)
        network.load_state_dict({key: one.float() for key, one in stored.items()}, strict=False)
        return cls(network.to(device), weights=weights_name(str(path)), resize=resize)

    @torch.inference_mode()
    def of_pictures(self, pictures: Sequence[Image]) -> Float32[np.ndarray, "pictures 1008"]:
        """Class scores without the last bias, of pictures of any mode and size; converted to RGB."""
        parts = [self._of_batch(pictures[i : i + _AT_ONCE]) for i in range(0, len(pictures), _AT_ONCE)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, 1008), dtype=np.float32)

    def _of_batch(self, pictures: Sequence[Image]) -> Tensor:
        device = self._network.fc.weight.device
        sized = []
        for one in pictures:
            pixels = torch.from_numpy(np.array(one.convert("RGB"))).to(device).permute(2, 0, 1).float()
            if self.resize == "tensorflow":
                sized.append(resize_like_tensorflow(pixels, _SIDE))
            else:
                sized.append(functional.interpolate(pixels[None], (_SIDE, _SIDE), mode="bilinear", antialias=True)[0])
        scores: Tensor = self._network((torch.stack(sized) - 128) / 128)
        return scores.cpu()


def _check_resize(resize: str) -> None:
    if resize not in _RESIZES:
        raise BadInputError(f"resize: got {resize!r}; allowed: {', '.join(_RESIZES)}.")


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: one for key, one in state.items() if not key.endswith(_COUNTER)}


def _state(path: Path) -> dict[str, Tensor]:
    """Names and tensors in the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        held: Any
        if path.suffix == ".safetensors":
            held = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ArtefactError(
            f"{path.name}: is a pickle that holds more than tensors, or no weights; it was not run. Save its "
            "state_dict alone, or as safetensors."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ArtefactError(f"{path.name}: cannot be read as weights ({error}); give the file anew.") from error
    if not isinstance(held, Mapping) or not all(isinstance(one, Tensor) for one in held.values()):
        raise ArtefactError(f"{path.name}: holds {type(held).__name__}; wanted: names and their tensors.")
    return {str(key): one for key, one in held.items()}
