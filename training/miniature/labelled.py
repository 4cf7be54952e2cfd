"""The labelled avatars that ship. In: nothing. Out: a Parquet file of pictures nobody was trained on, and their groups.

    pip install '.[training-miniature]'
    python training/miniature/labelled.py --out src/evenhand/miniature/weights/avatars.parquet

Equally many of each gender, skin tone, age and kind of clothes, every one another person. Seeds begin where those of
training end, and a picture that some avatar of training shows to a pixel is left out.
"""

import argparse
import io
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pictures import PER_CELL
from PIL import Image

from evenhand.miniature.avatars import Avatar, drawn_parts, render_avatar
from evenhand.miniature.declared import AGE_SHARES, AGES, CLOTHES, GENDERS, SKIN_TONES

EACH = 5  # of each gender, skin tone, age and kind of clothes: 480 pictures
FIRST = 2**31  # seeds of training are below


def trained_on(seed: int) -> Iterator[Avatar]:
    """The avatars of ``pictures.make_pictures``, held-out ones too, in their order."""
    drawn = np.random.default_rng(seed)
    for skin, clothes in itertools.product(SKIN_TONES, CLOTHES):
        for _ in range(PER_CELL):
            age = AGES[int(drawn.random() >= AGE_SHARES[0])]
            own = int(drawn.integers(FIRST))
            for gender in GENDERS:
                yield Avatar(gender, skin, age, clothes, own)


def alike(avatar: Avatar) -> tuple[object, ...]:
    """What two avatars of the same pixels have in common at least: all but the colours of hair and clothes, glasses."""
    style, _, shade, _, ground, mouth, eyes, _ = drawn_parts(avatar.seed)
    return avatar.gender, avatar.skin, avatar.age, avatar.clothes, style, shade, ground, mouth, eyes


def new_avatars(seed: int) -> Iterator[tuple[Avatar, Image.Image]]:
    """Avatars of the wanted groups and their pictures, none of them seen in training with this seed, none twice."""
    seen: defaultdict[tuple[object, ...], list[Avatar]] = defaultdict(list)
    for avatar in trained_on(seed):
        seen[alike(avatar)].append(avatar)
    seeds = itertools.count(FIRST)
    for gender, skin, age, clothes in itertools.product(GENDERS, SKIN_TONES, AGES, CLOTHES):
        for _ in range(EACH):
            picture = None
            while picture is None:
                avatar = Avatar(gender, skin, age, clothes, next(seeds))
                own = render_avatar(avatar)
                if all(render_avatar(one).tobytes() != own.tobytes() for one in seen[alike(avatar)]):
                    picture = own
            seen[alike(avatar)].append(avatar)
            yield avatar, picture


def png(picture: Image.Image) -> bytes:
    """As a file."""
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


def make_labelled(path: Path, *, seed: int) -> None:
    """Render and write them."""
    rows = [
        {"picture": png(picture), "gender": one.gender, "skin_tone": one.skin, "age": one.age}
        for one, picture in new_avatars(seed)
    ]
    schema = pa.schema(
        [("picture", pa.binary()), ("gender", pa.string()), ("skin_tone", pa.string()), ("age", pa.string())]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the labelled avatars.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the training they are kept apart from")
    given = parser.parse_args()
    make_labelled(given.out, seed=given.seed)
