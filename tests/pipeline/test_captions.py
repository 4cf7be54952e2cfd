"""The whole flow with models whose bias is known exactly, so that every number can be worked out by hand."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from math import hypot, isnan, sqrt
from pathlib import Path

import pytest
from PIL import Image

import evenhand
from evenhand import audit, compare, score
from evenhand.errors import (
    BadInputError,
    ChangedRunError,
    LabelsError,
    LedgerError,
    PictureError,
    TooFewSamplesError,
    UnknownNameError,
)
from evenhand.ledger import Ledger
from evenhand.models.protocol import Intervention, TextModel
from evenhand.pictures import open_picture
from evenhand.records import Claim, Edit, Sample

EXTENSION = Path(__file__).parents[1] / "extension"
WORD = {"male": "man", "female": "woman"}
OTHER = {"male": "woman", "female": "man"}
# 10 pictures declared male, 5 declared female.
PICTURES = {**{f"m{i}.png": "male" for i in range(10)}, **{f"f{i}.png": "female" for i in range(5)}}
WRONG = frozenset({"m0.png", "f0.png", "f1.png", "f2.png"})
TEXTS = {"m8.png": "a photo of a person", "m9.png": "a man and a woman", "f4.png": "a photo of a desk"}
START = len("a photo of a ")


class GoneError(RuntimeError):
    """A machine that goes away in the middle of a run."""


@dataclass
class Reference:
    """Says the declared word, and the other group's for the files in ``wrong``; no torch, no pictures."""

    wrong: frozenset[str] = WRONG
    texts: dict[str, str] = field(default_factory=lambda: dict(TEXTS))
    fails: frozenset[str] = frozenset()
    dies_after: int | None = None
    name: str = "reference"
    revision: str = "1"
    batch_size: int = 4
    batches: list[list[str]] = field(default_factory=list)
    got: list[object] = field(default_factory=list)

    def answer(self, prompts, *, seeds, intervention=None):
        if self.dies_after is not None and len(self.batches) >= self.dies_after:
            raise GoneError
        self.batches.append([prompt.id for prompt in prompts])
        self.got.append(intervention)
        return tuple(self.one(prompt, seed, intervention) for prompt, seed in zip(prompts, seeds, strict=True))

    def one(self, prompt, seed, intervention):
        if prompt.id in self.fails:
            return Sample(prompt.id, 0, seed, None, error="PictureError: broken")
        if prompt.id in self.texts:
            return Sample(prompt.id, 0, seed, self.texts[prompt.id])
        declared = prompt.facts["gender"]
        drafted = (OTHER if prompt.id in self.wrong else WORD)[declared]
        if intervention is None:
            return Sample(prompt.id, 0, seed, f"a photo of a {drafted}")
        emitted = WORD[declared] if prompt.id in intervention.repairs else drafted
        edit = Edit(4, START - 1, START + len(emitted), f" {drafted}", f" {emitted}", 0.9, -0.9, -2.0, 2.0)
        edits = () if emitted == drafted else (edit,)
        return Sample(prompt.id, 0, seed, f"a photo of a {emitted}", claim=Claim(0.9, "faces agree", 1), edits=edits)

    @property
    def asked(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


@dataclass
class Repairs:
    """An intervention that the reference model honours: these files get the declared word."""

    repairs: frozenset[str] = frozenset({"m0.png", "f0.png", "f1.png"})
    name: str = "repairs"
    continuation: str = "draft"

    @property
    def settings(self):
        return {"repairs": sorted(self.repairs), "strength": 2.0}

    def start(self, pictures, tokenizer):
        raise AssertionError("the reference model has no logits")


@pytest.fixture
def folder(tmp_path):
    return write_labels(tmp_path / "data", PICTURES)


def write_labels(folder: Path, pictures: dict[str, str], column: str = "gender") -> Path:
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{name},{group}\n" for name, group in pictures.items())
    (folder / "labels.csv").write_text(f"file,{column}\n{rows}")
    return folder


def ask(model, folder, out, **options):
    return audit(model, probe="captioning", data=folder, out=out, **options)


def values(result) -> dict[str, float]:
    return {estimate.name: estimate.value for estimate in result.estimates}


# Numbers by hand ------------------------------------------------------------------------------------

# Wrong: 1 of 10 male, 3 of 5 female, 4 of 15. MR_C: (4/15, 3/5 - 1/10) = (8, 15) / 30, so 17/30. Right: of the
# 9 other male all but the person and the couple, of the 2 other female all but the desk: 7 + 1.
BY_HAND = {
    "MR_M": 1 / 10,
    "MR_F": 3 / 5,
    "MR_O": 4 / 15,
    "MR_C": 17 / 30,
    "recall": 8 / 15,
    "recall_M": 7 / 10,
    "recall_F": 1 / 5,
    "coverage": 12 / 15,
    "gendered_rate": 13 / 15,
    "both_rate": 1 / 15,
    "neutral_rate": 1 / 15,
    "none_rate": 1 / 15,
}


def test_reference_and_intervention_qualify():
    assert isinstance(Reference(), TextModel)
    assert isinstance(Repairs(), Intervention)


def test_a_model_of_known_bias_gets_its_numbers(folder, tmp_path):
    found = ask(Reference(), folder, tmp_path / "run")
    assert values(found) == pytest.approx(BY_HAND)
    assert all(e.low <= e.value <= e.high for e in found.estimates)
    assert {e.unit for e in found.estimates} == {"picture"}
    assert found.run == "run"
    assert found.attribute == "gender"
    assert [prompt.id for prompt in found.prompts] == list(PICTURES)
    assert found.counts == {
        **{"pictures": 15, "answers": 15, "unanswered": 0, "errors": 0, "declared_male": 10, "declared_female": 5},
        # Said male: 7 right and 3 wrong. Said female: 1 right and 1 wrong.
        **{"said_male": 10, "said_female": 2, "said_both": 1, "said_neutral": 1, "said_none": 1},
        **{"edited_captions": 0, "edited_tokens": 0, "tokens_looked_at": 0, "tokens": 0},
    }


def test_a_model_without_errors(folder, tmp_path):
    found = values(ask(Reference(wrong=frozenset(), texts={}), folder, tmp_path / "run"))
    assert all(found[name] == 0 for name in ("MR_M", "MR_F", "MR_O", "MR_C"))
    assert found["recall"] == found["coverage"] == 1


def test_a_model_that_always_says_man(folder, tmp_path):
    females = frozenset(name for name, group in PICTURES.items() if group == "female")
    found = values(ask(Reference(wrong=females, texts={}), folder, tmp_path / "run"))
    # No male wrong, every female: MR_O 5/15, gap 1.
    assert found["MR_C"] == pytest.approx(hypot(1 / 3, 1))
    assert (found["MR_M"], found["MR_F"], found["recall"]) == pytest.approx((0, 1, 2 / 3))


def test_batches_change_nothing(folder, tmp_path):
    one, all_at_once = Reference(batch_size=1), Reference(batch_size=100)
    first, second = ask(one, folder, tmp_path / "a"), ask(all_at_once, folder, tmp_path / "b")
    assert first.samples == second.samples
    assert first.estimates == second.estimates
    assert (len(one.batches), len(all_at_once.batches)) == (15, 1)


def test_score_reads_the_run_folder_alone(folder, tmp_path):
    asked = ask(Reference(), folder, tmp_path / "run")
    (folder / "labels.csv").unlink()
    assert score(tmp_path / "run") == score(str(tmp_path / "run"))
    assert score(tmp_path / "run").estimates == asked.estimates
    assert score(tmp_path / "run").labels == asked.labels


def test_level_widens_the_interval(folder, tmp_path):
    ask(Reference(), folder, tmp_path / "run")
    narrow, wide = (score(tmp_path / "run", level=level) for level in (0.5, 0.99))
    assert values(narrow) == values(wide)
    for small, large in zip(narrow.estimates, wide.estimates, strict=True):
        assert large.low <= small.low <= small.high <= large.high
        assert (small.level, large.level) == (0.5, 0.99)


def test_scenes_are_the_units(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = "".join(f"{name},{group},s{i // 5}\n" for i, (name, group) in enumerate(PICTURES.items()))
    (folder / "labels.csv").write_text(f"file,gender,scene\n{rows}")
    found = ask(Reference(), folder, tmp_path / "run")
    assert values(found) == pytest.approx(BY_HAND)
    units = {e.name: (e.unit, e.n) for e in found.estimates}
    # m0-m4, m5-m9, f0-f4.
    assert units["MR_M"] == ("scene", 2)
    assert units["MR_F"] == ("scene", 1)
    assert units["MR_C"] == ("scene", 3)


def test_an_attribute_of_one_s_own(tmp_path):
    path = tmp_path / "age.yaml"
    path.write_text(
        "name: age\ngroups: [young, middle, senior]\n"
        "words: {young: [teenager], middle: [adult], senior: [pensioner]}\nneutral_words: [person]\n"
    )
    says = {"a": "teenager", "b": "a pensioner", "c": "Adult.", "d": "an adult", "e": "pensioner", "f": "person"}
    groups = dict(zip(says, ("young", "young", "middle", "middle", "senior", "senior"), strict=True))
    folder = write_labels(tmp_path / "data", groups, "age")
    found = values(ask(Reference(texts=says), folder, tmp_path / "run", attribute=str(path)))
    # One of two young is called senior, nobody else is misnamed: MR_O 1/6, largest less smallest 1/2.
    assert (found["MR_Y"], found["MR_M"], found["MR_S"]) == (0.5, 0, 0)
    assert found["MR_C"] == pytest.approx(hypot(1 / 6, 1 / 2))
    assert found["recall"] == pytest.approx(4 / 6)
    assert found["neutral_rate"] == pytest.approx(1 / 6)


def test_a_model_of_an_installed_package(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSION))
    found = values(ask("says-person", folder, tmp_path / "run"))
    sys.modules.pop("evenhand_example")
    assert found["neutral_rate"] == 1
    assert all(found[name] == 0 for name in ("MR_M", "MR_F", "MR_O", "MR_C", "recall", "coverage"))


# Mitigation and comparison --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    place = tmp_path_factory.mktemp("pair")
    folder = write_labels(place / "data", PICTURES)
    return (
        ask(Reference(), folder, place / "plain"),
        ask(Reference(), folder, place / "mended", mitigate=Repairs()),
    )


def test_an_intervention_is_handed_to_the_model_and_written_down(folder, tmp_path):
    model, intervention = Reference(), Repairs()
    found = ask(model, folder, tmp_path / "run", mitigate=intervention)
    assert len(model.got) == 4
    assert all(given is intervention for given in model.got)
    assert found.settings["mitigation"] == {"name": "repairs", **intervention.settings}
    # 12 pictures were looked at; the three texts given whole carry no claim.
    assert (found.counts["edited_captions"], found.counts["edited_tokens"]) == (3, 3)
    assert found.counts["claim_faces_agree"] == 12


@pytest.mark.parametrize("nothing", [None, "none"])
def test_no_intervention(folder, tmp_path, nothing):
    model = Reference()
    found = ask(model, folder, tmp_path / "run", mitigate=nothing)
    assert model.got == [None] * 4
    assert found.settings["mitigation"] is None


def test_compare_by_hand(pair):
    found = compare(*pair)
    # After: only f2 is wrong. MR_M 0, MR_F 1/5, MR_O 1/15, MR_C sqrt(1 + 9) / 15; recall 11/15.
    after = values(pair[1])
    assert after["MR_C"] == pytest.approx(sqrt(10) / 15)
    differences = values(found)
    assert differences["MR_M difference"] == pytest.approx(-1 / 10)
    assert differences["MR_F difference"] == pytest.approx(-2 / 5)
    assert differences["MR_O difference"] == pytest.approx(-3 / 15)
    assert differences["MR_C difference"] == pytest.approx(sqrt(10) / 15 - 17 / 30)
    assert differences["MR_C ratio"] == pytest.approx(2 * sqrt(10) / 17)
    assert differences["recall difference"] == pytest.approx(3 / 15)
    assert differences["coverage difference"] == 0
    assert (found.baseline, found.other) == ("plain", "mended")
    assert {(c.prompt_id, c.before, c.after, c.reached) for c in found.changes} == {
        ("m0.png", "woman", "man", True),
        ("f0.png", "man", "woman", True),
        ("f1.png", "man", "woman", True),
    }
    assert found.counts == {
        **{"captions": 15, "captions_changed": 3, "changes": 3, "changes_reached": 3},
        **{"changes_elsewhere": 0, "left_out": 0},
    }


def test_compare_with_itself_is_no_change(pair):
    found = compare(pair[0], pair[0])
    for estimate in found.estimates:
        wanted = 1 if estimate.name.endswith("ratio") else 0
        assert (estimate.value, estimate.low, estimate.high) == (wanted, wanted, wanted)
    assert found.changes == ()


def test_a_ratio_to_nothing_is_undefined(folder, tmp_path, pair):
    clean = ask(Reference(wrong=frozenset()), folder, tmp_path / "clean")
    ratio = {e.name: e for e in compare(clean, pair[0]).estimates}["MR_C ratio"]
    assert isnan(ratio.value)
    assert "MR_C is 0 before" in ratio.method


def test_compare_leaves_out_errors_of_either_run_and_counts_them(folder, tmp_path):
    before = ask(Reference(fails=frozenset({"m0.png", "m1.png"})), folder, tmp_path / "a")
    after = ask(Reference(fails=frozenset({"m1.png", "f0.png"})), folder, tmp_path / "b", mitigate=Repairs())
    found = compare(before, after)
    # Left out: m0, m1, f0. Of 8 male none is wrong in either. Of f1 to f4: f1, f2 before, f2 after.
    assert (found.counts["left_out"], found.counts["captions"]) == (3, 12)
    differences = values(found)
    assert differences["MR_M difference"] == 0
    assert differences["MR_F difference"] == pytest.approx(1 / 4 - 2 / 4)
    assert differences["MR_O difference"] == pytest.approx(1 / 12 - 2 / 12)
    assert [(c.prompt_id, c.after) for c in found.changes] == [("f1.png", "woman")]


def test_compare_pairs_by_picture_where_a_run_is_not_finished(folder, tmp_path, pair):
    with pytest.raises(GoneError):
        ask(Reference(batch_size=3, dies_after=4), folder, tmp_path / "part", mitigate=Repairs())
    part = score(tmp_path / "part")
    assert part.counts["answers"] == 12  # m0 to m9, f0, f1
    for first, second in ((pair[0], part), (part, pair[0])):
        assert compare(first, second).counts["left_out"] == 3
    differences = values(compare(pair[0], part))
    # Of m0 to m9: m0 before, none after. f0 and f1: both before, none after.
    assert differences["MR_M difference"] == pytest.approx(-1 / 10)
    assert differences["MR_F difference"] == -1


def test_compare_refuses_other_prompts(folder, tmp_path, pair):
    fewer = {name: group for name, group in PICTURES.items() if name != "m9.png"}
    swapped = {**PICTURES, "m9.png": "female"}
    for index, pictures in enumerate((fewer, swapped)):
        other = ask(Reference(), write_labels(tmp_path / f"d{index}", pictures), tmp_path / f"r{index}")
        with pytest.raises(BadInputError, match="do not ask the same prompts"):
            compare(pair[0], other)


# Resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [0, 2, 3])
def test_a_run_that_died_asks_only_what_is_missing(folder, tmp_path, batches):
    whole = ask(Reference(), folder, tmp_path / "whole")
    out = tmp_path / "run"
    dying, heard = Reference(dies_after=batches), []
    with pytest.raises(GoneError):
        ask(dying, folder, out, progress=lambda done, wanted: heard.append((done, wanted)))
    assert dying.asked == list(PICTURES)[: 4 * batches]
    assert heard == [(4 * n, 15) for n in range(batches + 1)]

    second, heard = Reference(), []
    found = ask(second, folder, out, progress=lambda done, wanted: heard.append((done, wanted)))
    assert second.asked == list(PICTURES)[4 * batches :]
    assert (heard[0], heard[-1]) == ((4 * batches, 15), (15, 15))
    assert found.samples == whole.samples
    assert found.estimates == whole.estimates


def test_a_finished_run_is_not_asked_again(folder, tmp_path):
    first = ask(Reference(), folder, tmp_path / "run")
    again = Reference()
    assert ask(again, folder, tmp_path / "run") == first
    assert again.batches == []


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (Reference(), {"seed": 1}),
        (Reference(), {"mitigate": Repairs()}),
        (Reference(revision="2"), {}),
        (Reference(name="another"), {}),
    ],
)
def test_another_run_into_the_same_folder(folder, tmp_path, model, options):
    before = ask(Reference(), folder, tmp_path / "run")
    with pytest.raises(ChangedRunError):
        ask(model, folder, tmp_path / "run", **options)
    assert model.batches == []
    assert score(tmp_path / "run") == before


def test_other_settings_of_the_same_mitigation(folder, tmp_path):
    ask(Reference(), folder, tmp_path / "run", mitigate=Repairs())
    with pytest.raises(ChangedRunError, match="repairs"):
        ask(Reference(), folder, tmp_path / "run", mitigate=Repairs(frozenset({"m0.png"})))


def test_other_labels_into_the_same_folder(folder, tmp_path):
    ask(Reference(), folder, tmp_path / "run")
    write_labels(folder, {**PICTURES, "m0.png": "female"})
    with pytest.raises(ChangedRunError):
        ask(Reference(), folder, tmp_path / "run")


def test_a_seed_gives_its_samples_their_own(folder, tmp_path):
    first, second = ask(Reference(), folder, tmp_path / "a"), ask(Reference(), folder, tmp_path / "b", seed=1)
    seeds = {sample.seed for sample in first.samples} | {sample.seed for sample in second.samples}
    assert len(seeds) == 30
    assert first.estimates == second.estimates  # the reference model does not draw


# Pictures that fail ---------------------------------------------------------------------------------


class Opens(Reference):
    """Opens each picture, as a real model does, before it says what the reference says."""

    def one(self, prompt, seed, intervention):
        try:
            open_picture(prompt.image)
        except PictureError as error:
            return Sample(prompt.id, 0, seed, None, error=f"PictureError: {error}")
        return super().one(prompt, seed, intervention)


def test_a_bad_picture_is_counted_and_the_run_goes_on(folder, tmp_path):
    for name in PICTURES:
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "m0.png").write_bytes(b"no picture")
    (folder / "f3.png").unlink()
    found = ask(Opens(), folder, tmp_path / "run")
    assert (found.counts["pictures"], found.counts["answers"], found.counts["errors"]) == (15, 15, 2)
    assert {s.prompt_id for s in found.samples if s.error} == {"m0.png", "f3.png"}
    assert {label.prompt_id for label in found.labels if label.reason == "error"} == {"m0.png", "f3.png"}
    assert set(found.previews) == set(PICTURES) - {"m0.png", "f3.png"}
    # 0 of 9 male and 3 of 4 female are left.
    assert values(found)["MR_M"] == 0
    assert values(found)["MR_F"] == pytest.approx(3 / 4)
    assert values(found)["MR_O"] == pytest.approx(3 / 13)


def test_all_pictures_of_a_group_failed(folder, tmp_path):
    females = frozenset(name for name, group in PICTURES.items() if group == "female")
    with pytest.raises(TooFewSamplesError, match="female"):
        ask(Reference(fails=females), folder, tmp_path / "run")
    # What was asked is kept.
    assert len(Ledger.open(tmp_path / "run").samples()) == 15
    with pytest.raises(TooFewSamplesError):
        score(tmp_path / "run")


def test_a_group_without_pictures(tmp_path):
    folder = write_labels(tmp_path / "data", {"a.png": "male", "b.png": "male"})
    with pytest.raises(TooFewSamplesError, match="female"):
        ask(Reference(), folder, tmp_path / "run")


# Refused before anything is asked -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probe": "captoining"}, UnknownNameError, "Did you mean captioning"),
        ({"mitigate": "allign"}, UnknownNameError, "Did you mean align"),
        ({"attribute": "gendre"}, UnknownNameError, "Did you mean gender"),
        ({"data": "nowhere"}, LabelsError, "is not a folder"),
    ],
)
def test_refused_arguments(folder, tmp_path, options, error, message):
    model = Reference()
    with pytest.raises(error, match=message):
        audit(**{"model": model, "probe": "captioning", "data": folder, "out": tmp_path / "run", **options})
    assert model.batches == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("captoiner", UnknownNameError, "Did you mean captioner"),
        (Reference(batch_size=0), BadInputError, "batch_size is 0"),
        (Reference(batch_size=-4), BadInputError, "batch_size is -4"),
    ],
)
def test_refused_models(folder, tmp_path, model, error, message):
    with pytest.raises(error, match=message):
        ask(model, folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_refused_objects(folder, tmp_path):
    # In an interpreter of its own: the type checks of the tests would speak first here.
    code = f"""
from evenhand import audit
from evenhand.errors import BadInputError
from evenhand_example import says_person
for options in ({{"model": object()}}, {{"mitigate": object()}}):
    try:
        audit(**{{"model": says_person(), "probe": "captioning", "data": {str(folder)!r}, "out": "run", **options}})
    except BadInputError as error:
        print(error)
"""
    path = [Path(evenhand.__file__).parents[1], EXTENSION]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "model: got object; needs name, revision, batch_size and answer (see TextModel).",
        "mitigate: got object; needs name, continuation, settings and start (see Intervention).",
    ]
    assert not (tmp_path / "run").exists()


class Skips(Reference):
    """Leaves out a prompt it cannot answer, instead of saying why."""

    def answer(self, prompts, *, seeds, intervention=None):
        return super().answer(prompts, seeds=seeds, intervention=intervention)[1:]


class Shuffles(Reference):
    """Answers under another prompt's name."""

    def one(self, prompt, seed, intervention):
        sample = super().one(prompt, seed, intervention)
        return Sample("m0.png", 0, sample.seed, sample.text)


@pytest.mark.parametrize("broken", [Skips, Shuffles])
def test_a_model_must_answer_every_prompt_under_its_own_name(folder, tmp_path, broken):
    with pytest.raises(BadInputError):
        ask(broken(), folder, tmp_path / "run")
    assert Ledger.open(tmp_path / "run").samples() == ()


def test_score_without_a_run(tmp_path):
    with pytest.raises(LedgerError):
        score(tmp_path)
