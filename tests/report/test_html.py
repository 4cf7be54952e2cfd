"""What the page holds, that it is inert, and that it is the same every time."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import pytest
from pages import HOSTILE, Page, assert_inert

from evenhand.errors import BadInputError
from evenhand.records import Claim, Edit, Prompt, Sample, WordChange
from evenhand.report import render_report, write_report
from evenhand.report.html import OPEN_CARDS, SHOWN_CHARACTERS


def spoil(runs, comparisons, text):
    """The same audit with ``text`` wherever text comes from outside."""
    names = {run.run: f"{run.run} {text}" for run in runs}
    ids = {prompt.id: f"{prompt.id} {text}" for prompt in runs[0].prompts}
    edit = Edit(0, 0, 9, text, text, 0.5, -0.5, -1.0, 1.0)
    spoilt = []
    for run in runs:
        samples = [
            Sample(ids[s.prompt_id], 0, s.seed, f"{text} {s.text} {text}", text, Claim(0.5, text, 2), (edit,))
            for s in run.samples
        ]
        spoilt.append(
            dataclasses.replace(
                run,
                run=names[run.run],
                settings={text: text, "nested": {text: [1, 2.5, text, None, True]}, "run": run.run},
                prompts=tuple(Prompt(ids[p.id], text, text, text, {"gender": text, text: text}) for p in run.prompts),
                previews={ids[k]: v for k, v in run.previews.items()} | {ids["desk/03.jpg"]: b"<svg onload=x>"},
                samples=tuple(samples),
                labels=tuple(
                    dataclasses.replace(label, prompt_id=ids[label.prompt_id], group=text) for label in run.labels
                ),
                estimates=tuple(
                    dataclasses.replace(e, name=f"MR_O {text}" if e.name == "MR_O" else e.name, method=text, unit=text)
                    for e in run.estimates
                ),
                counts={text: 3},
            )
        )
    pairs = [
        dataclasses.replace(
            pair,
            baseline=names[pair.baseline],
            other=names[pair.other],
            changes=(WordChange(text, text, text, True),),
            counts={text: 1},
        )
        for pair in comparisons
    ]
    return spoilt, pairs


def test_holds_what_it_should(audit):
    runs, comparisons = audit
    page = assert_inert(render_report(runs, comparisons, title="Audit"))
    figures = page.figures
    assert figures["plain/estimate/MR_F/value"] == ("0.375", "37.5 %")
    assert figures["plain/estimate/MR_F/low"] == ("0.208", "20.8")
    # MR_O = (0.375 + 1/6) / 2 = 0.2708, MR_F - MR_M = 0.2083: sqrt(0.2708^2 + 0.2083^2) = 0.3417
    assert figures["plain/estimate/MR_C/value"][1] == "0.342"
    assert float(figures["plain/estimate/MR_C/value"][0]) == pytest.approx(0.34169, abs=1e-5)
    assert figures["align/comparison/count/changes_elsewhere"] == ("1", "1")
    assert figures["align/change/0/times"] == ("3", "3")  # man -> woman in 01, 03, 07
    assert figures["align/sample/kitchen/01.jpg/0/edit/0/alpha"] == ("0.96", "+0.96")
    assert figures["neutral/headline/naming"] == ("0", "0")
    assert figures["plain/setting/seed/0"] == ("7", "7")
    assert "The plain captioner called 38 % [21–58 %] of the women men and 17 % [4–33 %] of the men women" in (
        page.text.replace("\u00a0", " ")
    )
    assert "MR_C fell from 0.342 to 0.075, ×0.22 [0.09–0.42]" in page.text
    assert "no claim: no face" in page.text
    assert "PictureError: the file ends before the picture does" in page.text
    for word in ("unbiased", "debiased", "fair "):
        assert word not in page.text.lower()


def test_marks_the_changed_words_and_only_those(audit):
    runs, comparisons = audit
    page = render_report(runs, comparisons, title="Audit")
    assert 'A <mark class="reached">woman</mark> in an apron is cooking dinner in a kitchen.' in page
    assert 'A <mark class="before">man</mark> in an apron is cooking dinner in a kitchen.' in page
    # only "playing" lies on a shifted token, "tennis" followed from it
    assert '<mark class="reached">woman playing</mark> <mark class="elsewhere">tennis</mark> on a tennis' in page


def test_changed_labels_come_first_and_the_tail_is_folded(audit):
    runs, comparisons = audit
    page = render_report(runs, comparisons, title="Audit")
    ids = re.findall(r'<span class="id">(.*?)</span>', page)
    assert ids[-3:] == ["clinic/12.jpg", "snow/09.jpg", "snow/10.jpg"]  # an error, then the unchanged
    many = []
    for run in runs[:1]:
        prompts = tuple(Prompt(f"{n}.jpg", "captioning", "", None, {}) for n in range(OPEN_CARDS + 5))
        samples = tuple(Sample(prompt.id, 0, 0, "A dog.") for prompt in prompts)
        labels = tuple(dataclasses.replace(run.labels[0], prompt_id=prompt.id) for prompt in prompts)
        many.append(dataclasses.replace(run, prompts=prompts, samples=samples, labels=labels, previews={}))
    page = render_report(many, [], title="Audit")
    assert Page(page).figures["report/pictures_folded"] == ("5", "5")
    assert page.count("<article") == OPEN_CARDS + 5


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert(audit, text):
    runs, comparisons = audit
    clean = Page(render_report(runs, comparisons, title="Audit"))
    page = assert_inert(render_report(*spoil(runs, comparisons, text), title=text))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements} | {
        "details",
        "summary",
        "i",
        "div",
    }
    if "{{" in text:
        assert "{{7*7}}" in page.text


def test_a_megabyte_caption_is_cut_and_says_so(audit):
    runs, _ = audit
    plain = runs[0]
    long = dataclasses.replace(plain.samples[0], text="<b> " * 2**18)
    run = dataclasses.replace(plain, samples=(long, *plain.samples[1:]))
    page = render_report([run], [], title="Audit")
    figures = assert_inert(page).figures
    assert figures["plain/sample/kitchen/01.jpg/0/characters"] == ("1048576", "1 048 576")
    assert figures["plain/sample/kitchen/01.jpg/0/shown_characters"][0] == str(SHOWN_CHARACTERS)
    assert page.count("&lt;b&gt;") == SHOWN_CHARACTERS / 4


def test_undefined_is_said(audit, estimate):
    runs, _ = audit
    run = dataclasses.replace(runs[0], estimates=(estimate("MR_C", math.nan, math.nan, math.nan),))
    assert Page(render_report([run], [], title="Audit")).figures["plain/estimate/MR_C/value"] == (
        "nan",
        "undefined",
    )


def test_same_bytes_twice(audit, tmp_path):
    runs, comparisons = audit
    first = write_report(runs, comparisons, tmp_path / "a", title="Audit")
    second = write_report(runs, comparisons, tmp_path / "b", title="Audit")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a/report.json").read_bytes() == (tmp_path / "b/report.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["report.html", "report.json"]


def test_json_holds_the_numbers(audit, tmp_path):
    runs, comparisons = audit
    path = write_report(runs, comparisons, tmp_path, title="Audit")
    numbers = json.loads(path.with_name("report.json").read_text())
    assert numbers["runs"][0]["estimates"][0]["value"] == 0.375
    assert numbers["comparisons"][0]["counts"]["changes"] == 7
    assert numbers["comparisons"][0]["changes"][0] == {
        "before": "man",
        "after": "woman",
        "times": 3,
        "reached": 3,
    }


def test_refuses_what_makes_no_report(audit):
    runs, comparisons = audit
    with pytest.raises(BadInputError, match="at least one run"):
        render_report([], [], title="Audit")
    with pytest.raises(BadInputError, match="unique"):
        render_report([runs[0], runs[0]], [], title="Audit")
    with pytest.raises(BadInputError, match="no run of this report"):
        render_report(runs[:1], comparisons, title="Audit")
    with pytest.raises(BadInputError, match="12 samples and 11 labels"):
        render_report([dataclasses.replace(runs[0], labels=runs[0].labels[1:])], [], title="Audit")
    swapped = dataclasses.replace(comparisons[0], baseline="align", other="plain")
    with pytest.raises(BadInputError, match="first run"):
        render_report(runs, [swapped], title="Audit")


def test_another_attribute_has_no_gendered_sentence(audit):
    runs, comparisons = audit
    page = Page(render_report([dataclasses.replace(run, attribute="age") for run in runs], comparisons, title="Audit"))
    assert "women" not in page.text.split("Estimates")[0]


def test_importing_loads_nothing_heavy():
    heavy = {"torch", "transformers", "matplotlib", "scipy", "pyarrow"}
    code = f"import sys, evenhand.report; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert out.stdout.strip() == "set()"
