"""The avatars everything is trained on. In: a seed. Out: pictures, their counterparts and what they show."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenhand.miniature.avatars import Avatar, drawn_parts, render_avatar
from evenhand.miniature.declared import AGE_SHARES, AGES, CLOTHES, GENDERS, SKIN_TONES

PER_CELL = 480  # persons of each skin tone and clothes; every person has two presentations
HELD_OUT = 0.1


@dataclass(frozen=True)
class Pictures:
    """Avatars in pairs: picture 2i is a man, 2i + 1 the same person as a woman.

    Attributes:
        pixels: (pictures, 3, side, side), bytes.
        gender: Index into ``GENDERS``; and so on for the others.
        held_out: Not trained on.
        parts: What the seed decided, (pictures, parts), as ``avatars.drawn_parts``.
    """

    pixels: Tensor
    gender: Tensor
    skin: Tensor
    age: Tensor
    clothes: Tensor
    held_out: Tensor
    parts: Tensor

    def floats(self, rows: Tensor) -> Tensor:
        """Pixels of some pictures in [-1, 1]."""
        return self.pixels[rows].float() / 127.5 - 1


def make_pictures(path: Path, *, seed: int) -> None:
    """Render and write them."""
    drawn = np.random.default_rng(seed)
    pixels, labels, parts = [], [], []
    for skin, clothes in itertools.product(range(len(SKIN_TONES)), range(len(CLOTHES))):
        for number in range(PER_CELL):
            age = int(drawn.random() >= AGE_SHARES[0])
            own = int(drawn.integers(2**31))
            held_out = number >= PER_CELL * (1 - HELD_OUT)
            for gender in range(len(GENDERS)):
                person = Avatar(GENDERS[gender], SKIN_TONES[skin], AGES[age], CLOTHES[clothes], own)
                pixels.append(np.asarray(render_avatar(person)).transpose(2, 0, 1))
                parts.append(drawn_parts(own))
                labels.append((gender, skin, age, clothes, held_out))
    columns = torch.tensor(labels, dtype=torch.uint8).T
    named = dict(zip(("gender", "skin", "age", "clothes", "held_out"), columns, strict=True))
    named["parts"] = torch.tensor(parts, dtype=torch.uint8)
    save_file(
        {
            "pixels": torch.from_numpy(np.ascontiguousarray(np.stack(pixels))),
            **{k: v.contiguous() for k, v in named.items()},
        },
        path,
    )


def read_pictures(path: Path) -> Pictures:
    """Read them."""
    held = load_file(path)
    labels = {name: held[name].long() for name in ("gender", "skin", "age", "clothes")}
    return Pictures(held["pixels"], held_out=held["held_out"].bool(), parts=held["parts"].long(), **labels)
