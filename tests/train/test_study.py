"""A study of mitigations: what is compared, kept and shown; the miniature, a few pictures and steps."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.errors import (
    BadInputError,
    ChangedRunError,
    DivergedError,
    LedgerError,
    ReportMismatchError,
    TooFewSamplesError,
    UnknownNameError,
)
from evenhand.ledger import Ledger
from evenhand.miniature.labelled import read_avatars
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.pictures import decode_picture
from evenhand.pipeline.drawing import prompts_to_draw
from evenhand.pipeline.picture_runs import score_run
from evenhand.pipeline.plans import ReadBy, ScoringPlan, read_plan, write_plan
from evenhand.report.study import check_study, study_as_dict, write_study
from evenhand.train import study_read
from evenhand.train.arms import check_arms
from evenhand.train.data import make_balanced_data
from evenhand.train.held_out import refuse_trained
from evenhand.train.study import run_study, suffix_of
from evenhand.train.study_read import read_study

READ_BY = tuple(ReadBy(load_attribute(name), "avatars") for name in ("gender", "skin_tone"))
FEW = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
BOTH = "gender x skin_tone"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "one.txt").write_text("sewer\n")
    (folder / "held.csv").write_text("occupation\nnurse\nroustabout\n")
    make_balanced_data(load_miniature(), READ_BY, folder / "data", data=str(folder / "one.txt"), pictures=6)
    return folder


def study(world, out, **given):
    chosen = {"arms": ["start"], "guidances": (1.0,), "samples": 6, "asked": 2, "rank": 2, **FEW, **given}
    return run_study(
        "miniature",
        world / "data",
        out,
        held_out=str(chosen.pop("held_out", world / "held.csv")),
        plan=chosen.pop("plan", ScoringPlan(READ_BY)),
        **chosen,
    )


def told(found):
    """All of it, undefined numbers equal to each other."""
    return study_as_dict(found, title="")


def avatars(number):
    """Some of each group."""
    found = read_avatars()
    rows = range(0, len(found.pictures), len(found.pictures) // number)
    return {"gender": [(found.pictures[row], found.shown["gender"][row]) for row in rows]}


@pytest.fixture(scope="module")
def made(world):
    """The model before training and the same asked for diversity, at two weights."""
    seen = avatars(8)
    return world / "study", study(world, world / "study", arms=["prompt", "start"], guidances=(3.0, 1.0), seen=seen)


def test_cells_are_what_their_runs_show(made):
    folder, found = made
    assert [(one.arm, one.seed, one.guidance) for one in found.cells] == [
        ("start", 0, 1.0),
        ("start", 0, 3.0),
        ("prompt", 0, 1.0),
        ("prompt", 0, 3.0),
    ]
    for cell in found.cells:
        scored = score_run(folder / cell.run)
        for name in ("gender", "skin_tone", BOTH):
            told = {one.name: one for one in scored.estimates[name]}
            assert cell.values[f"{name}: RD"] == told["RD"]
            assert cell.values[f"{name}: RD_observed"] == told["RD_observed"]
        assert cell.pictures == 12
        assert Ledger.open(folder / cell.run).settings["model"]["guidance"] == cell.guidance


def test_shares_are_counted(made):
    folder, found = made
    start = found.cells[0].values
    scored = score_run(folder / found.cells[0].run)
    sure = sum(
        all(scored.labels[name][at].confidence >= 0.8 for name in ("gender", "skin_tone"))
        for at in range(len(scored.samples))
    )
    assert start["valid"].value == sure / 12
    asked = Ledger.open(folder / "asked" / "start-0" / "guidance-1")
    assert len(asked.prompts()) == 2 * 6  # two occupations, six groups
    assert start["obeyed"].n == 2 * 6 * 2
    assert start["obeyed"].value > 0.5
    assert (start["gender: seen"].value, start["gender: seen"].n) == (1.0, 8)  # the miniature sees all avatars right


def test_the_prompt_arm_asks_for_diversity_and_for_no_group(made):
    folder, found = made
    texts = [one.text for one in Ledger.open(folder / found.cells[2].run).prompts()]
    assert texts == [
        f"a photo of the face of a {who}, a person, any gender, any skin tone" for who in ("nurse", "roustabout")
    ]
    assert "obeyed" not in found.cells[2].values
    assert "gender: seen" not in found.cells[2].values


def test_a_study_is_read_again_without_the_model_and_nothing_is_drawn_twice(made, world, monkeypatch):
    folder, found = made
    monkeypatch.setattr("evenhand.train.study.open_unified", None)
    assert told(read_study(folder)) == told(found)
    monkeypatch.undo()
    before = {one: one.stat().st_mtime_ns for one in folder.glob("runs/**/samples-*.parquet")}
    again = study(world, folder, guidances=(1.0,), seen=avatars(8))
    assert {one: one.stat().st_mtime_ns for one in folder.glob("runs/**/samples-*.parquet")} == before
    assert told(again) == told(found)


def test_the_page_shows_the_numbers_and_a_changed_one_is_found(made, tmp_path):
    _, found = made
    page = write_study(found, tmp_path, title="Study")
    text = page.read_text()
    for name in ("RD gender", "RD gender × skin tone", "obeyed", "seen: gender", "asked for diversity in the prompt"):
        assert name in text
    assert "<code>max_steps=2</code>" in text
    assert "<code>rank=2</code>" in text
    assert "<svg" in text
    assert "<script" not in text
    assert json.loads((tmp_path / "study.json").read_text())["study"]["prompts"] == 2
    assert check_study(page, found) > 100
    cell = found.cells[0]
    other = replace(cell.values["valid"], value=0.123)
    changed = replace(found, cells=(replace(cell, values={**cell.values, "valid": other}), *found.cells[1:]))
    with pytest.raises(ReportMismatchError, match=r"study\.html"):
        check_study(page, changed)


def test_seeds_are_put_together(made, tmp_path):
    from evenhand.train.study_read import rows_of

    _, found = made
    one = found.cells[0]
    rd = one.values["gender: RD"]
    two = replace(one, seed=1, values={**one.values, "gender: RD": replace(rd, value=rd.value + 0.1, high=rd.high + 1)})
    (row,) = rows_of((one, two))
    assert row.seeds == 2
    assert row.values["gender: RD"].value == pytest.approx(rd.value + 0.05)
    assert row.values["gender: RD"].high == rd.high + 1


def test_what_one_seed_lacks_is_told(made):
    from evenhand.train.study_read import left_out

    _, found = made
    one = found.cells[0]
    two = replace(one, seed=1, values={name: value for name, value in one.values.items() if name != "obeyed"})
    assert left_out((one, two)) == ["start, guidance 1: no mean of obeyed, some seeds lack it."]
    assert left_out(found.cells) == []


def test_pictures_that_are_missing_are_told(made, world):
    folder, found = made
    plan = folder / "study.plan.json"
    kept = plan.read_text()
    plan.write_text(kept.replace('"samples": 6', '"samples": 7'))
    try:
        assert read_study(folder).caveats[0] == "start, seed 0, guidance 1: 12 of 14 pictures are drawn so far."
    finally:
        plan.write_text(kept)
    assert not [one for one in found.caveats if "drawn so far" in one]
    assert found.caveats[0] == (
        "every run: 6 pictures of each prompt are few: intervals are wide (evenhand plan says how many)."
    )


class Brightness:
    """The mean red of a picture, in [0, 1]."""

    name, settings = "brightness", {"statistic": "mean", "columns": ["brightness"], "largest": 1.0}

    def rows(self, pictures, texts):
        return np.array([[np.asarray(one)[..., 0].mean() / 255] for one in pictures])


def test_quality_is_a_column_of_its_own(made, monkeypatch):
    folder, _ = made
    monkeypatch.setattr("evenhand.pipeline.picture_runs.open_quality", lambda spec: Brightness())
    plan = read_plan(folder)
    write_plan(folder, replace(plan, quality=("brightness",)))
    try:
        cell = read_study(folder).cells[0]
    finally:
        write_plan(folder, plan)
    pictures = [decode_picture(one.image) for one in Ledger.open(folder / cell.run).drawn()]
    assert cell.values["brightness"].value == pytest.approx(
        np.mean([np.asarray(one)[..., 0] / 255 for one in pictures])
    )


def test_an_arm_that_shows_nobody_is_told_and_the_others_are_shown(made, monkeypatch):
    folder, _ = made
    score = study_read.score_run

    def scored(run, *given, **named):
        if "prompt-0" in str(run):
            raise TooFewSamplesError("no picture shows a group")
        return score(run, *given, **named)

    monkeypatch.setattr(study_read, "score_run", scored)
    told = read_study(folder)
    assert [one.arm for one in told.cells] == ["start", "start"]
    assert told.caveats[0] == "prompt, seed 0, guidance 1 cannot be measured: no picture shows a group"


def test_what_is_obeyed_is_shown_when_all_groups_were_asked_for(made):
    folder, _ = made
    plan = folder / "study.plan.json"
    kept = plan.read_text()
    plan.write_text(kept.replace('"asked": 2', '"asked": 3'))
    try:
        told = read_study(folder)
    finally:
        plan.write_text(kept)
    assert "obeyed" not in told.cells[0].values
    assert told.caveats[0] == (
        "start, seed 0, guidance 1: 12 pictures that ask for a group are missing, what is obeyed is not shown."
    )


def test_other_pictures_of_the_same_groups_are_asked_about_anew(made, world):
    folder, found = made
    dark = [(lambda: Image.new("RGB", (64, 64)), group) for _, group in avatars(8)["gender"]]
    kept = (folder / "seen" / "start-0.json").read_text()
    try:
        changed = study(world, folder, guidances=(1.0,), seen={"gender": dark})
    finally:
        (folder / "seen" / "start-0.json").write_text(kept)
    assert changed.cells[0].values["gender: seen"].value < 1
    assert found.cells[0].values["gender: seen"].value == 1


def test_intervals_are_for_the_prompts_the_plan_means(made):
    # Of prompts that could have been others two are few: the interval is wider than for these two alone.
    folder, found = made
    plan = read_plan(folder)
    write_plan(folder, replace(plan, prompts="sampled"))
    try:
        sampled = read_study(folder).cells[0].values
    finally:
        write_plan(folder, plan)
    fixed = found.cells[0].values
    for name in ("valid", "obeyed"):
        assert sampled[name].value == fixed[name].value
        assert (sampled[name].n, sampled[name].unit) == (2, "prompt")
        assert sampled[name].high - sampled[name].low > fixed[name].high - fixed[name].low


def test_what_limits_single_runs_is_told_once():
    told = study_read.runs_limited({"few": ["a", "b"], "odd": ["b"], "some": ["a", "c"]}, 3)
    assert told == ["2 of 3 runs, the first: a: few", "b: odd", "2 of 3 runs, the first: a: some"]
    assert study_read.runs_limited({"few": ["a", "b"]}, 2) == ["every run: few"]


def test_an_arm_whose_training_comes_apart_is_told_and_the_others_go_on(world, tmp_path, monkeypatch):
    trained = []

    def train(arm, seed, how, folder):
        trained.append(arm)
        if arm == "sft":
            raise DivergedError("learning_rate: got 9, and at step 1 weights are no longer finite")
        return None

    monkeypatch.setattr("evenhand.train.study.train_arm", train)
    for _ in range(2):  # the second time nothing that came apart is trained again, nor what would go on from it
        found = study(world, tmp_path, arms=["start", "sft", "paper"], samples=2, asked=1)
        assert [one.arm for one in found.cells] == ["start"]
        assert found.caveats[:2] == tuple(
            f"{arm}, seed 0, is not shown: learning_rate: got 9, and at step 1 weights are no longer finite"
            for arm in ("sft", "paper")
        )
    assert trained == ["start", "sft", "start"]


def test_a_learning_rate_that_is_too_large_is_told(world, tmp_path):
    found = study(world, tmp_path, arms=["start", "sft"], samples=2, asked=0, learning_rate=1e30, max_steps=3)
    assert [one.arm for one in found.cells] == ["start"]
    assert "sft, seed 0, is not shown: learning_rate: got 1e+30" in found.caveats[0]


@pytest.mark.slow
def test_every_arm_is_trained_on_the_same_tuples(world, tmp_path):
    arms = ["bpo", "paper", "sft", "understanding", "start"]
    found = study(world, tmp_path, arms=arms, seeds=(0, 1), samples=2, asked=1)
    assert [one.arm for one in found.rows] == ["start", "understanding", "sft", "paper", "bpo"]
    assert [one.seeds for one in found.rows] == [1, 2, 2, 2, 2]
    runs = {arm: json.loads((tmp_path / "arms" / f"{arm}-1" / "training.json").read_text()) for arm in arms[:-1]}
    assert len({one["tuples"] for one in runs.values()}) == 1
    assert (runs["sft"]["loss_type"], runs["bpo"]["loss_type"], runs["paper"]["loss_type"]) == (
        "sft",
        "posterior",
        "log_odds",
    )
    assert runs["paper"]["start"] is not None  # it goes on with the adapter of sft
    assert runs["paper"]["learning_rate"] == 8e-7
    assert runs["understanding"]["trained"] == "answers"
    revisions = {
        one.arm: Ledger.open(tmp_path / one.run).settings["model"]["revision"] for one in found.cells if one.seed < 1
    }
    assert len(set(revisions.values())) == 5


def test_what_is_refused_before_anything_is_trained(world, tmp_path, made):
    with pytest.raises(UnknownNameError, match="got finetune; known: start, prompt"):
        study(world, tmp_path, arms=["finetune"])
    with pytest.raises(UnknownNameError, match="each once"):
        check_arms(["sft", "sft"])
    with pytest.raises(BadInputError, match="seeds"):
        study(world, tmp_path, seeds=(1, 1))
    with pytest.raises(BadInputError, match="guidance"):
        study(world, tmp_path, guidances=(float("nan"),))
    with pytest.raises(BadInputError, match="samples 0"):
        study(world, tmp_path, samples=0)
    with pytest.raises(BadInputError, match="option guidance: the study sets it"):
        study(world, tmp_path, options={"guidance": "2"})
    with pytest.raises(BadInputError, match="loss_type: is what an arm is"):
        study(world, tmp_path, loss_type="log_odds")
    with pytest.raises(BadInputError, match="Name the data's attributes"):
        study(world, tmp_path, plan=ScoringPlan(READ_BY[:1]))
    with pytest.raises(BadInputError, match="1 of 1 are trained on"):
        study(world, tmp_path, held_out=world / "one.txt")
    (tmp_path / "other.csv").write_text('occupation,template\nSewer,"a {occupation} at work"\n')  # another sentence
    with pytest.raises(BadInputError, match="1 of 1 are trained on, the first: 'Sewer'"):
        study(world, tmp_path, held_out=tmp_path / "other.csv")
    (tmp_path / "other.csv").unlink()
    tuples = read_tuples(world / "data")
    renamed = replace(tuples, tuples=tuple(replace(one, prompt_id=f"row {i}") for i, one in enumerate(tuples.tuples)))
    with pytest.raises(BadInputError, match="1 of 1 are trained on"):  # data from elsewhere: known by its sentence
        refuse_trained(prompts_to_draw("occupations", str(world / "one.txt"), READ_BY[0].attribute), renamed)
    with pytest.raises(LedgerError, match="is no study"):
        read_study(tmp_path)
    with pytest.raises(LedgerError, match="is not a folder"):
        study(world, world / "one.txt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ChangedRunError, match="samples 6, now 7"):
        study(world, made[0], samples=7)


def test_other_tuples_are_another_study(world, made):
    tuples = read_tuples(world / "data")
    fewer = replace(tuples, tuples=tuples.tuples[:-1])
    with pytest.raises(ChangedRunError, match="tuples"):
        run_study(
            "miniature",
            fewer,
            made[0],
            held_out=str(world / "held.csv"),
            plan=ScoringPlan(READ_BY),
            arms=["start"],
            guidances=(1.0,),
            samples=6,
            asked=2,
            rank=2,
            **FEW,
        )


def test_the_suffix_is_the_papers():
    assert suffix_of([load_attribute("gender"), load_attribute("race")]) == ", any gender, any race"
