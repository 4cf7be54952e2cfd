"""Who is seen on an avatar. In: pictures of the miniature. Out: a share per group, as any classifier of pictures.

A small convolutional network trained on the avatars and on what the miniature's picture tokenizer makes of them. It
knows nothing but avatars; a photograph must not be given to it, and a photographic face finder must not judge avatars.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image, Resampling
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from evenhand.classify.pictures.protocol import Reading
from evenhand.errors import ArtefactError, UnknownNameError
from evenhand.miniature.avatars import SIDE
from evenhand.miniature.declared import AGES, GENDERS, SKIN_TONES

__all__ = ["HEADS", "WEIGHTS", "AvatarJudge", "JudgeNetwork", "load_judge"]

HEADS: Mapping[str, tuple[str, ...]] = {"gender": GENDERS, "skin_tone": SKIN_TONES, "age": AGES}
"""Attribute -> the groups it tells apart."""

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
_BATCH = 256


class JudgeNetwork(nn.Module):
    """Four convolutions and a linear head per attribute, on 32 x 32 pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 64, 64)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 + (i > 0), padding=1)
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1] * 16, len(groups)) for name, groups in HEADS.items()})

    def forward(self, pixels: Float[Tensor, "pictures 3 32 32"]) -> dict[str, Float[Tensor, "pictures groups"]]:
        """Logits in nats per attribute."""
        for layer in self.layers:
            pixels = nn.functional.gelu(layer(pixels))
        flat = pixels.flatten(1)
        return {name: head(flat) for name, head in self.heads.items()}


class AvatarJudge:
    """A ``PictureClassifier`` of avatars; pictures of another size are scaled to 32 x 32.

    Args:
        network: Trained.
        attribute: ``gender``, ``skin_tone`` or ``age``.
        digest: Of the weights.

    Raises:
        UnknownNameError: Another attribute.
    """

    def __init__(self, network: JudgeNetwork, attribute: str, *, digest: str) -> None:
        if attribute not in HEADS:
            raise UnknownNameError(f"the judge of avatars does not tell {attribute[:60]!r}; known: {', '.join(HEADS)}.")
        self.name = f"avatar-judge/{attribute}"
        self.groups: tuple[str, ...] = HEADS[attribute]
        self.settings: Mapping[str, object] = {"weights": digest}
        self._network, self._attribute = network.eval(), attribute

    def read(self, pictures: Sequence[Image]) -> tuple[Reading, ...]:
        """One reading per RGB picture, same order."""
        found: list[Reading] = []
        for start in range(0, len(pictures), _BATCH):
            rows = [_values(picture) for picture in pictures[start : start + _BATCH]]
            with torch.inference_mode():
                shares = self._network(torch.stack(rows))[self._attribute].double().softmax(-1)
            found += [Reading(tuple(row)) for row in shares.tolist()]
        return tuple(found)


def load_judge(attribute: str = "gender", *, path: Path = WEIGHTS) -> AvatarJudge:
    """The judge that ships, or one from a file.

    Raises:
        UnknownNameError: Another attribute.
        ArtefactError: Not a judge's weights, or not finite.
    """
    network = JudgeNetwork()
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtefactError(
            f"{path}: not the weights of a judge of avatars ({error}); install evenhand anew."
        ) from error
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ArtefactError(f"{path}: a weight is not finite; install evenhand anew.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return AvatarJudge(network, attribute, digest=digest)


def _values(picture: Image) -> Float[Tensor, "3 32 32"]:
    small = picture if picture.size == (SIDE, SIDE) else picture.resize((SIDE, SIDE), Resampling.BOX)
    levels = np.asarray(small.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(levels / 127.5 - 1).permute(2, 0, 1)
