import sys

import numpy as np
import pytest

from evenhand.errors import BadInputError, MissingExtraError
from evenhand.miniature import avatars
from evenhand.miniature.avatars import Avatar, render_avatar
from evenhand.miniature.declared import CLOTHES, SKIN_TONES

_HINT = "needs the extra `miniature` (python-avatars, resvg-py)"


def _needs_packages():
    pytest.importorskip("python_avatars", reason=_HINT)
    pytest.importorskip("resvg_py", reason=_HINT)


def _pixels(avatar, side=32):
    return np.asarray(render_avatar(avatar, side=side)).astype(int)


def test_same_avatar_same_pixels():
    _needs_packages()
    person = Avatar("female", "dark", "young", "chef", 7)
    picture = render_avatar(person)
    assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert np.array_equal(_pixels(person), _pixels(person))
    assert not np.array_equal(_pixels(person), _pixels(Avatar("female", "dark", "young", "chef", 8)))


def test_the_counterpart_differs_in_hair_and_keeps_the_rest():
    _needs_packages()
    for seed in range(12):
        man, woman = (_pixels(Avatar(gender, "medium", "young", "hoodie", seed), 64) for gender in ("male", "female"))
        assert (man != woman).any()
        assert np.array_equal(man[0, 0], woman[0, 0])  # background
        assert np.array_equal(man[62, 32], woman[62, 32])  # clothes, in the middle of the chest


def test_skin_gets_darker():
    _needs_packages()
    for seed in range(8):
        # Forehead and nose are free of hair, beard and glasses at this place of a face with short hair.
        light = [_pixels(Avatar("male", tone, "young", "suit", seed), 64)[40:43, 30:34].mean() for tone in SKIN_TONES]
        assert light[0] > light[1] > light[2]


def test_age_is_the_hair_and_clothes_are_clothes():
    _needs_packages()
    young, old = (_pixels(Avatar("female", "light", age, "suit", 3)) for age in ("young", "old"))
    assert (young != old).any()
    worn = [_pixels(Avatar("male", "light", "young", kind, 3))[27:].tobytes() for kind in CLOTHES]
    assert len(set(worn)) == len(CLOTHES)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"gender": "man"}, "male, female"), ({"skin": "pale"}, "light, medium, dark"), ({"seed": -1}, "0 and more")],
)
def test_bad_values_are_refused(change, said):
    values = {"gender": "male", "skin": "light", "age": "old", "clothes": "chef", "seed": 0}
    with pytest.raises(BadInputError, match=said):
        Avatar(**(values | change))


def test_a_side_below_one_is_refused():
    with pytest.raises(BadInputError, match="1 and more"):
        render_avatar(Avatar("male", "light", "old", "chef", 0), side=0)


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(avatars, "find_spec", lambda _: None)
    avatars._packages.cache_clear()
    with pytest.raises(MissingExtraError, match=r"evenhand\[miniature\]"):
        render_avatar(Avatar("male", "light", "old", "chef", 0))


def test_importing_brings_no_drawing_package():
    assert "evenhand.miniature.avatars" in sys.modules
    assert not {"python_avatars", "resvg_py"} & set(vars(avatars))
