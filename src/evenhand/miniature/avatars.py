"""Avatars. In: how a person is to be perceived, what they wear, and a seed. Out: a small RGB picture.

Parts of avataaars from the package ``python-avatars``, drawn by ``resvg-py`` without system fonts. Everything that is
not asked for (which of ten hair styles, colours, background, mouth, eyes, glasses) is drawn from the seed and does
not depend on the presentation: the same seed with the other presentation is the person's counterpart.
"""

import io
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from PIL import Image

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.miniature.declared import AGES, CLOTHES, GENDERS, SKIN_TONES

__all__ = ["PARTS", "SIDE", "Avatar", "drawn_parts", "render_avatar"]

SIDE = 32
"""Pixels of a side, by default and in the miniature."""

# Hair and beard of style i; a person keeps i when the presentation changes.
_MALE = (
    ("SHORT_FLAT", "NONE"),
    ("SHORT_ROUND", "BEARD_MEDIUM"),
    ("SHORT_WAVED", "NONE"),
    ("SIDES", "BEARD_LIGHT"),
    ("CAESAR_SIDE_PART", "NONE"),
    ("CAESAR", "MOUSTACHE_MAGNUM"),
    ("BUZZCUT", "BEARD_MEDIUM"),
    ("QUIFF", "NONE"),
    ("NONE", "BEARD_MAGESTIC"),
    ("SHORT_DREADS_1", "NONE"),
)
_FEMALE = (
    "STRAIGHT_STRAND",
    "BIG_HAIR",
    "BOB",
    "LONG_NOT_TOO_LONG",
    "MIA_WALLACE",
    "STRAIGHT_1",
    "CURVY",
    "CURLY",
    "LOOSE_HAIR",
    "DREADS",
)
_SKIN = {"light": ("#FFDBB4", "#EDB98A"), "medium": ("#C98452", "#BF7A48"), "dark": ("#7A4B30", "#614335")}
_HAIR = {"young": ("#2C1B18", "#724133", "#B58143", "#A55728"), "old": ("#E8E1E1", "#C4C0C0")}
_CLOTHES = {
    "chef": ("CHEF", ("#FFFFFF", "#F1F1F1")),
    "suit": ("BOND_SUIT", ("#262E33", "#25557C")),
    "blazer": ("BLAZER_SHIRT", ("#5199E4", "#3E7FC4")),
    "overall": ("OVERALL", ("#E0A030", "#25557C")),
    "hoodie": ("HOODIE", ("#FF5C5C", "#929598")),
    "sweater": ("COLLAR_SWEATER", ("#8E5BB0", "#C06BA8")),
    "scrubs": ("SHIRT_V_NECK", ("#2FA98C", "#7FD8B4")),
    "spacesuit": ("ASTRONAUT_SUIT", ("#FFFFFF", "#FFFFFF")),
}
_BACKGROUNDS = ("#C9D8E8", "#EBD9BE", "#C5DEC8")
_MOUTHS, _EYES, _GLASSES = ("SMILE", "TWINKLE", "SERIOUS"), ("DEFAULT", "HAPPY"), ("NONE", "NONE", "NONE", "ROUND")
PARTS = (len(_MALE), 12, 2, 2, len(_BACKGROUNDS), len(_MOUTHS), len(_EYES), len(_GLASSES))
"""How many values a seed's parts have: hair style, its colour, skin, clothes, background, mouth, eyes, glasses."""

_PAGE = 'width="264px" height="280px" viewBox="0 0 264 280"'
_SQUARE = 'width="236px" height="236px" viewBox="14 14 236 236"'  # head and shoulders


@dataclass(frozen=True, slots=True)
class Avatar:
    """One person.

    Attributes:
        gender: Presentation, of ``GENDERS``.
        skin: Of ``SKIN_TONES``.
        age: Of ``AGES``: grey hair or not.
        clothes: Of ``CLOTHES``.
        seed: Draws the rest; 0 and more.

    Raises:
        BadInputError: A value is not one of those.
    """

    gender: Literal["male", "female"] | str
    skin: str
    age: str
    clothes: str
    seed: int

    def __post_init__(self) -> None:
        for name, allowed in (("gender", GENDERS), ("skin", SKIN_TONES), ("age", AGES), ("clothes", CLOTHES)):
            got = getattr(self, name)
            if got not in allowed:
                raise BadInputError(f"{name} of an avatar: got {str(got)[:60]!r}; allowed: {', '.join(allowed)}.")
        if self.seed < 0:
            raise BadInputError(f"seed of an avatar: got {self.seed}; allowed: 0 and more.")


def render_avatar(avatar: Avatar, *, side: int = SIDE) -> Image.Image:
    """The picture, RGB, ``side`` by ``side``; the same avatar gives the same pixels.

    Raises:
        MissingExtraError: ``python-avatars`` or ``resvg-py`` is not installed.
        BadInputError: A side below 1.
    """
    if side < 1:
        raise BadInputError(f"side: got {side}; allowed: 1 and more.")
    parts, draw = _packages()
    style, tint, shade, colour, ground, mouth, eyes, glasses = drawn_parts(avatar.seed)
    hair, beard = _MALE[style] if avatar.gender == "male" else (_FEMALE[style], "NONE")
    tints = _HAIR[avatar.age]
    garment, colours = _CLOTHES[avatar.clothes]
    whole = parts.Avatar(
        style=parts.AvatarStyle.TRANSPARENT,
        top=parts.HairType[hair],
        facial_hair=parts.FacialHairType[beard],
        hair_color=tints[tint % len(tints)],
        facial_hair_color=tints[tint % len(tints)],
        skin_color=_SKIN[avatar.skin][shade],
        clothing=parts.ClothingType[garment],
        clothing_color=colours[colour],
        eyebrows=parts.EyebrowType.DEFAULT,
        eyes=parts.EyeType[_EYES[eyes]],
        nose=parts.NoseType.DEFAULT,
        mouth=parts.MouthType[_MOUTHS[mouth]],
        accessory=parts.AccessoryType[_GLASSES[glasses]],
    ).render()
    page = str(whole).replace(_PAGE, _SQUARE, 1)
    png = draw.svg_to_bytes(
        svg_string=page, background=_BACKGROUNDS[ground], width=side, height=side, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(png)), formats=("PNG",)).convert("RGB")


def drawn_parts(seed: int) -> tuple[int, ...]:
    """What the seed decides, as indices below ``PARTS``: style, hair colour, shade of skin, colour of clothes, ..."""
    drawn = np.random.default_rng(seed)
    return tuple(int(drawn.integers(size)) for size in PARTS)


@cache
def _packages() -> tuple[Any, Any]:
    for module, package in (("python_avatars", "python-avatars"), ("resvg_py", "resvg-py")):
        if find_spec(module) is None:
            raise MissingExtraError(package, "miniature")
    import python_avatars
    import resvg_py

    return python_avatars, resvg_py
