"""Shown forms by hand."""

import json
import math

import pytest

from evenhand.records import Estimate, WordChange
from evenhand.report.numbers import (
    cut_text,
    estimate_as_dict,
    estimate_form,
    full_precision,
    plain_text,
    plural_of,
    show_number,
    tally_changes,
)


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.38194, "share", "38.2 %"),
        (0.38194, "share-bare", "38.2"),
        (0.38194, "share0", "38 %"),
        (0.004, "share0", "0.4 %"),  # not 0 %: something was seen
        (0.0, "share0", "0 %"),
        (1.0, "share", "100.0 %"),
        (-0.2917, "points", "−29.2 pp"),
        (0.0312, "points", "+3.1 pp"),
        (-0.2917, "points-bare", "−29.2"),
        (0.4024, "decimal", "0.402"),
        (-0.2668, "signed", "−0.267"),
        (-0.0001, "signed", "0.000"),  # no sign on a zero
        (0.96, "signed2", "+0.96"),
        (-2.0, "signed1", "−2.0"),
        (0.2681, "ratio", "×0.27"),
        (1048576, "count", "1 048 576"),
        (0.00214, "significant", "0.0021"),
        (0.5, "significant", "0.50"),
        (-0.0316, "significant", "−0.032"),
        (214.0, "significant", "214"),
        (0.0, "significant", "0"),
        (1.7e-23, "significant", "1.7e−23"),
        (-0.25, "given", "−0.25"),
        (7, "given", "7"),
        (math.nan, "share", "undefined"),
        (math.inf, "ratio", "∞"),
    ],
)
def test_show_number(value, form, shown):
    assert show_number(value, form).replace("\u00a0", " ") == shown


def test_full_precision_reads_back():
    for value in (1 / 3, 5e-324, -0.1, 1e300):
        assert float(full_precision(value)) == value
    assert full_precision(12) == "12"


def test_form_follows_name_and_largest(estimate):
    assert estimate_form(estimate("MR_F", 0.1, 0, 1)) == "share"
    assert estimate_form(estimate("MR_C", 0.1, 0, 1, largest=math.sqrt(1.25))) == "decimal"
    assert estimate_form(estimate("MR_F difference", 0.1, 0, 1)) == "points"
    assert estimate_form(estimate("MR_C difference", 0.1, 0, 1, largest=math.sqrt(1.25))) == "signed"
    assert estimate_form(estimate("MR_C ratio", 0.1, 0, 1, largest=math.inf)) == "ratio"


def test_plain_text_hides_nothing():
    assert plain_text("a\x1b[31mb\x00\n\tc") == "a␛[31mb␀  c"
    assert plain_text("a\u202eb\u200bc\ud800") == "a‹U+202E›b‹U+200B›c‹U+D800›"
    assert plain_text("\U0001f469\u200d\U0001f373") == "\U0001f469\u200d\U0001f373"
    assert plain_text(plain_text("\x1b\u202e\x85")) == plain_text("\x1b\u202e\x85")


def test_cut_text_keeps_the_length():
    assert cut_text("abcdef", 6) == "abcdef"
    assert cut_text("abcdefg", 6) == "abcde…"


def test_estimate_as_dict_is_json():
    given = Estimate("MR_F", 0.25, math.nan, 0.5, 0.95, 24, "picture", "bootstrap", math.inf, 0.0)
    assert json.loads(json.dumps(estimate_as_dict(given), allow_nan=False)) == {
        "name": "MR_F",
        "value": 0.25,
        "low": None,
        "high": 0.5,
        "level": 0.95,
        "n": 24,
        "unit": "picture",
        "method": "bootstrap",
        "largest": None,
        "floor": 0.0,
    }


def test_tally_changes():
    changes = [WordChange(str(n), "man", "woman", n < 2) for n in range(3)] + [WordChange("9", "his", "her", True)]
    assert tally_changes(changes) == [("man", "woman", 3, 2), ("his", "her", 1, 1)]


@pytest.mark.parametrize(
    ("word", "count", "shown"),
    [
        ("picture", 1, "picture"),
        ("picture", 0, "pictures"),
        ("answer or picture", 1, "answer or picture"),
        ("answer or picture", 35, "answers or pictures"),
    ],
)
def test_plurals(word, count, shown):
    assert plural_of(word, count) == shown
