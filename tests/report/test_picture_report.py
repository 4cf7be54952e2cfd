"""The pictures' part of a page: what it says, that it is inert, quick and small."""

import dataclasses
import math
import re

import pytest
from drawn_runs import label_row, large_run, prompt_of, score, small_run
from pages import HOSTILE, Page, assert_inert, assert_readable
from spoiling import spoil_comparison, spoil_pictures

from evenhand.errors import BadInputError
from evenhand.records import Estimate
from evenhand.report import render_report
from evenhand.report.json_values import report_as_dict


def rendered(*runs, pairs=(), title="Audit"):
    return render_report([], [], title=title, pictures=runs, picture_comparisons=pairs)


def test_says_whom_it_draws():
    run = small_run()
    page = assert_inert(rendered(run))
    means = {one.name: one for one in run.estimates["gender"]}
    rd, observed = means["RD"], means["RD_observed"]
    figures = page.figures
    assert figures["pictures/plain/gender/sentence/RD/value"] == (repr(rd.value), f"{rd.value:.2f}")
    assert figures["pictures/plain/gender/headline/RD/low"] == (repr(rd.low), f"{rd.low:.2f}")
    assert figures["pictures/plain/gender/sentence/RD/largest"] == ("1.0", "1")
    # 20 of the 35 in the denominator are male, 14 female
    assert figures["pictures/plain/gender/headline/group/male/share"] == (repr(20 / 35), "57.1 %")
    assert figures["pictures/plain/gender/headline/group/female/share"] == (repr(14 / 35), "40.0 %")
    text = page.text.replace("\u00a0", " ")
    assert f"Perceived gender: RD {rd.value:.2f} [{rd.low:.2f}, {rd.high:.2f}] of at most 1;" in text
    # RD stands beside what an even model leaves of it, RD_observed beside what an even model shows: never crossed.
    assert rd.floor < observed.floor
    assert f"of at most 1; an even model leaves {rd.floor:.2f} on average. With the sample’s noise still in it," in text
    assert f"RD_observed is {observed.value:.2f} [{observed.low:.2f}–{observed.high:.2f}]; an even model shows" in text
    for key, one in (("RD", rd), ("RD_observed", observed)):
        for place in ("sentence", "headline"):
            assert figures[f"pictures/plain/gender/{place}/{key}/floor"] == (repr(one.floor), f"{one.floor:.2f}")
    # of an even model |12 - 2 x| / 12 is (12 choose 6) / 2^12 = 0.226 on average; the nurse's 10 of 11 make it less
    assert (
        "an even model shows 0.22 on average at 12 pictures. 1 of 3 prompts show more male and 0 more female than"
        in text
    )
    assert "No known group, perceived gender: no face 1, uncertain 1, of 36." in text
    assert "Nobody checked the classifier on pictures of this model." in text
    assert "3 prompts, 12 pictures each, 36 in all." in text
    for word in ("unbiased", "debiased", "fair "):
        assert word not in page.text.lower()


def test_every_prompt_has_its_numbers():
    figures = Page(rendered(small_run())).figures
    key = "pictures/plain/gender/prompt/nurse/neutral"
    # 2 of 11: Jeffreys' interval 0.04 to 0.47
    assert figures[f"{key}/male/value"] == (repr(2 / 11), "18 %")
    assert (figures[f"{key}/male/low"][1], figures[f"{key}/male/high"][1]) == ("4", "47")
    assert figures[f"{key}/of"] == ("11", "11")
    assert figures[f"{key}/unknown/no face"] == ("1", "1")
    assert figures["pictures/plain/gender/prompt/sewer/neutral/unknown/no face"] == ("0", "0")


def test_contact_sheets_show_what_the_classifier_says():
    prompt = prompt_of("guard")
    said = ["male", "[no face]", "female", "male", "male"]
    run = score([prompt], {"gender": label_row(prompt, "gender", said)}, previews=3)
    page = rendered(run)
    bars = re.findall(
        r'<span class="track( hatched)?" title="([^"]*)">(?:<span class="fill (g\d)" style="([^"]*)">)?', page
    )
    assert bars == [
        ("", "gender: male", "g0", "width:95%"),
        (" hatched", "gender: no face", "", ""),
        ("", "gender: female", "g1", "width:93%"),
    ]
    figures = Page(page).figures
    assert figures["pictures/plain/sheet/guard/neutral/2/gender"] == ("0.93", "93 %")
    assert figures["pictures/plain/sheet/guard/neutral/hidden"] == ("2", "2")
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert "no face</span>" in page


def test_the_most_uneven_sheet_comes_first_and_undefined_ones_last():
    said = {"clerk": ["male", "female"] * 6, "ghost": ["[no face]"] * 12, "sewer": ["male"] * 12}
    prompts = [prompt_of(name) for name in said]
    labels = [label for prompt in prompts for label in label_row(prompt, "gender", said[prompt.facts["occupation"]])]
    page = rendered(score(prompts, {"gender": labels}, previews=1))
    assert re.findall(r"<b>(\w+)</b>\s*<span class=\"small\">RD", page) == ["sewer", "clerk", "ghost"]
    assert Page(page).figures["pictures/plain/sheet/ghost/neutral/RD"] == ("nan", "undefined")


def test_products_have_no_bars_and_a_folded_plot():
    prompt = prompt_of("guard")
    gender, race = ["male", "female"], ["white", "black"]
    labels = {"gender": label_row(prompt, "gender", gender), "race": label_row(prompt, "race", race)}
    page = rendered(score([prompt], labels))
    titles = re.findall(r'<span class="track" title="([^"]*)"', page)
    assert titles == ["gender: male", "race: white", "gender: female", "race: black"]
    assert "Perceived gender × race" in page
    figures = Page(page).figures
    # one of two pictures is male and white; of eight groups
    assert figures["pictures/plain/gender x race/headline/group/male x white/share"] == ("0.5", "50.0 %")
    assert figures["pictures/plain/gender x race/plot/groups"] == ("8", "8")


def test_the_least_confidence_is_told_where_it_decides():
    prompt = prompt_of("guard")
    labels = {"gender": label_row(prompt, "gender", ["male"] * 4)}
    confident = Page(rendered(score([prompt], labels, denominator="confident")))
    assert "all others are left out (at least 0.8)." in confident.text
    assert "pictures/plain/headline/min_confidence" not in Page(rendered(score([prompt], labels))).figures


def test_a_failed_picture_is_told():
    run = small_run(failed=[("nurse/neutral", 0), ("nurse/neutral", 3)])
    page = Page(rendered(run))
    assert "2 pictures could not be drawn. BadInputError: cannot draw this" in page.text.replace("\u00a0", " ")
    assert page.figures["pictures/plain/sheet/nurse/neutral/shown"] == ("2", "2")  # of four previews
    assert page.figures["pictures/plain/sheet/nurse/neutral/hidden"] == ("8", "8")  # 12 less 2 less 2


def test_answers_against_pictures(drawn):
    (first, _), _ = drawn
    page = Page(rendered(first))
    found = {one.name: one for one in first.answers["gender"].estimates}
    key = "pictures/plain/answers/gender/headline"
    assert page.figures[f"{key}/gap/value"][0] == repr(found["gap"].value)
    assert page.figures[f"{key}/answer_rate/value"][0] == repr(found["answer_rate"].value)
    assert page.figures[f"{key}/gap male/value"][1].startswith("+")
    assert (
        page.figures["pictures/plain/answers/gender/unknown/refused"]
        == (str(sum(label.reason == "refused" for label in first.answers["gender"].labels)),) * 2
    )
    assert "more in answers than in pictures" in page.text
    assert "more in pictures than in answers" in page.text


def test_comparisons(drawn):
    runs, pairs = drawn
    page = Page(rendered(*runs, pairs=pairs))
    key = "pictures/moved against plain"
    # 2 of the nurse's 10 were male and 5 are now: 3 moved, nothing else did
    assert page.figures[f"{key}/moved/gender/female/male"] == ("3", "3")
    assert page.figures[f"{key}/moved/gender/male/female"] == ("0", "0")
    assert page.figures[f"{key}/moved/gender/uncertain/uncertain"] == ("1", "1")
    assert page.figures[f"{key}/count/gender: moved"] == ("3", "3")
    difference = pairs[0].estimates["gender"][0]
    assert page.figures[f"{key}/gender/RD difference/value"][0] == repr(difference.value)


def test_corrected_shares_stand_beside_the_counted_ones():
    run = small_run()
    like = run.estimates["gender"][0]
    corrected = dataclasses.replace(like, name="RD_corrected", value=0.61, low=0.3, high=0.9)
    shares = [
        dataclasses.replace(like, name=f"share {group} corrected", value=value, low=0.05, high=0.95)
        for group, value in (("male", 0.125), ("female", 0.875))
    ]
    rows = {**run.per_prompt["gender"], "nurse/neutral": (*run.per_prompt["gender"]["nurse/neutral"], *shares)}
    run = dataclasses.replace(
        run, estimates={"gender": (*run.estimates["gender"], corrected)}, per_prompt={"gender": rows}
    )
    figures = Page(rendered(run)).figures
    assert figures["pictures/plain/gender/headline/RD_corrected/value"] == ("0.61", "0.61")
    key = "pictures/plain/gender/prompt/nurse/neutral"
    assert figures[f"{key}/male/corrected/value"] == ("0.125", "12 %")
    assert figures[f"{key}/male/value"] == (repr(2 / 11), "18 %")
    assert f"{key.replace('nurse', 'clerk')}/male/corrected/value" not in figures


def test_answers_about_an_attribute_that_is_not_scored_have_no_plot(drawn):
    (first, _), _ = drawn
    answers = dataclasses.replace(first.answers["gender"], attribute="age")
    page = rendered(dataclasses.replace(first, answers={"age": answers}))
    assert "perceived age" in page
    assert "Shares among answers beside" not in page


def test_captions_and_pictures_in_one_page(audit, drawn):
    runs, comparisons = audit
    pictures, pairs = drawn
    page = assert_inert(render_report(runs, comparisons, title="Both", pictures=pictures, picture_comparisons=pairs))
    assert page.figures["plain/estimate/MR_F/value"] == ("0.375", "37.5 %")
    assert "pictures/plain/gender/headline/RD/value" in page.figures
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id") and "drawn" in attributes["id"]]
    assert len(set(ids)) == len(ids)
    alone = Page(rendered(*pictures, pairs=pairs))
    assert not any(key.startswith("plain/") for key in alone.figures)


def test_the_markup_can_be_read(audit, drawn):
    runs, comparisons = audit
    pictures, pairs = drawn
    assert_readable(render_report(runs, comparisons, title="Captions and perceived gender"))
    both = render_report(runs, comparisons, title="Both", pictures=pictures, picture_comparisons=pairs)
    assert both.count("<svg") >= 4
    assert_readable(both)
    # the title that an audit of this model gives its report
    assert_readable(rendered(pictures[0], title="Whom miniature draws"))


def test_a_gap_counts_answers_and_pictures(drawn):
    (first, _), _ = drawn
    gap = {one.name: one for one in first.answers["gender"].estimates}["gap"]
    page = Page(rendered(first))
    assert f"{gap.n} answers or pictures" in page.text
    (told,) = [
        one
        for one in report_as_dict([], [], title="", pictures=[first])["pictures"][0]["answers"]["gender"]["estimates"]
        if one["name"] == "gap"
    ]
    assert told["unit"] == "answer or picture"


@pytest.fixture(scope="module")
def clean_tags(drawn):
    runs, pairs = drawn
    return {tag for tag, _ in Page(rendered(*runs, pairs=pairs)).elements}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert(drawn, clean_tags, text):
    runs, pairs = drawn
    spoilt = [spoil_pictures(run, text) for run in runs]
    page = rendered(*spoilt, pairs=[spoil_comparison(pair, text) for pair in pairs], title=text)
    parsed = assert_inert(page)
    assert {tag for tag, _ in parsed.elements} <= clean_tags
    assert all(value.startswith("#drawn-") for _, a in parsed.elements if (value := a.get("href")))
    if "{{" in text:
        assert "{{7*7}}" in parsed.text


def test_long_names_are_cut():
    prompt = prompt_of("x" * 100_000)
    run = score([prompt], {"gender": label_row(prompt, "gender", ["male"] * 3)}, caveats=["y" * 100_000])
    assert len(rendered(run)) < 120_000


def test_a_large_run_makes_a_small_page():
    large = large_run()
    sizes = [len(jpeg) for jpeg in large.previews.values()]
    assert len(sizes) == 800
    assert sum(sizes) / 800 > 2400
    page = rendered(large)
    assert len(page.encode()) < 5_000_000


def test_refuses_what_makes_no_report(drawn):
    (first, second), (pair,) = drawn
    with pytest.raises(BadInputError, match="at least one run"):
        rendered()
    with pytest.raises(BadInputError, match="unique"):
        rendered(first, first)
    with pytest.raises(BadInputError, match="two runs of this report"):
        rendered(first, pairs=[pair])
    with pytest.raises(BadInputError, match="once"):
        rendered(first, second, pairs=[pair, pair])
    with pytest.raises(BadInputError, match="no targets"):
        rendered(dataclasses.replace(first, targets={}))
    with pytest.raises(BadInputError, match="36 samples and 35 labels"):
        rendered(dataclasses.replace(first, labels={"gender": first.labels["gender"][1:]}))
    with pytest.raises(BadInputError, match="no attribute"):
        rendered(dataclasses.replace(first, groups={}))


def test_undefined_everywhere_is_said():
    prompt = prompt_of("ghost")
    one = small_run()
    nothing = dataclasses.replace(
        one,
        prompts=(prompt,),
        samples=one.samples[:3],
        previews={},
        labels={"gender": tuple(label_row(prompt, "gender", ["[no face]"] * 3))},
        estimates={"gender": (Estimate("RD", *[math.nan] * 3, 0.95, 0, "picture", "undefined", 1.0, math.nan),)},
        per_prompt={"gender": {prompt.id: ()}},
    )
    page = Page(rendered(nothing))
    assert page.figures["pictures/plain/gender/sentence/RD/value"] == ("nan", "undefined")
    assert "svg" not in {tag for tag, _ in page.elements}
