"""Sets of tuples: there and back, for other programs, and everything that is refused."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evenhand.errors import ArtefactError, BadInputError, CorruptLedgerError
from evenhand.mitigate.bpo.tuples import FILE, PictureTuple, TupleSet, check_tuples, read_tuples, write_tuples


def made(number=3, groups=("male", "female")):
    rows = tuple(
        PictureTuple(
            f"{i}/neutral",
            f"a photo of a nurse {i}",
            tuple(f"a photo of a {group} nurse {i}" for group in groups),
            groups,
            np.arange(i, i + 6 * len(groups), dtype=np.int32).reshape(len(groups), 6) % 9,
            tuple(0.5 + 0.1 * k for k in range(len(groups))),
            "model",
        )
        for i in range(number)
    )
    return TupleSet("gender", groups, (2, 3), 9, "abc", rows)


def test_there_and_back(tmp_path):
    wanted = made()
    assert write_tuples(tmp_path, wanted) == tmp_path / FILE
    found = read_tuples(tmp_path)
    assert (found.attribute, found.groups, found.code_shape, found.codebook_size, found.codebook_digest) == (
        "gender",
        ("male", "female"),
        (2, 3),
        9,
        "abc",
    )
    for one, other in zip(found.tuples, wanted.tuples, strict=True):
        assert (one.prompt_id, one.prompt, one.asked, one.groups) == (
            other.prompt_id,
            other.prompt,
            other.asked,
            other.groups,
        )
        assert (one.confidence, one.source) == (other.confidence, other.source)
        assert np.array_equal(one.codes, other.codes)
        assert one.codes.dtype == np.int32
    assert not list(tmp_path.glob("*.part"))


def test_other_programs_read_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_tuples(tmp_path, made())
    found = datasets.load_dataset("parquet", data_files=str(tmp_path / FILE), cache_dir=str(tmp_path / "c"))["train"]
    assert found[1]["groups"] == ["male", "female"]
    assert found[1]["codes"] == made().tuples[1].codes.tolist()


def with_pictures(number=3):
    rows = made(number)
    return replace(
        rows, tuples=tuple(replace(one, images=(png(10 * i), png(10 * i + 1))) for i, one in enumerate(rows.tuples))
    )


def png(red):
    written = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(written, "PNG")
    return written.getvalue()


def test_pictures_are_kept_and_read_where_they_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("evenhand.mitigate.bpo.tuples._AT_ONCE", 2)  # the three tuples are two row groups
    file = write_tuples(tmp_path, with_pictures())
    assert pq.ParquetFile(file).num_row_groups == 2
    assert [one.images for one in read_tuples(tmp_path).tuples] == [()] * 3
    assert [one.images for one in read_tuples(tmp_path, pictures=True).tuples] == [
        (png(10 * i), png(10 * i + 1)) for i in range(3)
    ]
    write_tuples(tmp_path, made())
    assert [one.images for one in read_tuples(tmp_path, pictures=True).tuples] == [()] * 3  # none were kept


def test_other_programs_see_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_tuples(tmp_path, with_pictures())
    found = datasets.load_dataset("parquet", data_files=str(tmp_path / FILE), cache_dir=str(tmp_path / "c"))["train"]
    found = found.cast_column("images", datasets.Sequence(datasets.Image()))
    assert [one.getpixel((0, 0)) for one in found[2]["images"]] == [(20, 0, 0), (21, 0, 0)]


def changed(**given):
    rows = made()
    return replace(rows, tuples=(rows.tuples[0], replace(rows.tuples[1], **given)))


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (lambda: replace(made(), tuples=()), "got none"),
        (lambda: made(groups=("male",)), "two or more"),
        (lambda: made(groups=("male", "male")), "none twice"),
        (lambda: changed(groups=("male", "male")), "tuple 1 .*one of each group"),
        (lambda: changed(groups=("female", "male")), "in this order: male, female"),
        (lambda: changed(groups=("male",)), "one of each group"),
        (lambda: changed(codes=np.full((2, 6), 9, dtype=np.int32)), "from 9 to 9; allowed"),
        (lambda: changed(codes=np.full((2, 6), -1, dtype=np.int32)), "from -1"),
        (lambda: changed(codes=np.zeros((2, 5), dtype=np.int32)), r"shape \(2, 5\)"),
        (lambda: changed(codes=np.zeros((3, 6), dtype=np.int32)), r"shape \(3, 6\)"),
        (lambda: changed(images=(b"x", b"y")), "tuple 1 .*got 2 PNG files; allowed: 2, .*or none in any"),
        (lambda: replace(with_pictures(), tuples=(*with_pictures().tuples, *made().tuples)), "tuple 3 .*got 0 PNG"),
        (lambda: changed(codes=np.zeros((2, 0), dtype=np.int32)), r"shape \(2, 0\); allowed"),
        (lambda: changed(prompt=" "), "tuple 1: got the prompt ' '"),
        (lambda: changed(prompt_id=""), "of identity ''"),
        (lambda: changed(confidence=(0.5, 5.0)), "confidences .0.5, 5.0."),
        (lambda: changed(confidence=(0.5, float("nan"))), "confidences .0.5, nan."),
        (lambda: changed(asked=made().tuples[0].asked[::-1]), "asks for 'male' here and for 'female' in an earlier"),
        (lambda: changed(prompt="a photo of a male nurse 1"), "asks for nobody"),
        (lambda: changed(asked=("the same", "the same")), "another text for each group"),
    ],
)
def test_what_is_no_set_is_neither_written_nor_trained_on(tmp_path, spoiled, message):
    with pytest.raises(BadInputError, match=message):
        check_tuples(spoiled())
    with pytest.raises(BadInputError, match=message):
        write_tuples(tmp_path, spoiled())
    assert not list(tmp_path.iterdir())


class Model:
    name, code_shape, codebook_size, codebook_digest = "m", (2, 3), 9, "abc"


@pytest.mark.parametrize(("name", "value"), [("code_shape", (3, 2)), ("codebook_size", 10), ("codebook_digest", "x")])
def test_another_picture_tokenizer(monkeypatch, name, value):
    check_tuples(made(), Model())
    monkeypatch.setattr(Model, name, value)
    with pytest.raises(ArtefactError, match="Make the data anew for this model"):
        check_tuples(made(), Model())


@pytest.mark.parametrize(
    ("column", "first"),
    [
        ("prompt", None),
        ("prompt_id", None),
        ("source", None),
        ("asked", None),
        ("asked", ["a male nurse", None]),
        ("groups", [None, "female"]),
        ("confidence", [0.5, None]),
        ("codes", None),
        ("codes", [[0, 1, 2, 3, 4, 5], None]),
        ("codes", [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, None]]),
    ],
)
def test_values_that_are_missing_in_a_file(tmp_path, column, first):
    file = write_tuples(tmp_path, made())
    table = pq.read_table(file)
    at = table.schema.get_field_index(column)
    field = table.schema.field(at)
    values = pa.array([first, *table.column(column).to_pylist()[1:]], field.type)
    pq.write_table(table.set_column(at, field, values), file)
    with pytest.raises(CorruptLedgerError, match=f"{column}: 1 values are missing"):
        read_tuples(tmp_path)


@pytest.mark.parametrize("spoil", ["cut", "text", "format", "bare"])
def test_damaged_files(tmp_path, spoil):
    file = write_tuples(tmp_path, made())
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif spoil == "text":
        file.write_text("no")
    else:
        table = pq.read_table(file)
        about = (
            {} if spoil == "bare" else {b"evenhand": table.schema.metadata[b"evenhand"].replace(b'": 1', b'": 7', 1)}
        )
        pq.write_table(table.replace_schema_metadata(about), file)
    with pytest.raises(CorruptLedgerError, match="make it anew"):
        read_tuples(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(BadInputError, match="evenhand mitigate data"):
        read_tuples(tmp_path)
