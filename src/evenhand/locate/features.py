"""What each place of a model holds of a picture. In: a model, pictures. Out: features by place, controls among them.

Controls say what could be read without the model: ``pixels``, the picture itself made small, and ``shuffled PLACE``,
the same place after the weights of the picture side have lost their order.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.models.protocol import CodeModel
from evenhand.models.unified.model import UnifiedModel
from evenhand.models.unified.pixels import fitted
from evenhand.models.unified.shuffled import shuffled_pictures

__all__ = ["PIXELS", "SHUFFLED", "code_shares", "picture_features"]

PIXELS = "pixels"
"""Name of the control that is the picture alone."""
SHUFFLED = "shuffled "
"""Before the name of a place: the control without what was learned."""

_PLACES = ("encoder", "codes", "projected")  # what every ``CodeModel`` has
_SIDE = 16
_AT_ONCE = 32


def picture_features(
    model: CodeModel, pictures: Sequence[Image | Callable[[], Image]], *, seed: int
) -> dict[str, Float64[np.ndarray, "pictures _"]]:
    """Features of each picture at each place, float64.

    In this order: the model's own places; ``histogram``, the share of each code among a picture's; ``pixels``, 16 x 16
    RGB around the centre, in [0, 1]; ``shuffled PLACE`` for each of the model's places, of a ``UnifiedModel`` alone:
    of another it is not known which weights see. Pictures are opened 32 at a time, twice.

    Args:
        model: Its weights are shuffled for a while and restored.
        pictures: Each one, or what opens it.
        seed: Of the shuffling.

    Raises:
        BadInputError: No picture, or a feature that is not finite.
        PictureError: A picture cannot be read.
    """
    if not pictures:
        raise BadInputError("pictures: got none; give at least one.")
    places = model.family.places if isinstance(model, UnifiedModel) else _PLACES
    found: dict[str, list[np.ndarray]] = {}
    for batch in _opened(pictures):
        for place in places:
            found.setdefault(place, []).append(_features(model, batch, place))
        found.setdefault("histogram", []).append(code_shares(model.encode(batch), model.codebook_size))
        found.setdefault(PIXELS, []).append(np.stack([_pixels(one) for one in batch]))
    if isinstance(model, UnifiedModel):
        with shuffled_pictures(model.family, seed=seed):
            for batch in _opened(pictures):
                for place in places:
                    found.setdefault(SHUFFLED + place, []).append(_features(model, batch, place))
    whole = {place: np.concatenate(parts) for place, parts in found.items()}
    for place, values in whole.items():
        if not np.isfinite(values).all():
            raise BadInputError(f"features of {place}: got NaN or infinity; load the model in float32 or bfloat16.")
    return whole


def code_shares(codes: Int[Tensor, "pictures codes"], codebook: int) -> Float64[np.ndarray, "pictures codebook"]:
    """How often each code stands in each picture, divided by the picture's codes; rows sum to 1."""
    counted = torch.zeros(len(codes), codebook, dtype=torch.float64)
    counted.scatter_add_(1, codes.cpu().long(), torch.ones(codes.shape, dtype=torch.float64))
    shares: Float64[np.ndarray, "pictures codebook"] = (counted / codes.shape[1]).numpy()
    return shares


def _opened(pictures: Sequence[Image | Callable[[], Image]]) -> Iterator[list[Image]]:
    for start in range(0, len(pictures), _AT_ONCE):
        batch = pictures[start : start + _AT_ONCE]
        yield [one if isinstance(one, Image) else one() for one in batch]


def _features(model: CodeModel, batch: list[Image], place: str) -> np.ndarray:
    values: np.ndarray = model.features(batch, where=place).double().numpy()
    return values


def _pixels(picture: Image) -> Float64[np.ndarray, " values"]:
    small = fitted(picture.convert("RGB"), height=_SIDE, width=_SIDE)
    values: Float64[np.ndarray, " values"] = np.asarray(small, dtype=np.float64).ravel() / 255
    return values
