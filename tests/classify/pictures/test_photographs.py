"""The one face of a photograph, counted by hand; the face reader is a stand-in, and the real one on a blank picture."""

import pytest
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify.faces import Face
from evenhand.classify.pictures import photographs
from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.classify.pictures.named import open_photographs
from evenhand.classify.pictures.photographs import PhotographClassifier
from evenhand.classify.pictures.protocol import PictureClassifier
from evenhand.errors import BadInputError, MissingExtraError

GENDER = load_attribute("gender")
BIG, SMALL, TINY = (0, 0, 100, 100), (0, 0, 50, 50), (0, 0, 20, 20)  # areas 10,000, 2,500 and 400


@pytest.mark.parametrize(
    ("faces", "shares", "reason"),
    [
        ((), None, "no face"),
        ((Face("female", 0.9, BIG),), (0.1, 0.9), None),
        ((Face("male", 0.8, BIG),), (0.8, 0.2), None),
        ((Face("male", 0.8, BIG), Face("female", 0.9, SMALL)), None, "several faces"),
        ((Face("male", 0.8, BIG), Face("female", 0.9, TINY)), (0.8, 0.2), None),  # a twenty-fifth: background
        ((Face(None, 0.5, BIG),), None, "uncertain"),
    ],
)
def test_readings(monkeypatch, faces, shares, reason):
    class Reader:
        name, groups, settings = "stand-in", ("male", "female"), {"reader": "stand-in"}

        def read(self, picture):
            return faces

    monkeypatch.setattr(photographs, "FaceReader", Reader)
    (reading,) = PhotographClassifier().read([Image.new("RGB", (100, 100))])
    assert reading.reason == reason
    assert reading.shares == (None if shares is None else pytest.approx(shares))


def test_it_stands_behind_no_face_stage_and_reads_a_blank_picture():
    try:
        classifier = open_photographs(None, GENDER)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert isinstance(classifier, PictureClassifier)
    (judged,) = PictureLabeller(classifier, GENDER).judge([Image.new("RGB", (64, 64), "white")])
    assert (judged.group, judged.reason) == (None, "no face")


def test_it_tells_gender_only_and_takes_no_argument():
    with pytest.raises(BadInputError, match="race"):
        open_photographs(None, load_attribute("race"))
    with pytest.raises(BadInputError, match="takes none"):
        open_photographs("x", GENDER)
