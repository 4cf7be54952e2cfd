"""The faces' claim: which faces count, when they agree, and what is refused. Every number is worked out by hand."""

from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.classify.faces import Face, FaceReader
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.faces import FaceSignal
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.signals import PictureSignal
from evenhand.records import Claim

GENDER = load_attribute("gender")


class FixedReader(FaceReader):
    """Finds the faces it is given: (group, confidence, side in pixels)."""

    def __init__(self, *faces):
        self.faces = tuple(Face(group, confidence, (0, 0, side, side)) for group, confidence, side in faces)
        self.settings = {"reader": "fixed"}

    def read(self, picture):
        return self.faces


def claim(*faces, **options):
    return FaceSignal(FixedReader(*faces), GENDER, **options).claim(lambda: None)


def test_the_least_certain_face_sets_s():
    # 2 * 0.8 - 1 = 0.6, shares (1 +- 0.6) / 2
    assert claim(("male", 0.99, 50), ("male", 0.8, 40)) == Claim(0.6, "faces agree", 2, (0.8, 0.2))
    assert claim(("female", 0.9, 50)) == Claim(-0.8, "faces agree", 1, (0.1, 0.9))


def test_no_face_and_faces_that_disagree_make_no_claim():
    assert claim() == Claim(None, "no face", 0)
    assert claim(("male", 0.99, 50), ("female", 0.99, 50)) == Claim(None, "faces disagree", 2)


def test_the_band_is_closed_below():
    # |s| = 2 * 0.75 - 1 = 0.5 is claimed at 0.5; 2 * 0.69 - 1 = 0.38 is not at 0.4.
    assert claim(("male", 0.75, 50), certain=0.5).s == 0.5
    assert claim(("male", 0.69, 50)) == Claim(None, "uncertain", 1)
    assert claim(("male", 0.69, 50), certain=0.3).s == 0.38


def test_somebody_in_the_background_does_not_count():
    # Sides 30 and 100: 900 of 10,000 pixels, 9 %. Sides 32 and 100: 10.24 %.
    assert claim(("male", 0.99, 100), ("female", 0.99, 30)) == Claim(0.98, "faces agree", 2, (0.99, 0.01))
    assert claim(("male", 0.99, 100), ("female", 0.99, 32)).reason == "faces disagree"
    assert claim(("male", 0.99, 100), ("female", 0.99, 30), background=0.0).reason == "faces disagree"


def test_the_largest_face_can_speak_for_all():
    said = claim(("male", 0.99, 40), ("female", 0.9, 50), people="largest")
    assert (said.s, said.faces) == (-0.8, 2)


def test_a_larger_face_that_could_not_be_read_leaves_the_text_alone():
    # Of four people at a table one face of 52 pixels was read, and one of 75 in front of it was not.
    unread = (None, 0.5, 75)
    assert claim(("male", 0.99, 52), unread) == Claim(None, "the largest face is unread", 1)
    assert claim(("male", 0.99, 52), unread, people="largest") == Claim(None, "the largest face is unread", 1)
    # Somebody behind the one who was read, or nobody at all, changes nothing.
    assert claim(("male", 0.99, 75), unread) == Claim(0.98, "faces agree", 1, (0.99, 0.01))
    assert claim(("male", 0.99, 80), ("male", 0.9, 70), unread).s == 0.8
    assert claim(unread) == Claim(None, "no face", 0)


def test_the_sign_follows_the_attribute():
    swapped = replace(GENDER, groups=GENDER.groups[::-1])
    signal = FaceSignal(FixedReader(("male", 0.9, 50)), swapped)
    assert signal.claim(lambda: None).s == -0.8


@pytest.mark.parametrize(
    "options",
    [{"certain": 1.0}, {"certain": float("nan")}, {"certain": -0.1}, {"people": "first"}, {"background": 1.1}],
)
def test_bad_options(options):
    with pytest.raises(Exception, match=next(iter(options))):
        FaceSignal(FixedReader(), GENDER, **options)


def test_groups_that_a_face_does_not_show():
    with pytest.raises(BadInputError, match="young"):
        FaceSignal(FixedReader(), replace(GENDER, name="age", groups=("young", "old")))


def test_settings_say_all():
    signal = FaceSignal(FixedReader(), GENDER, certain=0.5, people="largest", background=0.2)
    assert signal.settings == {
        "kind": "faces", "reader": "fixed", "certain": 0.5, "people": "largest", "background": 0.2
    }  # fmt: skip
    assert isinstance(signal, PictureSignal)


@pytest.mark.parametrize("s", [-1.0, 0.0, 0.25, 1])
def test_given(s):
    signal = GivenSignal(s)
    assert signal.claim(lambda: 1 / 0) == Claim(float(s), "given")  # the picture is not opened
    assert signal.settings == {"kind": "given", "s": s}


@pytest.mark.parametrize("s", [1.01, -2.0, float("nan"), float("inf")])
def test_given_out_of_range(s):
    with pytest.raises(BadInputError, match=r"\[-1, 1\]"):
        GivenSignal(s)
