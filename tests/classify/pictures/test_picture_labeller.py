"""From pictures to labels: every sample has one, and unknown says why."""

import json

import pytest
from pictures_of import GreenFaces, RedShare, drawn, plain, png

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.labeller import Judgement, PictureLabeller
from evenhand.classify.pictures.protocol import FaceCutter, PictureClassifier, Reading
from evenhand.errors import ArtefactError, BadInputError
from evenhand.records import Label, Sample

GENDER = load_attribute("gender")
RACE = load_attribute("race")


def test_by_hand():
    # Red 204 of 255 is a share of 0.8 of the first group, red 51 one of 0.2; 127.5 would be a tie.
    labels = PictureLabeller(RedShare(), GENDER).label(drawn(plain(204), plain(51)))
    assert labels == (
        Label("p", 0, "gender", "male", None, 204 / 255),
        Label("p", 1, "gender", "female", None, 1 - 51 / 255),
    )


def test_the_classifiers_own_order_of_groups_is_kept_apart_from_the_attributes():
    classifier = RedShare(groups=("female", "male"))  # 0 is female, as in the published checkpoints
    (label,) = PictureLabeller(classifier, GENDER).label(drawn(plain(204)))
    assert (GENDER.groups[0], label.group) == ("male", "female")


def test_low_confidence_is_counted():
    labeller = PictureLabeller(RedShare(), GENDER, confident=0.8)
    told = labeller.label(drawn(plain(203), plain(204), plain(0)))
    assert [label.reason for label in told] == ["uncertain", None, None]
    assert told[0].confidence == pytest.approx(203 / 255)
    # At a threshold of 0 only a tie is uncertain.
    half = type("Half", (RedShare,), {"read": lambda self, seen: (Reading((0.5, 0.5)),) * len(seen)})
    assert PictureLabeller(half(), GENDER).judge([plain()]) == (Judgement(None, "uncertain", 0.5),)


def test_no_face_and_several_faces_are_counted():
    labeller = PictureLabeller(RedShare(), GENDER, faces=GreenFaces())
    labels = labeller.label(drawn(plain(204, 1), plain(204, 0), plain(204, 3), plain(0, 1)))
    assert [(one.group, one.reason) for one in labels] == [
        ("male", None),
        (None, "no face"),
        (None, "several faces"),
        ("female", None),
    ]
    assert [label.confidence for label in labels[1:3]] == [0, 0]
    assert labeller.label(drawn(plain(0, 0), plain(0, 2)))[1].reason == "several faces"  # nothing is left to read


def test_samples_that_failed_or_cannot_be_read_are_errors_and_the_others_keep_their_labels():
    whole = png(plain(255))
    samples = (
        Sample("p", 0, 0, None, error="OutOfMemoryError: no"),
        Sample("p", 1, 1, None, image=whole[: len(whole) // 2]),
        Sample("p", 2, 2, None, image=whole),
        Sample("p", 3, 3, None, image=b"GIF89a"),
    )
    labels = PictureLabeller(RedShare(), GENDER).label(samples)
    assert [(one.k, one.group, one.reason) for one in labels] == [
        (0, None, "error"),
        (1, None, "error"),
        (2, "male", None),
        (3, None, "error"),
    ]


def test_an_enormous_picture_is_an_error_and_never_decoded():
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (label,) = PictureLabeller(RedShare(), GENDER).label([Sample("p", 0, 0, None, image=bomb)])
    assert label.reason == "error"


def test_batches_and_order_do_not_matter():
    pictures = [plain(k * 3, k % 3) for k in range(80)]  # more than two batches
    labeller = PictureLabeller(RedShare(), GENDER, faces=GreenFaces())
    together = labeller.label(drawn(*pictures))
    alone = [labeller.label([sample])[0] for sample in drawn(*pictures)]
    assert list(together) == alone
    assert labeller.label(()) == ()


def test_groups_that_differ_are_refused():
    with pytest.raises(BadInputError, match=r"race.*red tells male, female apart"):
        PictureLabeller(RedShare(), RACE)
    with pytest.raises(BadInputError, match="tells"):
        PictureLabeller(RedShare(groups=("male", "female", "female")), GENDER)


def test_a_classifier_fitted_on_faces_is_not_given_whole_pictures():
    fitted = RedShare(settings={"faces": {"finder": "green"}})
    PictureLabeller(fitted, GENDER, faces=GreenFaces())
    with pytest.raises(BadInputError, match="whole pictures"):
        PictureLabeller(fitted, GENDER)
    with pytest.raises(BadInputError, match="same face stage"):
        PictureLabeller(RedShare(settings={"faces": None}), GENDER, faces=GreenFaces())


@pytest.mark.parametrize("shares", [(float("nan"), 1.0), (1.2, -0.2), (0.3, 0.3), (1.0,), (0.2, 0.3, 0.5)])
def test_shares_that_are_none_are_refused(shares):
    odd = type("Odd", (RedShare,), {"read": lambda self, seen: (Reading(shares),) * len(seen)})
    with pytest.raises(ArtefactError, match="of sum 1"):
        PictureLabeller(odd(), GENDER).label(drawn(plain()))


def test_a_missing_reading_is_refused():
    lazy = type("Lazy", (RedShare,), {"read": lambda self, seen: ()})
    with pytest.raises(ArtefactError, match="0 readings"):
        PictureLabeller(lazy(), GENDER).label(drawn(plain()))


def test_samples_without_their_pictures_are_refused():
    with pytest.raises(BadInputError, match="no picture in memory"):
        PictureLabeller(RedShare(), GENDER).label([Sample("p", 0, 0, "a man")])


@pytest.mark.parametrize("confident", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range(confident):
    with pytest.raises(BadInputError, match="confident"):
        PictureLabeller(RedShare(), GENDER, confident=confident)


def test_settings_say_what_read_the_pictures():
    labeller = PictureLabeller(RedShare(), GENDER, faces=GreenFaces(), confident=0.8)
    assert json.loads(json.dumps(labeller.settings)) == {
        "name": "red",
        "faces": {"finder": "green"},
        "confident": 0.8,
    }
    assert isinstance(RedShare(), PictureClassifier)
    assert isinstance(GreenFaces(), FaceCutter)
