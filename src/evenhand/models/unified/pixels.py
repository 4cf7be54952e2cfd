"""Pictures as tensors and back. In: a PIL picture, or pixels. Out: pixels, or the bytes of a PNG file."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from evenhand.errors import PictureError

__all__ = ["fitted", "png_bytes", "readable", "to_pixels"]


def readable(picture: Image.Image, *, which: str) -> Image.Image:
    """The picture in RGB, its pixels loaded.

    Args:
        picture: Any mode; not modified.
        which: Names it in the error.

    Raises:
        PictureError: Its data is broken or cut off.
    """
    try:
        return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(f"{which} cannot be decoded ({type(error).__name__}: {error}); give a whole one.") from error


def fitted(picture: Image.Image, *, height: int, width: int) -> Image.Image:
    """The largest part of the wanted shape around the centre, to a pixel, scaled to it (bicubic)."""
    scale = min(picture.width / width, picture.height / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (picture.width - wide) // 2, (picture.height - high) // 2
    inner = picture.crop((left, top, left + wide, top + high))
    return inner.resize((width, height), Image.Resampling.BICUBIC)


def to_pixels(
    picture: Image.Image, *, mean: Sequence[float], deviation: Sequence[float]
) -> Float[Tensor, "1 3 height width"]:
    """``(pixel / 255 - mean) / deviation`` of an RGB picture, as a batch of one."""
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)
    return ((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None])[None]


def png_bytes(pixels: Float[Tensor, "3 height width"]) -> bytes:
    """A PNG file (RGB, 8 bits) of pixels in [0, 1]; the same pixels give the same bytes with the same Pillow."""
    levels = (pixels.detach().float().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    written = io.BytesIO()
    Image.fromarray(levels).save(written, "PNG")
    return written.getvalue()
