"""Pictures whose features are known, and their features. In: colours, sizes. Out: pictures, arrays, tensors."""

import numpy as np
import torch
from PIL import Image

SIDE = 28


def plain(red, green=0, blue=0, size=(SIDE, SIDE)):
    return Image.new("RGB", size, (red, green, blue))


def noise(n=3, size=(SIDE, SIDE)):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(n)]


def compass(pictures):
    """Red points east, green north."""
    return np.array([one.getpixel((0, 0))[:2] for one in pictures], dtype=np.float64)


def as_tensors(pictures):
    return [torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in pictures]
