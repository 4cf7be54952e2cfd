"""Reading labelled texts, and parts that never share a text."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.mitigate.ala.text.examples import read_examples, split_examples
from evenhand.records import Attribute

GENDER = Attribute("gender", ("male", "female"), (0.5, 0.5), {}, {}, (), {}, {}, "test")
ROWS = [
    (f"text number {i}, the {word}", group) for i in range(60) for word, group in (("man", "male"), ("woman", "female"))
]


def write(path: Path, rows: list[tuple[object, ...]], names: tuple[str, ...] = ("text", "label")) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
    else:
        lines = [",".join(names), *(",".join(json.dumps(str(value)) for value in row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same(tmp_path: Path, ending: str):
    read = read_examples(write(tmp_path / f"t.{ending}", ROWS), GENDER)
    assert read.texts[:2] == ("text number 0, the man", "text number 0, the woman")
    assert read.labels.tolist() == [0, 1] * 60


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_indices_are_in_the_declared_order(tmp_path: Path, ending: str):
    rows = [(text, 0 if group == "male" else 1) for text, group in ROWS]
    assert read_examples(write(tmp_path / f"t.{ending}", rows), GENDER).labels.tolist() == [0, 1] * 60


def test_parts_are_about_70_15_15_and_depend_on_the_seed(tmp_path: Path):
    rows = [(f"{word} {i}", group) for i in range(2000) for word, group in (("man", "male"), ("woman", "female"))]
    examples = read_examples(write(tmp_path / "t.jsonl", rows), GENDER)
    split = split_examples(examples, GENDER.groups, seed=0)
    sizes = [len(part.texts) / 4000 for part in (split.train, split.calibration, split.test)]
    assert sizes == pytest.approx([0.7, 0.15, 0.15], abs=0.02)
    assert split_examples(examples, GENDER.groups, seed=0).test.texts == split.test.texts
    assert split_examples(examples, GENDER.groups, seed=1).test.texts != split.test.texts


def test_copies_never_lie_in_two_parts(tmp_path: Path):
    rows = [(copy, group) for text, group in ROWS for copy in (text, text.upper(), f"  {text} !!")]
    split = split_examples(read_examples(write(tmp_path / "t.jsonl", rows), GENDER), GENDER.groups, seed=0)
    words = [{" ".join("".join(c if c.isalnum() else " " for c in t.lower()).split()) for t in part.texts}
             for part in (split.train, split.calibration, split.test)]  # fmt: skip
    assert not words[0] & words[1]
    assert not words[0] & words[2]
    assert not words[1] & words[2]
    assert sum(len(part.texts) for part in (split.train, split.calibration, split.test)) == 360


def test_units_stay_together_and_shared_texts_are_dropped(tmp_path: Path):
    rows = [
        (f"{word} {i}" if i % 5 else word, group, i // 4)
        for i in range(400)
        for word, group in (("man", "male"), ("woman", "female"))
    ]
    split = split_examples(
        read_examples(write(tmp_path / "t.csv", rows, ("text", "label", "unit")), GENDER), GENDER.groups, seed=0
    )
    units = [set(part.units) for part in (split.train, split.calibration, split.test)]
    assert not units[0] & units[1] | units[0] & units[2] | units[1] & units[2]
    assert "man" in split.train.texts  # in every fifth unit, so in the first part, and nowhere else
    assert "man" not in split.calibration.texts + split.test.texts


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([*ROWS, ("one more", "other")], "unknown labels 'other'"),
        ([*ROWS, ("one more", "nan")], "unknown labels"),
        ([*ROWS, ("one more", "2")], "unknown labels"),
        ([("a word", 0), *((t, 2) for t, _ in ROWS)], "indices"),
        ([*ROWS, ("", "male")], "row 121: the text is empty"),
        ([*ROWS, (" 3 ... ", "male")], "row 121"),
        ([], "columns"),
    ],
)
def test_unusable_rows_are_refused(tmp_path: Path, rows: list[tuple[object, ...]], match: str):
    with pytest.raises(BadInputError, match=match):
        read_examples(write(tmp_path / "t.csv", rows), GENDER)


def test_nan_and_absent_texts_are_refused(tmp_path: Path):
    for ending, text in (("jsonl", float("nan")), ("jsonl", None), ("parquet", None)):
        with pytest.raises(BadInputError, match="row 121"):
            read_examples(write(tmp_path / f"t.{ending}", [*ROWS, (text, "male")]), GENDER)


def test_too_few_texts_of_a_group_are_refused(tmp_path: Path):
    rows = [row for row in ROWS if row[1] == "male"] + [row for row in ROWS if row[1] == "female"][:49]
    with pytest.raises(TooFewSamplesError, match="female 49"):
        read_examples(write(tmp_path / "t.csv", rows), GENDER)


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(BadInputError, match="allowed"):
        read_examples(write(tmp_path / "t.txt", ROWS), GENDER)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_examples(tmp_path / "absent.csv", GENDER)
    with pytest.raises(BadInputError, match="columns"):
        read_examples(write(tmp_path / "t.csv", ROWS, ("comment", "label")), GENDER)
    (tmp_path / "t.parquet").write_bytes(b"no")
    with pytest.raises(BadInputError, match="cannot be read"):
        read_examples(tmp_path / "t.parquet", GENDER)
