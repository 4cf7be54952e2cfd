"""Folders of labelled pictures: what becomes a prompt, and what is refused before anything is asked."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, LabelsError, MissingExtraError
from evenhand.probes import captioning as probe
from evenhand.probes.captioning import captioning

GENDER = load_attribute("gender")


@pytest.fixture
def labels(tmp_path):
    """Writes labels.csv; the pictures are not opened here and need not exist."""

    def labels(content: str | bytes) -> str:
        (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path)

    return labels


def refused(folder: str) -> str:
    with pytest.raises(LabelsError) as caught:
        captioning(folder, GENDER)
    return str(caught.value)


def test_one_prompt_per_row_in_order(labels):
    folder = labels("file,gender,scene,photographer\nb.jpg,female,1,Ann\nimages/a.jpg,male,2,\n")
    first, second = captioning(folder, GENDER)
    assert (first.id, first.probe, first.text) == ("b.jpg", "captioning", "")
    assert first.image == str(Path(folder) / "b.jpg")
    assert first.facts == {"gender": "female", "scene": "1", "photographer": "Ann"}
    assert second.id == "images/a.jpg"
    assert second.image == str(Path(folder) / "images" / "a.jpg")
    assert second.facts == {"gender": "male", "scene": "2", "photographer": ""}


@pytest.mark.parametrize(
    "content",
    [
        "file,gender\na.jpg,male\n",
        "\ufefffile,gender\na.jpg,male\n",  # as spreadsheets save it
        "file,gender\r\na.jpg,male\r\n",
        "file,gender\ra.jpg,male\r",
        "file,gender\na.jpg,male",
        "gender,file\nmale,a.jpg\n",
        "file, gender\na.jpg , male \n",
        '"file", "gender"\n"a.jpg", "male"\n',
        "file,gender\n\na.jpg,male\n\n",
    ],
)
def test_ways_to_write_the_same(labels, content):
    (prompt,) = captioning(labels(content), GENDER)
    assert (prompt.id, prompt.facts) == ("a.jpg", {"gender": "male"})


@pytest.mark.parametrize("name", ["a, b.jpg", "füße/写真.jpg", "a\u2028b.jpg", "a\x0cb.jpg", "a b'c.jpg", "..a.jpg"])
def test_file_names_are_kept(labels, name):
    (prompt,) = captioning(labels(f'file,gender\n"{name}",male\n'), GENDER)
    assert prompt.id == name


def test_a_quoted_value_may_hold_a_line_break(labels):
    first, second = captioning(labels('file,gender,note\na.jpg,male,"one\ntwo"\nb.jpg,female,x\n'), GENDER)
    assert first.facts["note"] == "one\ntwo"
    assert second.id == "b.jpg"


# Refused --------------------------------------------------------------------------------------------


def test_no_folder(tmp_path):
    assert "is not a folder" in refused(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    assert "is not a folder" in refused(str(tmp_path / "file"))
    assert issubclass(LabelsError, BadInputError)


def test_no_labels(tmp_path):
    message = refused(str(tmp_path))
    assert "has no labels.csv; write one with the columns file,gender" in message


@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_empty_file(labels, content):
    assert "columns []; needs file" in refused(labels(content))


def test_no_rows(labels):
    assert "has no rows" in refused(labels("file,gender\n"))


def test_missing_file_column(labels):
    assert "columns ['picture', 'gender']; needs file" in refused(labels("picture,gender\na.jpg,male\n"))


def test_missing_attribute_column(labels):
    message = refused(labels("file,sex\na.jpg,male\n"))
    assert "columns ['file', 'sex']; needs one named gender" in message
    assert "male, female" in message


def test_column_twice(labels):
    assert "each once" in refused(labels("file,gender,gender\na.jpg,male,female\n"))


@pytest.mark.parametrize("value", ["woman", "Male", "", "unknown", "both"])
def test_undeclared_group(labels, value):
    message = refused(labels(f"file,gender\na.jpg,male\nb.jpg,{value}\n"))
    assert message.startswith(f"labels.csv line 3: gender is {value!r}; declared groups are male, female.")


def test_the_line_is_the_file_s_also_after_empty_lines(labels):
    assert "line 6:" in refused(labels('file,gender,note\n\na.jpg,male,"1\n2"\n\nb.jpg,x,\n').replace("\r", ""))


@pytest.mark.parametrize("again", ["a.jpg", "./a.jpg", ".//a.jpg"])
def test_picture_twice(labels, again):
    message = refused(labels(f"file,gender\na.jpg,male\n{again},female\n"))
    assert "line 3" in message
    assert "stands there twice" in message


@pytest.mark.parametrize("name", ["../a.jpg", "images/../../a.jpg", "..", "/etc/a.jpg", "//host/a.jpg", "", "a\0.jpg"])
def test_picture_outside_the_folder(labels, name):
    assert "give a path inside the folder" in refused(labels(f"file,gender\n{name},male\n"))


@pytest.mark.parametrize("row", ["a.jpg,male,1,2", "a,b.jpg,male,1", "a.jpg,male", "a.jpg"])
def test_more_or_fewer_values(labels, row):
    message = refused(labels(f"file,gender,scene\n{row}\n"))
    assert message.startswith("labels.csv line 2: more or fewer values than columns")


def test_not_utf8(labels):
    assert "cannot be read as UTF-8" in refused(labels("file,gender\nfüße.jpg,male\n".encode("latin-1")))


def test_a_value_beyond_the_csv_limit(labels):
    assert "save it as plain CSV" in refused(labels(f"file,gender\n{'a' * 200_000},male\n"))


# openpeople -----------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("openpeople") is None, reason="openpeople is not installed (extra `demo`)")
def test_openpeople():
    prompts = captioning("openpeople", GENDER)
    assert len(prompts) == len({prompt.id for prompt in prompts}) == 60
    scenes = [prompt.facts["scene"] for prompt in prompts]
    assert len(set(scenes)) == 10
    assert all(scenes.count(scene) == 6 for scene in scenes)
    assert {prompt.facts["gender"] for prompt in prompts} == {"male", "female"}
    assert all(Path(prompt.image).is_file() for prompt in prompts)
    # One person, one declared group.
    assert len({(prompt.facts["scene"], prompt.facts["gender"]) for prompt in prompts}) == 10


def test_openpeople_without_the_package(monkeypatch):
    monkeypatch.setattr(probe, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'evenhand\[demo\]'"):
        captioning("openpeople", GENDER)
