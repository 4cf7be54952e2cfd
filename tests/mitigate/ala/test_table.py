"""Words with their weights, before any tokenizer, and what a file of them must be to be read."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.table import (
    WordTable,
    WordWeight,
    load_table,
    save_table,
    table_from_attribute,
    table_from_importance,
)
from evenhand.records import Attribute

GENDER = Attribute(
    name="gender",
    groups=("male", "female"),
    target=(0.5, 0.5),
    words={"male": ("man",), "female": ("woman",)},
    steering_words={"male": ("man", "king"), "female": ("woman",)},
    neutral_words=(),
    neutral_forms={},
    counterparts={},
    source="a list",
)
TABLE = WordTable(
    "gender", ("male", "female"), {"man": WordWeight("male", 0.5), "woman": WordWeight("female", 1.0)}, "fitted"
)


def test_an_attributes_words_weigh_one():
    table = table_from_attribute(GENDER)
    assert table.words == {"man": ("male", 1.0), "king": ("male", 1.0), "woman": ("female", 1.0)}
    assert (table.attribute, table.groups, table.source) == ("gender", ("male", "female"), "a list")


def test_importances_by_hand():
    # `Man` is stronger than `man`, so both weigh 0.75; `with` is below tau; `42` has no letter.
    words = ["man", "Man", "woman", "with", "42"]
    beta = np.array([[0.5, -0.5], [0.75, -0.75], [-1.0, 1.0], [0.0625, -0.0625], [1.0, -1.0]])
    table = table_from_importance(GENDER, words, beta, source="fitted")
    assert table.words == {"man": ("male", 0.75), "woman": ("female", 1.0)}
    lower = table_from_importance(GENDER, words, beta, threshold=0.05, source="fitted")
    assert lower.words["with"] == ("male", 0.0625)


@pytest.mark.parametrize(
    "beta", [np.array([[2.0, -2.0]]), np.array([[np.nan, 0.5]]), np.array([[0.5, 0.2, 0.3]]), np.zeros((2, 2))]
)
def test_wrong_importances_are_refused(beta):
    with pytest.raises(BadInputError):
        table_from_importance(GENDER, ["man"], beta, source="fitted")


@pytest.mark.parametrize(
    "words",
    [
        {"Man": WordWeight("male", 1.0)},
        {" man": WordWeight("male", 1.0)},
        {"42": WordWeight("male", 1.0)},
        {"": WordWeight("male", 1.0)},
        {"man": WordWeight("other", 1.0)},
        {"man": WordWeight("male", 1.5)},
        {"man": WordWeight("male", -0.5)},
        {"man": WordWeight("male", float("nan"))},
    ],
)
def test_wrong_tables_are_refused(words):
    with pytest.raises(BadInputError, match="gender"):
        WordTable("gender", ("male", "female"), words, "x")


def test_one_group_is_refused():
    with pytest.raises(BadInputError, match="at least two"):
        WordTable("gender", ("male",), {}, "x")


def test_round_trip(tmp_path):
    save_table(TABLE, tmp_path / "t.safetensors")
    assert load_table(tmp_path / "t.safetensors") == TABLE


GOOD_TENSORS = {"group": np.array([0, 1], np.int8), "weight": np.array([0.5, 1.0], np.float32)}
GOOD = {
    "format": "evenhand-word-table-1",
    "attribute": "gender",
    "groups": '["male", "female"]',
    "words": '["man", "woman"]',
    "source": "x",
}


def test_the_file_the_wrong_ones_differ_from_is_read(tmp_path):
    save_file(GOOD_TENSORS, tmp_path / "t", metadata=GOOD)
    assert load_table(tmp_path / "t").words == TABLE.words


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"weight": np.array([0.5, np.nan], np.float32)}, {}),
        ({"weight": np.array([0.5, np.inf], np.float32)}, {}),
        ({"weight": np.array([0.5], np.float32)}, {}),
        ({"weight": np.array([0.5, 1.0])}, {}),
        ({"weight": np.array([[0.5, 1.0]], np.float32)}, {}),
        ({"group": np.array([0, 2], np.int8)}, {}),
        ({"group": np.array([0, -1], np.int8)}, {}),
        ({"group": np.array([0, 1], np.int64)}, {}),
        ({"more": np.zeros(1)}, {}),
        ({}, {"format": "evenhand-word-table-2"}),
        ({}, {"words": '["man", "man"]'}),
        ({}, {"words": '["man", "Woman"]'}),
        ({}, {"words": '["man"'}),
        ({}, {"words": '{"man": 1}'}),
        ({}, {"words": "[" * 100_000}),
        ({}, {"groups": '["male"]'}),
        ({}, {"groups": json.dumps(["male", "male"])}),
        ({}, {"attribute": ""}),
    ],
)
def test_wrong_files_are_refused(tensors, metadata, tmp_path):
    save_file({**GOOD_TENSORS, **tensors}, tmp_path / "t.safetensors", metadata={**GOOD, **metadata})
    with pytest.raises(ArtefactError, match=r"t\.safetensors"):
        load_table(tmp_path / "t.safetensors")


def test_what_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "t").write_bytes(b"\x80\x04K\x01.")
    for path in (tmp_path / "t", tmp_path / "absent", tmp_path):
        with pytest.raises(ArtefactError):
            load_table(path)
