"""The plot's texts, positions and safety."""

import dataclasses
import math
import re
import warnings
from itertools import pairwise

import pytest

from evenhand.errors import BadInputError
from evenhand.report import forest_plot


def texts(svg):
    return [text.replace("\u00a0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_every_run_has_a_row_with_its_numbers(audit):
    shown = texts(forest_plot(audit[0], ["MR_F", "MR_C"]))
    assert [text for text in shown if text in {"plain", "align", "neutral"}] == [
        "plain",
        "align",
        "neutral",
    ] * 2
    assert "37.5 %" in shown
    assert "[20.8 – 58.3]" in shown
    assert [text for text in shown if text.startswith("MR_")] == ["MR_F", "MR_C"]


def test_rows_do_not_overlap(audit):
    svg = forest_plot(audit[0], ["MR_F", "MR_M", "MR_O", "MR_C"])
    rows = sorted({float(y) for y in re.findall(r'y="([\d.]+)" transform="rotate\(-0', svg)})
    assert len(rows) >= 12
    # 9.5 pt text needs at least its own height from row to row; smaller steps are the offsets inside one row
    gaps = [b - a for a, b in pairwise(rows) if b - a > 2]
    assert min(gaps) > 12


def test_markers_stand_where_the_values_are(audit, estimate):
    # one axis, values 0, 0.25 and 0.5: the marker of the second run stands half way between the others
    runs = [
        dataclasses.replace(run, estimates=(estimate("MR_F", value, 0.0, 0.5),))
        for run, value in zip(audit[0], (0.0, 0.25, 0.5), strict=True)
    ]
    svg = forest_plot(runs, ["MR_F"])
    groups = re.findall(r'<g clip-path="url\(#\w+\)">\s*<use xlink:href="#\w+" x="([\d.]+)"', svg)
    left, middle, right = map(float, groups)
    assert middle == pytest.approx((left + right) / 2, abs=1e-3)


def test_same_bytes_and_no_outside_reference(audit):
    svg = forest_plot(audit[0], ["MR_F", "MR_C"])
    assert svg == forest_plot(audit[0], ["MR_F", "MR_C"])
    assert svg.startswith("<svg ")
    assert "http" not in svg
    assert "<metadata" not in svg


def test_hostile_names_and_undefined_values(audit, estimate):
    bad = estimate("$\\frac{1}{$ <script>", math.nan, math.nan, math.nan)
    run = dataclasses.replace(audit[0][0], run="$x^$</text><script>\x1b\u6f22", estimates=(bad,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = forest_plot([run], [bad.name])
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "undefined" in svg


def test_nothing_to_draw(audit):
    with pytest.raises(BadInputError, match="nothing to draw"):
        forest_plot(audit[0], ["MR_X"])
