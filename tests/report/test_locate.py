"""The page of a location: what stands on it, what is left out, and that nothing from outside acts on it."""

import dataclasses
import json
import math
import re

import pytest
from located_runs import AGES, bare, full
from pages import HOSTILE, assert_inert, assert_readable
from spoiling import spoil_all

from evenhand.errors import BadInputError
from evenhand.report.locate import location_as_dict, render_location, write_location


@pytest.fixture(scope="module")
def page():
    return render_location([full(), bare()], title="Where it sits")


def strings(value) -> set[str]:
    """Every text of a record."""
    if dataclasses.is_dataclass(value):
        return {one for field in dataclasses.fields(value) for one in strings(getattr(value, field.name))}
    if isinstance(value, dict):
        return {one for pair in value.items() for part in pair for one in strings(part)}
    if isinstance(value, tuple | list):
        return {one for part in value for one in strings(part)}
    return {value} if isinstance(value, str) else set()


def test_the_verdict_comes_first(page):
    text = assert_inert(page).text
    assert (
        "The bias sits in the language model. The effect of the language model is 31.2 % [25.2, 37.2]"
        in text.replace("\u00a0", " ")
    )
    assert "No evidence in the picture decoder: an effect of that size would have been seen." in text
    assert "Not enough evidence on the picture encoder." in text
    first, second = text.index("Verdict of each part"), text.index("From what the codes draw")
    assert text.index("The bias sits") < first < second < text.index("Where in the picture it enters")


def test_the_page_is_whole_and_readable(page):
    assert_readable(page)
    assert render_location([full(), bare()], title="Where it sits") == page


def test_every_number_is_a_figure(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    bare_text = assert_inert(re.sub(r">[^<]*</data>", "></data>", body)).text
    for known in sorted({*strings(full()), *strings(bare())}, key=len, reverse=True):
        bare_text = bare_text.replace(known, "")
    assert re.findall(r".{0,20}\d.{0,20}", bare_text.replace("F1", "").replace("log 2", "")) == []


def test_figures_carry_the_records_numbers(page):
    figures = assert_inert(page).figures
    key = "runs/janus-pro-1b/gender"
    assert figures[f"{key}/part/language model/size/value"] == ("0.312", "31.2 %")
    assert figures[f"{key}/evidence/picture decoder/against/0/value"] == ("0.012", "+0.012")
    assert figures[f"{key}/turned/male/female"] == ("5", "5")
    assert figures[f"{key}/turned/male/female/share"] == (repr(5 / 142), "4 %")
    # 133 + 84 of 133 + 5 + 4 + 11 + 84 + 3
    assert figures[f"{key}/turned/same"][1] == "217"
    assert figures[f"{key}/turned/total"][1] == "240"
    assert figures[f"{key}/trip/p_value"] == ("0.508", "0.51")
    assert figures[f"{key}/divergence/nurse/published/male/null"] == ("0.098", "0.098")
    assert figures[f"{key}/partly/count"] == ("2", "2")
    # a hill of 0.0192 at row 4, column 5 of 8
    assert figures[f"{key}/map/enters/neutral/female/largest/value"] == ("0.0192", "0.019")
    assert [figures[f"{key}/map/enters/neutral/female/{name}"][1] for name in ("row", "column")] == ["4", "5"]


def test_what_is_absent_is_left_out_with_what_to_give():
    text = assert_inert(render_location([bare()], title="Age")).text
    for what in ("Shares by likelihood", "Answers", "Heat maps", "Probes", "Divergences of whole pictures"):
        assert f"{what} are left out" in text
    assert "The round trip is left out: there are no labelled pictures." in text
    assert "Not enough evidence to say where the bias sits, or whether there is any." in text
    assert "not measured" in text
    assert "Evidence:" not in text


def test_an_empty_location_makes_a_page():
    empty = dataclasses.replace(bare(), parts=(), prompts=(), totals={}, fidelity={}, two_samples={}, settings={})
    text = assert_inert(render_location([empty], title="Age")).text
    assert "Shares shown are left out" in text
    assert "No part is found biased." in text


@pytest.mark.parametrize("open_parts", [0, 1])
def test_no_evidence_says_what_would_have_been_seen(open_parts):
    parts = tuple(
        dataclasses.replace(part, verdict="not enough evidence" if at < open_parts else "no evidence")
        for at, part in enumerate(full().parts)
    )
    text = assert_inert(render_location([dataclasses.replace(full(), attributed=(), parts=parts)], title="Gender")).text
    if open_parts:
        assert "No evidence in the picture decoder or the picture encoder. Not enough evidence on the language" in text
    else:
        assert "No evidence of bias in any part: an effect of 5.0 % of pictures" in text.replace("\u00a0", " ")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_inert(text):
    page = render_location([spoil_all(full(), text), spoil_all(bare(), text)], title=f"Page {text}")
    assert_inert(page)
    assert "<svg onload" not in page


def test_many_prompts_are_opened():
    few = full()
    many = tuple(dataclasses.replace(few.prompts[at % 6], name=f"occupation {at}") for at in range(30))
    parsed = assert_inert(render_location([dataclasses.replace(few, prompts=many)], title="Many"))
    assert "Show the other 6 prompts, nearer to the target" in parsed.text.replace("\u00a0", " ")
    opened = [attributes for tag, attributes in parsed.elements if tag == "details"]
    assert not any("open" in attributes for attributes in opened)


def test_undefined_numbers_are_said():
    part = full().parts[0]
    size = dataclasses.replace(part.size, value=math.nan, low=math.nan, high=math.nan)
    parts = (dataclasses.replace(part, size=size), *full().parts[1:])
    found = dataclasses.replace(full(), parts=parts, attributed=())
    assert "undefined" in assert_inert(render_location([found], title="Undefined")).text
    assert json.dumps(location_as_dict([found], title="Undefined"), allow_nan=False)


def test_files_are_written_whole(tmp_path):
    path = write_location([full()], tmp_path / "out", title="Where \x1b it sits")
    assert sorted(one.name for one in path.parent.iterdir()) == ["locate.html", "locate.json"]
    numbers = json.loads(path.with_name("locate.json").read_text())
    assert numbers["format"] == "evenhand location 1"
    assert numbers["title"] == "Where ␛ it sits"
    found = numbers["locations"][0]
    assert found["prompts"][4]["codes"]["male"]["value"] == 0.04
    assert found["turned"]["female"] == {"male": 11, "female": 84, "uncertain": 3}
    assert found["probes"][0]["curve"]["800"]["value"] == pytest.approx(0.952)
    assert len(found["maps"][0]["values"]) == 64
    assert {len(one) for example in found["examples"] for one in example["pictures"]} == {64}  # SHA-256, in hex
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="give another one with --out"):
        write_location([full()], tmp_path / "file", title="Where it sits")


def test_records_that_make_no_page_are_refused():
    with pytest.raises(BadInputError, match="at least one location"):
        render_location([], title="None")
    with pytest.raises(BadInputError, match="each attribute of a run once"):
        render_location([full(), full()], title="Twice")
    with pytest.raises(BadInputError, match="3 groups and 2 targets"):
        render_location([dataclasses.replace(bare(), target=(0.5, 0.5))], title="Targets")
    short = dataclasses.replace(full().maps[0], rows=7)
    with pytest.raises(BadInputError, match="7 x 8 codes, 64 values"):
        render_location([dataclasses.replace(full(), maps=(short,))], title="Map")


def test_three_groups_have_a_column_each():
    text = assert_inert(render_location([bare()], title="Age")).text
    assert all(f"{group}, shown" in text for group in AGES)
