"""Captioned pictures: both formats, what the captions agree on, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, LabelsError
from evenhand.probes.coco import captioned, coco, references

GENDER = load_attribute("gender")
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "coco"


@pytest.fixture
def write(tmp_path):
    def write(content, name="captions.json") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return str(path)

    return write


def row(file, *captions, **fields):
    return {"file": file, "captions": list(captions), **fields}


LIST = [
    row("a.jpg", "A man sits.", "A person sits", "He sits.", license=5, flickr_url="http://example.org/a", boxes=[1]),
    row("b.jpg", "A woman sits.", "a man stands"),
    row("c.jpg", "People sit."),
    row("d.jpg", "A dog.", "Human-made food"),
    row("e.jpg", "A snowman's hat", "WOMEN, talking"),
]
ANNOTATIONS = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "license": 3, "height": 480},
        {"id": 9, "file_name": "a.jpg"},
        {"id": 11, "file_name": "without.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "caption": "A girl runs."},
        {"id": 2, "image_id": 7, "caption": "A man."},
        {"id": 3, "image_id": 9, "caption": "She runs"},
    ],
}


def test_what_captions_agree_on_by_hand(write):
    # a: men's words in two of three. b: both. c: neutral. d: nobody ("human" is no listed word). e: "snowman" is one
    # word, so women's words alone.
    found = captioned(write(LIST), GENDER)
    assert [one.facts["gender"] for one in found] == ["male", "both", "neutral", "none", "female"]
    assert [(one.facts["captions"], one.facts["captions_naming"]) for one in found] == [
        ("3", "2"),
        ("2", "2"),
        ("1", "0"),
        ("2", "0"),
        ("2", "1"),
    ]


def test_only_pictures_that_can_be_scored(write):
    found = coco(write(LIST), GENDER)
    assert [one.id for one in found] == ["a.jpg", "e.jpg"]
    assert {one.probe for one in found} == {"coco"}
    assert found[0].text == ""
    assert found[0].facts["license"] == "5"
    assert found[0].facts["flickr_url"] == "http://example.org/a"
    assert "boxes" not in found[0].facts


def test_annotations_of_coco(write):
    data = write(ANNOTATIONS)
    assert references(data) == {"b.jpg": ("A man.",), "a.jpg": ("A girl runs.", "She runs")}
    first, second = captioned(data, GENDER)
    assert (first.id, first.facts["gender"], first.facts["image_id"], first.facts["license"]) == (
        "b.jpg",
        "male",
        "7",
        "3",
    )
    assert second.facts["gender"] == "female"


def test_references_are_those_of_the_prompts(write):
    data = write(LIST)
    assert list(references(data)) == [one.id for one in captioned(data, GENDER)]
    assert references(data)["b.jpg"] == ("A woman sits.", "a man stands")


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("captions.json", "images/a.jpg"),
        ("captions.json", "a.jpg"),
        ("annotations/captions_val2017.json", "val2017/a.jpg"),
        ("annotations/captions_val2017.json", "images/a.jpg"),
    ],
)
def test_where_pictures_lie(write, tmp_path, name, picture):
    (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / picture).touch()
    (prompt,) = captioned(write([row("a.jpg", "A man")], name), GENDER)
    assert Path(prompt.image).resolve() == (tmp_path / picture).resolve()


def test_a_picture_that_is_not_there_is_asked_for(write):
    (prompt,) = captioned(write([row("a.jpg", "A man")]), GENDER)
    assert prompt.image.endswith("a.jpg")


def test_a_folder_with_one_file(write, tmp_path):
    write(LIST)
    assert len(captioned(str(tmp_path), GENDER)) == 5
    write(LIST, "other.json")
    with pytest.raises(BadInputError, match="holds 2 JSON files"):
        captioned(str(tmp_path), GENDER)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "got no pictures"),
        ("3", "got int"),
        ([{"file": "a.jpg"}], "entry 0 needs file"),
        ([row("a.jpg")], "entry 0 needs file"),
        ([row("a.jpg", " ")], "entry 0 needs file"),
        ([row("a.jpg", "x"), row(3, "x")], "entry 1 needs file"),
        ([row("a.jpg", "x"), row("./a.jpg", "x")], "each once"),
        ([row("../a.jpg", "x")], "paths inside the folder"),
        ([row("/a.jpg", "x")], "paths inside the folder"),
        ([row("C:\\a.jpg", "x")], "paths inside the folder"),
        ({"info": 1}, "got an object with 'info'"),
        ({"images": [], "annotations": [{"image_id": 1}]}, "entry 0 needs image_id and caption"),
        ({"images": [{"id": 1}], "annotations": []}, "entry 0 needs id and file_name"),
        ({**ANNOTATIONS, "images": []}, "2 image_id stand in no image"),
        ({"images": [], "annotations": [{"image_id": [1], "caption": "x"}]}, r"picture id \[1\]"),
    ],
)
def test_refused(write, content, message):
    with pytest.raises(BadInputError, match=message):
        captioned(write(content), GENDER)


def test_nobody_to_score(write):
    with pytest.raises(LabelsError, match="exactly one of male, female"):
        coco(write([row("a.jpg", "A dog")]), GENDER)


def test_no_such_file(tmp_path):
    with pytest.raises(BadInputError, match="is no file or folder"):
        references(str(tmp_path / "none.json"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder with COCO captions is not here")
def test_real_captions():
    found = captioned(str(SHARED), GENDER)
    assert len(found) == 51
    assert all(len(texts) >= 5 for texts in references(str(SHARED)).values())
    counts = Counter(one.facts["gender"] for one in found)
    assert sum(counts.values()) == 51
    assert set(counts) <= {"male", "female", "both", "neutral", "none"}
    there = [one for one in found if Path(one.image).is_file()]
    assert len(there) == len(list((SHARED / "images").glob("*.jpg")))
