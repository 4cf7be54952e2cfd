"""The face stage: the chip by hand and by an independent reading of the published rule, and what is counted."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenhand.classify.face_finder import FaceFinder, FoundFace
from evenhand.classify.pictures.faces import FaceStage, square_chip
from evenhand.classify.pictures.protocol import FaceCutter
from evenhand.errors import BadInputError

needs_people = pytest.mark.skipif(find_spec("openpeople") is None, reason="openpeople is not installed (extra `demo`)")


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def faces_at(monkeypatch):
    """A face stage whose finder says what it is told."""

    def faces_at(*boxes, **options):
        found = tuple(FoundFace(box, ((0.0, 0.0),) * 5, 0.95) for box in boxes)
        monkeypatch.setattr(FaceFinder, "find", lambda self, picture, *, smallest: found)
        return FaceStage(**options)

    return faces_at


def test_chip_by_hand():
    # A box of 40 x 60 around (50, 60): the longer side 60, a half more is 90, so the square is 5 15 95 105.
    picture = noise(200, 200)
    chip = square_chip(picture, (30, 30, 70, 90), expand=0.5, side=90)
    assert np.array_equal(np.asarray(chip), np.asarray(picture)[15:105, 5:95])


def published(pixels, box, expand):
    """The rule as it is described: grow the longer side by ``expand`` of itself, the other to match; pad with black."""
    wide, high = box[2] - box[0], box[3] - box[1]
    if high > wide:
        more_high = high * expand
        more_wide = high + more_high - wide
    else:
        more_wide = wide * expand
        more_high = wide + more_wide - high
    x0, x1 = round(box[0] - more_wide / 2), round(box[2] + more_wide / 2)
    y0, y1 = round(box[1] - more_high / 2), round(box[3] + more_high / 2)
    out = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    for y in range(max(y0, 0), min(y1, pixels.shape[0])):
        for x in range(max(x0, 0), min(x1, pixels.shape[1])):
            out[y - y0, x - x0] = pixels[y, x]
    return out


@pytest.mark.parametrize("box", [(-10.0, 4.0, 22.0, 20.0), (30.0, 40.0, 50.0, 72.0), (20.0, 20.0, 52.0, 52.0)])
def test_chip_is_the_published_one_before_scaling(box):
    picture = noise(64, 64, seed=1)
    chip = square_chip(picture, box, expand=0.5, side=48)  # 1.5 * 32: nothing is scaled
    assert np.array_equal(np.asarray(chip), published(np.asarray(picture), box, 0.5))


def test_outside_is_black_which_is_minus_one():
    chip = np.asarray(square_chip(Image.new("RGB", (10, 10), "white"), (0, 0, 10, 10), expand=1.0, side=20))
    assert (chip[5:15, 5:15] == 255).all()
    assert chip.sum() == 255 * 3 * 100


def test_no_face_one_face_several_faces(faces_at):
    picture = noise(100, 100)
    none = faces_at().cut(picture)
    assert (none.chip, none.faces, none.reason) == (None, 0, "no face")
    one = faces_at((10.0, 10.0, 50.0, 50.0)).cut(picture)
    assert (one.chip.size, one.faces, one.reason) == ((224, 224), 1, None)
    two = (10.0, 10.0, 50.0, 50.0), (50.0, 50.0, 70.0, 70.0)  # 1600 and 400 pixels
    several = faces_at(*two).cut(picture)
    assert (several.chip, several.faces, several.reason) == (None, 2, "several faces")
    # A quarter of the largest is no background at 0.1, and is at 0.3.
    assert faces_at(*two, background=0.3).cut(picture).faces == 1


def test_the_largest_is_the_largest_inside_the_picture(faces_at):
    # 60 x 60, but only 20 x 20 of it inside, against 30 x 30.
    boxes = (-40.0, -40.0, 20.0, 20.0), (50.0, 50.0, 80.0, 80.0)
    picture = noise(100, 100)
    cut = faces_at(*boxes, several="largest").cut(picture)
    assert cut.faces == 2
    assert np.array_equal(np.asarray(cut.chip), np.asarray(square_chip(picture, boxes[1], expand=0.5, side=224)))
    outside = faces_at((200.0, 200.0, 220.0, 220.0)).cut(picture)
    assert (outside.faces, outside.reason) == (0, "no face")


def test_boxes_of_a_large_picture_are_in_its_own_pixels(faces_at):
    picture = noise(2048, 64)  # searched at half its size
    cut = faces_at((10.0, 4.0, 26.0, 20.0)).cut(picture)
    assert np.array_equal(np.asarray(cut.chip), np.asarray(square_chip(picture, (20, 8, 52, 40), expand=0.5, side=224)))


@pytest.mark.parametrize(
    "options",
    [
        {"background": 1.5},
        {"background": float("nan")},
        {"expand": -1.0},
        {"side": 4},
        {"smallest": ()},
        {"smallest": (0.03, 0.08)},
        {"smallest": (0.9,)},
        {"sure": (0.5,)},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(BadInputError, match=r"allowed|descending"):
        FaceStage(**options)


def test_settings_are_json():
    stage = FaceStage()
    assert json.loads(json.dumps(stage.settings))["expand"] == 0.5
    assert isinstance(stage, FaceCutter)


@needs_people
def test_a_real_face_is_in_the_middle_of_its_chip():
    folder = Path(find_spec("openpeople").submodule_search_locations[0], "data", "curated", "P001", "assets")
    with Image.open(folder / "studio_portrait.jpg") as opened:
        face = opened.convert("RGB").resize((200, 200))
    canvas = Image.new("RGB", (500, 400), "grey")
    canvas.paste(face, (250, 150))
    cut = FaceStage().cut(canvas)
    assert (cut.faces, cut.chip.size) == (1, (224, 224))
    (found,) = FaceFinder().find(cut.chip, smallest=0.2)  # found again, in the middle, two thirds of the side
    left, top, right, bottom = found.box
    assert abs((left + right) / 2 - 112) < 12
    assert abs((top + bottom) / 2 - 112) < 12
    assert 0.5 < (bottom - top) / 224 < 0.85
    two = Image.new("RGB", (500, 250), "grey")
    two.paste(face, (20, 25))
    two.paste(face, (260, 25))
    assert FaceStage().cut(two).reason == "several faces"
    assert FaceStage(several="largest").cut(two).faces == 2
