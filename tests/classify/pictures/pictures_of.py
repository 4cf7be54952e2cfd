"""Hand-made pictures and samples for the tests of picture classifiers."""

import io
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from evenhand.classify.pictures.protocol import CutFace, Reading
from evenhand.records import Sample


def plain(red=0, green=0, blue=0, size=(8, 8)):
    return Image.new("RGB", size, (int(red), int(green), int(blue)))


def png(picture):
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def drawn(*pictures, prompt="p"):
    return tuple(Sample(prompt, k, k, None, image=png(one)) for k, one in enumerate(pictures))


@dataclass
class RedShare:
    """A classifier whose shares can be read off a picture: red / 255 of the first group."""

    groups: tuple[str, ...] = ("male", "female")
    name: str = "red"
    settings: dict = field(default_factory=dict)

    def read(self, pictures):
        reds = [np.asarray(one)[..., 0].mean() / 255 for one in pictures]
        return tuple(Reading((float(red), 1 - float(red))) for red in reds)


@dataclass
class GreenFaces:
    """A face stage that takes a picture's green for the number of its faces; its chip is the picture turned blue."""

    settings: dict = field(default_factory=lambda: {"finder": "green"})

    def cut(self, picture):
        red, faces, _ = picture.getpixel((0, 0))
        if faces != 1:
            return CutFace(None, faces, "several faces" if faces else "no face")
        return CutFace(Image.new("RGB", (4, 4), (red, 0, 255)), 1)


@dataclass
class MeanColour:
    """An encoder whose features can be read off a picture: mean red, green and blue in [0, 1]."""

    name: str = "mean-colour"
    feature_dim: int = 3

    def encode(self, pictures):
        means = [np.asarray(one).reshape(-1, 3).mean(0) / 255 for one in pictures]
        return torch.tensor(np.array(means).reshape(-1, 3), dtype=torch.float32)
