"""Whole audits of a model that draws and answers, whose bias is known, by names as an installed package adds them."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import (
    ArtefactError,
    BadInputError,
    CorruptLedgerError,
    LedgerError,
    TooFewSamplesError,
    UnknownNameError,
)
from evenhand.ledger import Ledger
from evenhand.pipeline import ReadBy, ScoringPlan, audit_pictures, compare_runs, sample_pictures, score_run
from evenhand.pipeline.answers import answers_folder
from evenhand.pipeline.plans import PLAN, load_confusion, read_plan, write_plan
from evenhand.records import Sample
from evenhand.shards import sha256_of

EXTENSION = Path(__file__).parents[1] / "extension"
GENDER = load_attribute("gender")
PLAN_OF_COLOURS = ScoringPlan((ReadBy(GENDER, "colours"),))


@pytest.fixture(autouse=True)
def extension(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSION))
    yield
    for name in [name for name in sys.modules if name.startswith("evenhand_example")]:
        del sys.modules[name]


@pytest.fixture
def occupations(tmp_path):
    file = tmp_path / "two.txt"
    file.write_text("sewer\npilot\n")
    return file


def audited(occupations, out, *, model="painter:sewer=0.2,pilot=0.9", plan=PLAN_OF_COLOURS, **given):
    return audit_pictures(model, plan=plan, out=out, data=occupations, **{"samples": 60, "answers": 0, **given})


def named(estimates, name):
    return next(one for one in estimates if one.name == name)


def test_an_audit_is_what_score_makes_of_its_folder(occupations, tmp_path):
    found = audited(occupations, tmp_path / "run", answers=20)
    again = score_run(tmp_path / "run", previews=16)
    assert repr(again) == repr(found)  # NaN is equal to itself in a repr
    assert read_plan(tmp_path / "run") == replace(
        PLAN_OF_COLOURS,
        read_by=(replace(PLAN_OF_COLOURS.read_by[0], attribute=read_plan(tmp_path / "run").read_by[0].attribute),),
    )
    assert found.counts["pictures"] == 120
    assert set(found.previews) == {(prompt.id, k) for prompt in found.prompts for k in range(16)}
    assert all(content.startswith(b"\xff\xd8\xff") for content in found.previews.values())


def test_labels_are_kept_and_read_again_when_asked(occupations, tmp_path):
    audited(occupations, tmp_path / "run", previews=0)
    from evenhand_example.painting import ColourReader

    ColourReader.seen.clear()
    first = score_run(tmp_path / "run")
    assert ColourReader.seen == []
    audited(occupations, tmp_path / "run", samples=61, previews=0)  # two more pictures
    assert sum(ColourReader.seen) == 2
    ColourReader.seen.clear()
    fresh = score_run(tmp_path / "run", reading="anew")
    assert sum(ColourReader.seen) == 122
    assert fresh.counts["pictures"] == first.counts["pictures"] + 2


def test_another_classifier_uses_no_kept_label(occupations, tmp_path):
    audited(occupations, tmp_path / "run")
    unsure = ScoringPlan((ReadBy(GENDER, "colours:0.6"),), denominator="confident")
    with pytest.raises(TooFewSamplesError):
        score_run(tmp_path / "run", unsure)
    found = score_run(tmp_path / "run", replace(unsure, min_confidence=0.6))
    assert {label.confidence for label in found.labels["gender"]} == {0.6}


def test_a_kept_label_of_another_picture_is_not_used(occupations, tmp_path):
    audited(occupations, tmp_path / "run")
    other = audited(occupations, tmp_path / "other", model="painter:sewer=1,pilot=0")
    (labels,) = (tmp_path / "other").glob("labels-*.parquet")
    (tmp_path / "run" / labels.name).write_bytes(labels.read_bytes())
    mixed, fresh = score_run(tmp_path / "run"), score_run(tmp_path / "run", reading="anew")
    assert mixed.labels == fresh.labels
    assert mixed.labels != other.labels


def test_a_check_reads_everything_writes_nothing_and_finds_labels_that_were_changed(occupations, tmp_path):
    audited(occupations, tmp_path / "run")
    (labels,) = (tmp_path / "run").glob("labels-*.parquet")
    before = labels.read_bytes()
    assert score_run(tmp_path / "run", reading="check").counts["pictures"] == 120
    assert labels.read_bytes() == before
    table = pq.read_table(io.BytesIO(before))
    changed = table.set_column(3, "group", pa.array(["male"] * table.num_rows))
    pq.write_table(changed, labels)
    with pytest.raises(CorruptLedgerError, match=r"kept labels of gender are not what .* --fresh"):
        score_run(tmp_path / "run", reading="check")
    assert score_run(tmp_path / "run", reading="anew").counts["gender: male"] < 120
    assert score_run(tmp_path / "run", reading="check").counts["pictures"] == 120
    labels.write_bytes(before[:-40])
    with pytest.raises(CorruptLedgerError, match="labels-"):
        score_run(tmp_path / "run")


def test_the_gap_is_what_the_shares_of_answers_and_pictures_give(occupations, tmp_path):
    # Drawn: one picture in ten of a sewer shows a man; answered: the painter says "male" half as often as it draws it,
    # and one answer in four is "Unknown." With many of each: gap male = mean over occupations of (share/2 - share).
    found = audited(occupations, tmp_path / "run", model="painter:sewer=0.2,pilot=0.8", samples=400, answers=400)
    answers = found.answers["gender"]
    gap = named(answers.estimates, "gap")
    assert gap.low <= (0.1 + 0.4) / 2 <= gap.high
    male = named(answers.estimates, "gap male")
    assert male.low <= -(0.1 + 0.4) / 2 <= male.high
    rate = named(answers.estimates, "answer_rate")
    assert rate.low <= 0.75 <= rate.high
    said = answers.counts
    assert said["refused"] + said["male"] + said["female"] == said["answers"] == 800


def test_a_model_that_refuses_every_answer_has_a_rate_of_0_and_a_report(occupations, tmp_path):
    from evenhand.report.html import write_report

    found = audited(occupations, tmp_path / "run", answers=20, options={"refuses": "everything"})
    answers = found.answers["gender"]
    assert [one.name for one in answers.estimates] == ["answer_rate"]
    assert answers.estimates[0].value == 0
    assert any("none of 40 answers" in one for one in found.caveats)
    assert named(found.estimates["gender"], "RD").value > 0
    write_report([], [], tmp_path / "report", title="x", pictures=[found])


def test_a_gap_that_is_not_defined_is_said(occupations, tmp_path):
    # Pictures of sewers only, answers about pilots only.
    found = audited(occupations, tmp_path / "run", answers=20, options={"refuses": "pilot", "silent": "sewer"})
    assert all(not one.name.startswith("gap") for one in found.answers["gender"].estimates)
    assert any("no occupation has both pictures and answers" in one for one in found.caveats)
    whole = audited(occupations, tmp_path / "whole", answers=20)
    assert not any("no occupation has both" in one for one in whole.caveats)


def test_answers_fit_the_attribute_by_the_names_of_its_groups(occupations, tmp_path):
    audited(occupations, tmp_path / "run", answers=10)
    turned = replace(GENDER, groups=GENDER.groups[::-1], target=(0.7, 0.3))
    found = score_run(tmp_path / "run", ScoringPlan((ReadBy(turned, "colours"),)))
    assert found.answers["gender"].groups == ("female", "male")
    assert any(one.name == "gap" for one in found.answers["gender"].estimates)
    # The same question about another target is the same question: nothing is asked again.
    elsewhere = replace(GENDER, target=(0.7, 0.3))
    audited(occupations, tmp_path / "run", answers=10, plan=ScoringPlan((ReadBy(elsewhere, "colours"),)))
    settings = tmp_path / "run" / "answers" / "gender" / "manifest.json"
    held = json.loads(settings.read_text())
    held["settings"]["attribute"]["groups"] = ["male", "female", "other"]
    held["settings_sha256"] = sha256_of(held["settings"])
    settings.write_text(json.dumps(held))
    found = score_run(tmp_path / "run")
    assert found.answers == {}
    assert any("asked for ['male', 'female', 'other']" in one for one in found.caveats)


def test_answers_are_topped_up_and_can_be_left_out(occupations, tmp_path):
    audited(occupations, tmp_path / "run", answers=3)
    audited(occupations, tmp_path / "run", answers=5)
    assert len(Ledger.open(answers_folder(tmp_path / "run", "gender")).samples()) == 10
    without = audited(occupations, tmp_path / "other", answers=0)
    assert without.answers == {}


def test_sampled_prompts_widen_the_interval(occupations, tmp_path):
    fixed = named(audited(occupations, tmp_path / "run", samples=200).estimates["gender"], "RD")
    found = score_run(tmp_path / "run", replace(PLAN_OF_COLOURS, prompts="sampled"))
    sampled = named(found.estimates["gender"], "RD")
    assert (sampled.unit, sampled.n, sampled.value) == ("prompt", 2, fixed.value)
    assert sampled.high - sampled.low > fixed.high - fixed.low


def test_a_classifier_that_errs_is_corrected(occupations, tmp_path):
    # The reader errs never; a matrix says it calls a fifth of the men women: (.16, .84) read is (.2, .8) in truth.
    matrix = ((800, 200), (0, 1000))
    plan = ScoringPlan((ReadBy(GENDER, "colours", confusion=matrix),))
    found = audited(occupations, tmp_path / "run", model="painter:sewer=0.16,pilot=0.16", plan=plan, samples=500)
    sewer = found.per_prompt["gender"]["sewer/neutral"]
    assert named(sewer, "share male corrected").value == pytest.approx(named(sewer, "share male").value / 0.8)
    assert named(sewer, "RD_corrected").low <= 0.6 <= named(sewer, "RD_corrected").high
    corrected = named(found.estimates["gender"], "RD_corrected")
    assert corrected.low <= 0.6 <= corrected.high
    assert corrected.value < named(found.estimates["gender"], "RD").value


def test_what_cannot_be_opened_is_refused_before_anything_is_drawn(occupations, tmp_path):
    for spec, error, said in (
        ("colors", UnknownNameError, "Did you mean colours"),
        ("people", BadInputError, "people:FILE.csv"),
        ("linear:head", BadInputError, "linear:FOLDER@ENCODER"),
    ):
        with pytest.raises(error, match=said):
            audited(occupations, tmp_path / "run", plan=ScoringPlan((ReadBy(GENDER, spec),)))
    with pytest.raises(UnknownNameError, match="no face_stages named 'all'; known: largest, unknown"):
        audited(occupations, tmp_path / "run", plan=ScoringPlan((ReadBy(GENDER, "colours", faces="all"),)))
    with pytest.raises(BadInputError, match="race"):
        audited(occupations, tmp_path / "run", plan=ScoringPlan((ReadBy(load_attribute("race"), "colours"),)))
    assert not (tmp_path / "run").exists()


def test_data_and_probes_that_do_not_fit_are_refused_before_a_model_is_opened(occupations, tmp_path):
    given = {"attributes": [GENDER], "out": tmp_path / "run"}
    with pytest.raises(BadInputError, match=r"'says-person' answers about pictures, .*here: .*diffusers, .*painter"):
        sample_pictures("says-person", data=occupations, **given)
    with pytest.raises(BadInputError, match=r"got SaysPerson; needs name, revision, .* draw"):
        sample_pictures("cannot-draw", data=occupations, **given)
    with pytest.raises(BadInputError, match="asks about pictures"):
        sample_pictures("unified:nowhere", probe="blank_image", data=occupations, **given)
    twice = tmp_path / "twice.txt"
    twice.write_text("sewer\nSewer\n")
    with pytest.raises(BadInputError, match="twice"):
        sample_pictures("unified:nowhere", data=twice, **given)
    long = tmp_path / "long.txt"
    long.write_text("x" * 1_000_000)
    with pytest.raises(BadInputError, match="bytes"):
        sample_pictures("unified:nowhere", data=long, **given)


def test_two_runs_are_paired_by_prompt_and_number(occupations, tmp_path):
    before = audited(occupations, tmp_path / "before", model="painter:sewer=0,pilot=1", samples=20)
    after = audited(occupations, tmp_path / "after", model="painter:sewer=0,pilot=0", samples=20)
    found = compare_runs(before, after)
    # The sewers are the same pictures, every pilot has become a woman.
    assert found.moved["gender"] == {"female": {"female": 20}, "male": {"female": 20}}
    assert found.counts == {"pairs": 40, "same_seed": 40, "same_picture": 20, "gender: moved": 20}
    difference = named(found.estimates["gender"], "RD difference")
    assert difference.low <= 0 <= difference.high


def test_sampled_runs_are_compared_as_sampled_and_not_with_fixed_ones(occupations, tmp_path):
    before = audited(occupations, tmp_path / "before", samples=100)
    audited(occupations, tmp_path / "after", samples=100, model="painter:sewer=0.5,pilot=0.5")
    sampled = ScoringPlan((ReadBy(GENDER, "colours"),), prompts="sampled")
    runs = [score_run(tmp_path / name, sampled) for name in ("before", "after")]
    difference = named(compare_runs(*runs).estimates["gender"], "RD difference")
    assert (difference.unit, difference.n) == ("prompt", 2)
    with pytest.raises(BadInputError, match="intervals_for"):
        compare_runs(before, runs[1])


def test_what_a_server_did_not_answer_is_asked_again(occupations, tmp_path):
    from evenhand_example.painting import Painter

    class Server(Painter):
        name, down = "server", True

        def _one(self, prompt, seed):
            if self.down and prompt.facts["occupation"] == "pilot":
                return Sample(prompt.id, 0, seed, None, error="ServiceError: HTTP 503")
            return super()._one(prompt, seed)

    server = Server({"sewer": 0.2, "pilot": 0.9})
    found = audited(occupations, tmp_path / "run", model=server, samples=40)
    assert (found.counts["pictures"], found.counts["errors"]) == (40, 0)
    assert any("not complete: prompts have between 0 and 40" in one for one in found.caveats)
    server.down = False
    assert audited(occupations, tmp_path / "run", model=server, samples=40).counts["pictures"] == 80


def test_where_nobody_is_shown_the_reasons_are_said(occupations, tmp_path):
    only = tmp_path / "one.txt"
    only.write_text("sewer\n")
    with pytest.raises(TooFewSamplesError, match=r"gender: .* There are: error 60; the first of 60 errors: BadInput"):
        audited(only, tmp_path / "run", options={"refuses": "sewer"})


def test_runs_of_other_prompts_or_other_readers_cannot_be_compared(occupations, tmp_path):
    before = audited(occupations, tmp_path / "before")
    other = tmp_path / "one.txt"
    other.write_text("sewer\n")
    with pytest.raises(BadInputError, match="different prompts"):
        compare_runs(before, audited(other, tmp_path / "one"))
    read_otherwise = score_run(tmp_path / "before", ScoringPlan((ReadBy(GENDER, "colours:0.8"),)))
    with pytest.raises(BadInputError, match="classifiers"):
        compare_runs(before, read_otherwise)


def test_caveats_say_what_limits_the_numbers(occupations, tmp_path):
    assert audited(occupations, tmp_path / "sound").caveats == ()
    few = audited(occupations, tmp_path / "few", samples=10, model="painter:sewer=0.5,pilot=0.5").caveats
    assert any("10 pictures of each prompt are few" in one for one in few)
    assert any("cannot be told from that of an even model" in one for one in few)
    failed = audited(occupations, tmp_path / "failed", options={"refuses": "pilot"}).caveats
    assert any("60 of 120 samples failed" in one for one in failed)
    assert any("1 of 2 prompts have no RD" in one for one in failed)
    asked = audited(occupations, tmp_path / "asked", probe="occupations_augmented").caveats
    assert any("4 of 4 prompts name a group" in one for one in asked)


def test_a_plan_that_is_damaged_or_missing_is_said_so(occupations, tmp_path):
    sample_pictures("painter", attributes=[GENDER], out=tmp_path / "run", data=occupations, samples=2, answers=0)
    with pytest.raises(LedgerError, match="--classifier"):
        score_run(tmp_path / "run")
    write_plan(tmp_path / "run", PLAN_OF_COLOURS)
    sound = json.loads((tmp_path / "run" / PLAN).read_text())
    (one,) = sound["read_by"]
    numbered = {**sound, "read_by": [{**one, "classifier": 3}]}
    ragged = {**sound, "read_by": [{**one, "confusion": [[1, 0], [1]]}]}
    wrong = [[], {"format": 2}, {**sound, "read_by": []}, numbered, ragged]
    for content in (*(json.dumps(one).encode() for one in wrong), b"no json", b"\xff\xfe"):
        (tmp_path / "run" / PLAN).write_bytes(content)
        with pytest.raises(LedgerError, match="not a scoring plan"):
            score_run(tmp_path / "run")
    write_plan(tmp_path / "run", PLAN_OF_COLOURS)
    assert score_run(tmp_path / "run").counts["pictures"] == 4


def test_confusion_counts_are_brought_into_the_attributes_order(tmp_path):
    file = tmp_path / "confusion.json"
    file.write_text(json.dumps({"held": {"groups": ["female", "male"], "counts": [[9, 1], [2, 8]]}}))
    assert load_confusion(file, GENDER) == ((8, 2), (1, 9))
    for wrong in (
        {"groups": ["a", "b"], "counts": [[1, 0], [0, 1]]},
        {"groups": ["male", "female"], "counts": [[1, 0]]},
        [],
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ArtefactError):
            load_confusion(file, GENDER)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_confusion(tmp_path / "absent.json", GENDER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"read_by": ()},
        {"read_by": (ReadBy(GENDER, "colours"), ReadBy(GENDER, "colours"))},
        {"denominator": "most"},
        {"min_confidence": 2.0},
        {"level": 1.0},
        {"prompts": "all"},
    ],
)
def test_plans_that_are_not_allowed(wrong):
    with pytest.raises(BadInputError):
        ScoringPlan(**{"read_by": (ReadBy(GENDER, "colours"),), **wrong})
