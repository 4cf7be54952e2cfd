"""Rows, markers, texts and safety of the plots of shares."""

import re
import warnings
from itertools import combinations, pairwise

import numpy as np
import pytest
from drawn_runs import GROUPS, answers_of, label_row, prompt_of, score, small_run
from pages import HOSTILE

from evenhand.errors import BadInputError
from evenhand.report.disparity_plots import GROUP_COLOURS, gap_plot, share_plot
from evenhand.report.leanings import prompt_rows
from evenhand.report.understanding import pair_answers

EVEN = (0.5, 0.5)


def rows_of(said, attribute="gender"):
    prompts = [prompt_of(name) for name in said]
    labels = [label for prompt in prompts for label in label_row(prompt, attribute, said[prompt.facts["occupation"]])]
    return prompt_rows(score(prompts, {attribute: labels}, previews=0), attribute)


def texts(svg):
    return [text.replace("\u00a0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def markers(svg):
    """Place of every marker, by the fill of its group of marks."""
    return [
        (fill, float(x), float(y))
        for x, y, fill in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: (#\w+)', svg)
        if fill != "#566270"
    ]


SAID = {"clerk": ["male", "female"] * 20, "sewer": ["female"] * 40, "guard": ["male"] * 40}


def test_rows_are_sorted_by_the_share_and_say_it():
    shown = texts(share_plot(rows_of(SAID), GROUPS["gender"], EVEN))
    assert [text for text in shown if text in SAID] == ["guard", "clerk", "sewer"]
    # Jeffreys' interval of 20 of 40 is 0.35 to 0.65; 0 and 40 of 40 end at 0 and 1
    assert "50 % [35–65] of 40" in shown
    assert "100 % [94–100] of 40" in shown
    assert {"← all female", "all male →", "target 50 %"} <= set(shown)


def test_markers_stand_where_the_shares_are():
    # near, then above, then below: clerk at 1/2, guard at 1, sewer at 0
    found = markers(share_plot(rows_of(SAID), GROUPS["gender"], EVEN))
    assert [fill for fill, _, _ in found] == ["#ffffff", "#cc6a00", "#6a3d9a"]
    near, above, below = found
    assert near[1] == pytest.approx((above[1] + below[1]) / 2, abs=1e-3)
    assert above[2] < near[2] < below[2]


def test_a_row_has_its_own_height_however_many_there_are():
    said = {f"number {n}": ["male", "female", "male"] for n in range(160)}
    found = markers(share_plot(rows_of(said), GROUPS["gender"], EVEN))
    heights = sorted(y for _, _, y in found)
    assert len(heights) == 160
    assert min(b - a for a, b in pairwise(heights)) > 12  # 9 pt text


def test_long_names_are_cut_where_they_stay_apart():
    names = [f"manufactured building and mobile home installer {n}" for n in "ab"]
    names.append("gas compressor and gas pumping station operator")
    shown = texts(share_plot(rows_of({name: ["male"] for name in names}), GROUPS["gender"], EVEN))
    assert "gas compressor and gas pumping stat…" in shown
    cut = [text for text in shown if text.startswith("manufactured")]
    assert cut == ["manufactured building a… installer a", "manufactured building a… installer b"]


def test_a_band_shows_what_is_unknown():
    known = {"guard": ["male"] * 6 + ["female"] * 2}
    assert "#c9d1d9" not in share_plot(rows_of(known), GROUPS["gender"], EVEN)
    svg = share_plot(rows_of({"guard": ["male"] * 6 + ["[uncertain]"] * 2}), GROUPS["gender"], EVEN)
    (band,) = re.findall(r'<path d="M ([\d.]+) [\d.]+ ?\s*L ([\d.]+) [\d.]+ ?\s*" [^>]*#c9d1d9', svg)
    (marker,) = markers(svg)
    assert float(band[0]) == pytest.approx(marker[1], abs=0.01)  # from the share ...
    assert float(band[1]) > marker[1]  # ... to where it would be if all of them were male


def test_more_groups_have_a_panel_each():
    said = {"guard": ["white"] * 9 + ["black"], "nurse": ["asian"] * 5 + ["white"] * 5}
    shown = texts(share_plot(rows_of(said, "race"), GROUPS["race"], (0.25,) * 4))
    assert [text for text in shown if text in GROUPS["race"]] == list(GROUPS["race"])
    assert shown.count("target 25 %") == 4
    assert [text for text in shown if text in said] == ["guard", "nurse"]  # white is seen most: 0.9 against 0.5


def test_a_prompt_without_a_share_has_a_row_and_no_mark():
    svg = share_plot(rows_of({"guard": ["[no face]"] * 3, "nurse": ["male"] * 3}), GROUPS["gender"], EVEN)
    assert [text for text in texts(svg) if text in {"guard", "nurse"}] == ["nurse", "guard"]
    assert "undefined" in texts(svg)
    assert len(markers(svg)) == 1
    with pytest.raises(BadInputError, match="nothing to draw"):
        share_plot(rows_of({"guard": ["male"]})[:0], GROUPS["gender"], EVEN)


def test_gaps():
    run = small_run()
    answers = answers_of(run.prompts, shares=[(1, 0, 0), (1, 0, 0), (0, 1, 0)], n=20)
    pairs = pair_answers(small_run(answers={"gender": answers}), "gender")
    shown = texts(gap_plot(pairs, GROUPS["gender"], EVEN))
    # nurse: 1 - 0.2; sewer: 1 - 1; clerk: 0 - 0.5
    assert [text for text in shown if text in {"sewer", "nurse", "clerk"}] == ["nurse", "sewer", "clerk"]
    assert [text for text in shown if text.endswith(" pp")] == ["+80.0 pp", "0.0 pp", "−50.0 pp"]
    with pytest.raises(BadInputError, match="nothing to draw"):
        gap_plot((), GROUPS["gender"], EVEN)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = share_plot(rows_of({text: ["male"] * 3}), ("male", "female"), EVEN)
    assert "<script" not in svg
    assert "<img" not in svg
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", svg)


SIGHT = {  # Machado et al. 2009, severity 1, on linear RGB
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, sight):
    """CIELAB (D65) of a colour as seen with the matrix."""
    srgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(np.maximum(to_xyz @ seen / (0.9505, 1.0, 1.089), 1e-9))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight):
    seen = [lab(colour, SIGHT[sight]) for colour in (*GROUP_COLOURS, "#8a95a1")]
    apart = [np.linalg.norm(one - other) for one, other in combinations(seen, 2)]
    assert min(apart) > 19.5
    assert apart[0] > 55  # the two of gender


def test_same_bytes():
    assert share_plot(rows_of(SAID), GROUPS["gender"], EVEN) == share_plot(rows_of(SAID), GROUPS["gender"], EVEN)
