"""The labelled avatars that ship. In: nothing. Out: pictures and the groups they show.

480 of them, equally many of each gender, skin tone and age, from seeds no training used (made by
``training/miniature/labelled.py``). Their labels are what they were drawn to show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from PIL.Image import Image

from evenhand.errors import ArtefactError
from evenhand.miniature.declared import AGES, GENDERS, SKIN_TONES
from evenhand.pictures import decode_picture

__all__ = ["AVATARS", "LabelledAvatars", "read_avatars"]

AVATARS = Path(__file__).parent / "weights" / "avatars.parquet"
_SHOWN = {"gender": GENDERS, "skin_tone": SKIN_TONES, "age": AGES}


@dataclass(frozen=True, slots=True)
class LabelledAvatars:
    """Pictures and what they show.

    Attributes:
        pictures: Each opens one, RGB.
        shown: ``gender``, ``skin_tone``, ``age`` -> the group of each.
        sha256: Of the file, in hexadecimal.
    """

    pictures: tuple[Callable[[], Image], ...]
    shown: Mapping[str, tuple[str, ...]]
    sha256: str


def read_avatars(path: Path = AVATARS) -> LabelledAvatars:
    """The avatars that ship, or those of another file of the same columns.

    Raises:
        ArtefactError: The file is absent, damaged, or shows a group that is not declared.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        columns = pq.read_table(pa.BufferReader(content), columns=["picture", *_SHOWN]).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise ArtefactError(f"{path}: not the labelled avatars ({error}); install evenhand anew.") from error
    for name, groups in _SHOWN.items():
        if not columns.get(name) or set(columns[name]) - set(groups):
            raise ArtefactError(f"{path}: {name} is not one of {', '.join(groups)}; install evenhand anew.")
    return LabelledAvatars(
        tuple(partial(decode_picture, one) for one in columns["picture"]),
        {name: tuple(columns[name]) for name in _SHOWN},
        sha256(content).hexdigest(),
    )
