"""How a classifier errs, counted by hand, stored and refused."""

import json

import pytest
from pictures_of import GreenFaces, RedShare, plain

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.confusion import Confusion, count_confusion, measure_confusion
from evenhand.classify.pictures.labeller import Judgement, PictureLabeller
from evenhand.errors import ArtefactError, BadInputError

GENDER = load_attribute("gender")


def test_by_hand(tmp_path):
    # Labelled male: red 250 (said male), 10 (said female), without a face. Labelled female: red 20 (said female).
    files = []
    for k, (red, faces) in enumerate([(250, 1), (10, 1), (250, 0), (20, 1)]):
        plain(red, faces).save(tmp_path / f"{k}.png")
        files.append(tmp_path / f"{k}.png")
    labeller = PictureLabeller(RedShare(), GENDER, faces=GreenFaces())
    told = measure_confusion(labeller, list(zip(files, ["male", "male", "male", "female"], strict=True)))
    assert told == Confusion(("male", "female"), ((1, 1), (0, 1)), {"no face": (1, 0)})
    assert told.accuracy == pytest.approx(2 / 3)
    assert Confusion.from_dict(json.loads(json.dumps(told.to_dict()))) == told


def test_nothing_read_has_no_accuracy():
    told = count_confusion(["male"], [Judgement(None, "uncertain", 0.4)], groups=GENDER.groups)
    assert told.accuracy is None
    assert told.unknown == {"uncertain": (1, 0)}


def test_bad_input():
    with pytest.raises(BadInputError, match="labelled 'man'"):
        count_confusion(["man"], [Judgement("male", None, 1.0)], groups=GENDER.groups)
    with pytest.raises(BadInputError, match="0 labels"):
        count_confusion([], [], groups=GENDER.groups)
    with pytest.raises(BadInputError, match="row of counts"):
        Confusion(("a", "b"), ((1, 2),))


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"groups": ["a", "b"], "counts": [[1, 2], [3, 4.5]], "unknown": {}},
        {"groups": ["a", "b"], "counts": [[1, 2], [3, -4]], "unknown": {}},
        {"groups": ["a", "b"], "counts": [[1, 2]], "unknown": {}},
        {"groups": ["a", 2], "counts": [[1, 2], [3, 4]], "unknown": {}},
        {"groups": ["a", "b"], "counts": [[1, 2], [3, 4]], "unknown": {"no face": 3}},
        {"groups": ["a", "b"], "counts": 3, "unknown": []},
    ],
)
def test_what_is_no_confusion(values):
    with pytest.raises(ArtefactError, match="confusion"):
        Confusion.from_dict(values)
