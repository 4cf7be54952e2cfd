"""Whole locations: of models whose bias was put somewhere, stopped and resumed, checked, refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from coded_painter import CodedPainter, labelled
from safetensors.numpy import save

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, ChangedRunError, CorruptLedgerError, LedgerError
from evenhand.locate import LocationPlan, locate_bias, read_location
from evenhand.pipeline.plans import ReadBy, ScoringPlan
from evenhand.records import Sample

_TESTS = Path(__file__).parents[1]
_PLAN = LocationPlan(ScoringPlan((ReadBy(load_attribute("gender"), "colours"),)))
_UNEVEN = {"sewer": 0.1, "pilot": 0.9, "baker": 0.2, "judge": 0.8}
_EVEN = dict.fromkeys(_UNEVEN, 0.5)


@pytest.fixture(autouse=True)
def _classifier(monkeypatch):
    monkeypatch.syspath_prepend(str(_TESTS / "extension"))


@pytest.fixture
def occupations(tmp_path):
    (tmp_path / "four.txt").write_text("\n".join(_UNEVEN) + "\n")
    return tmp_path / "four.txt"


def _locate(model, occupations, out, **changed):
    known = {"plan": _PLAN, "data": occupations, "pictures": 120, "asked": 40, "answers": 12}
    return locate_bias(model, out=out, **(known | changed))[0]


@pytest.mark.parametrize(
    ("shares", "turns", "attributed"),
    [
        (_UNEVEN, (), ("language model",)),
        (_EVEN, (0, 1), ("picture decoder",)),
        (_UNEVEN, (0, 1), ("language model", "picture decoder")),
        (_EVEN, (), ()),
    ],
)
def test_bias_is_found_where_it_was_put(tmp_path, occupations, shares, turns, attributed):
    source = str(labelled(tmp_path / "labelled")) if turns else None
    found = _locate(CodedPainter(shares, turns=turns), occupations, tmp_path / "out", labelled=source)
    assert found.attributed == attributed
    verdicts = {part.name: part.verdict for part in found.parts}
    assert verdicts.pop("picture encoder") == ("no evidence" if turns else "not enough evidence")
    assert set(verdicts.values()) <= {"biased", "no evidence"}
    # Mean distance of the declared shares from 1/2, and half of the women shown as men.
    wanted = 0.35 if shares is _UNEVEN else 0.0
    assert found.totals["codes"].low <= wanted <= found.totals["codes"].high
    turned = found.parts[1].size
    assert turned.low <= (0.25 if turns else 0.0) <= turned.high
    assert {one.name: one.nearest for one in found.prompts if shares is _UNEVEN} == (
        {"sewer": "female", "pilot": "male", "baker": "female", "judge": "male"} if shares is _UNEVEN else {}
    )
    # It answers in a quarter of the cases, and yet draws one group where its shares are uneven and nobody is turned.
    if not turns:
        declines = [one for one in found.prompts if one.answer_rate.high < 0.5]
        assert declines
        assert {one.partly_aligned for one in declines} == {shares is _UNEVEN}
    # The group is said by the first code; those behind it add nothing.
    enters = next(one for one in found.maps if one.what == "enters" and one.pair == ("male", "female"))
    assert enters.values[0] == pytest.approx(0.693, abs=1e-3)
    assert enters.values[1:] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_word_that_is_not_obeyed_is_no_decoder(tmp_path, occupations):
    """Only men are drawn, whoever is asked for; the word changes nothing but the last code, by which it can be told."""

    class Ignores(CodedPainter):
        def generate(self, texts, *, seeds, guidance=None, temperature=1.0):
            drawn = [np.random.default_rng(seed) for seed in seeds]
            rows = [[0, 0, 0, self._last(text, one)] for text, one in zip(texts, drawn, strict=True)]
            return torch.tensor(rows)

        def _last(self, text, drawn):
            return int(drawn.integers(2)) + 2 * (drawn.random() >= self._male(text))

        def log_prob(self, texts, codes, *, guidance=None):
            male = torch.tensor([self._male(text) for text in texts])
            found = torch.zeros(codes.shape)
            found[:, 3] = torch.where(codes[:, 3] < 2, male / 2, (1 - male) / 2).log()
            return found

    source = str(labelled(tmp_path / "labelled"))
    found = _locate(Ignores(_EVEN), occupations, tmp_path / "out", labelled=source)
    assert found.attributed == ()
    verdicts = {part.name: part.verdict for part in found.parts}
    assert (verdicts["language model"], verdicts["picture decoder"]) == ("not enough evidence",) * 2
    assert found.fidelity["female"].value == 0


@pytest.mark.slow
def test_labelled_pictures_that_were_stopped_break_nothing(tmp_path, occupations):
    source = str(labelled(tmp_path / "labelled", people=80))
    small = {"pictures": 12, "asked": 8}
    before = _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", **small)

    class Stops(CodedPainter):
        left = 2

        def encode(self, pictures):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().encode(pictures)

    with pytest.raises(KeyboardInterrupt):
        _locate(Stops(_UNEVEN), occupations, tmp_path / "run", labelled=source, **small)
    assert read_location(tmp_path / "run") == (before,)
    found = _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", labelled=source, **small)
    assert found.counts["labelled pictures"] == 80
    assert found.probes
    # What is not asked for is not measured, though it is there.
    assert _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", **small) == before


def test_other_labelled_pictures_are_refused_before_anything_is_drawn(tmp_path, occupations):
    first, second = (str(labelled(tmp_path / name, people=people)) for name, people in (("a", 24), ("b", 30)))
    small = {"pictures": 6, "asked": 4, "answers": 0}
    _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", labelled=first, **small)

    class Never(CodedPainter):
        def draw(self, prompts, *, seeds):
            raise AssertionError("drawn")

    with pytest.raises(ChangedRunError, match="other labelled pictures"):
        _locate(Never(_UNEVEN), occupations, tmp_path / "run", labelled=second, **{**small, "pictures": 7})


def test_damaged_files_are_told(tmp_path, occupations):
    source = str(labelled(tmp_path / "labelled", people=24))
    _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", labelled=source, pictures=6, asked=4, answers=0)
    features = tmp_path / "run" / "labelled-gender" / "features.safetensors"
    whole = features.read_bytes()
    features.write_bytes(save({"encoder": np.zeros((23, 4))}))
    with pytest.raises(CorruptLedgerError, match="not of these 24 pictures"):
        read_location(tmp_path / "run")
    features.write_bytes(whole[:-5])
    with pytest.raises(CorruptLedgerError, match=r"features\.safetensors"):
        read_location(tmp_path / "run")
    features.write_bytes(whole)
    (rows,) = (tmp_path / "run" / "neutral").glob("likelihood-*.parquet")
    table = pq.read_table(rows)
    short = table.set_column(
        3, "log_probs", pa.array([row[:-1] for row in table["log_probs"].to_pylist()], pa.list_(pa.float32()))
    )
    pq.write_table(short, rows)
    with pytest.raises(CorruptLedgerError, match="for each of its codes"):
        read_location(tmp_path / "run")


def test_a_group_of_which_every_picture_fails_is_left_out(tmp_path, occupations):
    class Refuses(CodedPainter):
        def draw(self, prompts, *, seeds):
            drawn = super().draw(prompts, seeds=seeds)
            return tuple(
                Sample(one.prompt_id, 0, one.seed, None, error="BadInputError: no")
                if prompt.facts["asked"] == "female"
                else one
                for prompt, one in zip(prompts, drawn, strict=True)
            )

    found = _locate(Refuses(_UNEVEN), occupations, tmp_path / "run", pictures=12, asked=8)
    assert found.parts[0].verdict == "not enough evidence"
    assert {one.pair for one in found.maps} == {("neutral", "male")}
    assert set(found.obeyed) == {"male"}


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_is_the_same(tmp_path, occupations):
    source = labelled(tmp_path / "labelled", people=24)
    whole = _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "whole" / "run", labelled=str(source), pictures=20)

    class Stops(CodedPainter):
        left = 5

        def draw(self, prompts, *, seeds):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().draw(prompts, seeds=seeds)

    with pytest.raises(KeyboardInterrupt):
        _locate(Stops(_UNEVEN), occupations, tmp_path / "run", labelled=str(source), pictures=20)
    found = _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", labelled=str(source), pictures=20)
    assert found == whole
    # Without the model, and with every picture read again.
    assert read_location(tmp_path / "run", reading="check") == (found,)


def test_more_pictures_are_added_and_nothing_is_scored_twice(tmp_path, occupations):
    class Counts(CodedPainter):
        scored = 0

        def log_prob(self, texts, codes, *, guidance=None):
            self.scored += len(codes)
            return super().log_prob(texts, codes, guidance=guidance)

    model = Counts(_UNEVEN)
    _locate(model, occupations, tmp_path / "run", pictures=10, asked=5)
    # 4 x 10 neutral and 4 x 2 x 5 asked pictures, under three prompts each.
    assert model.scored == 3 * (40 + 40)
    _locate(model, occupations, tmp_path / "run", pictures=12, asked=5)
    assert model.scored == 3 * (48 + 40)


def test_a_model_without_likelihoods_is_told_little_of(tmp_path, occupations):
    class Draws:
        name, revision, batch_size, replayable = "draws", "1", 16, True

        def __init__(self):
            self._own = CodedPainter(_UNEVEN)
            self.settings = {"guidance": 7.5}

        def draw(self, prompts, *, seeds):
            return tuple(dataclasses.replace(one, codes=None) for one in self._own.draw(prompts, seeds=seeds))

    found = _locate(Draws(), occupations, tmp_path / "run", pictures=30, asked=10)
    assert found.attributed == ()
    assert {part.verdict for part in found.parts} == {"not enough evidence"}
    assert found.totals.keys() == {"shown"}
    assert found.fidelity["female"].value == 1
    assert (found.maps, found.agreement, found.turned) == ((), None, {})
    assert any("no likelihood" in one for one in found.caveats)
    # Half of all neutral pictures show women, all that were asked to do: TV 1/2, which pixels tell as well as codes.
    bound = found.two_samples["female"][1]
    assert (bound.name, bound.low <= 0.5 <= bound.high + 0.05) == ("TV bound", True)
    assert bound.low > 0.2


def test_pictures_that_fail_are_counted(tmp_path, occupations):
    class Fails(CodedPainter):
        def draw(self, prompts, *, seeds):
            drawn = super().draw(prompts, seeds=seeds)
            return tuple(
                Sample(one.prompt_id, 0, one.seed, None, error="BadInputError: no") if one.seed % 5 == 0 else one
                for one in drawn
            )

    found = _locate(Fails(_UNEVEN), occupations, tmp_path / "run", pictures=40, asked=20)
    assert found.counts["failed"] > 20
    assert found.counts["pictures scored"] + found.counts["failed"] == 4 * 40 + 8 * 20
    assert any("failed" in one for one in found.caveats)


def test_another_distribution_is_refused_before_anything_is_drawn(tmp_path, occupations):
    for settings, word in (({"temperature": 0.7}, "temperature 0.7"), ({"guidance": 5.0}, "guidance 5.0")):
        with pytest.raises(BadInputError, match=word):
            _locate(CodedPainter(_UNEVEN, settings=settings), occupations, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    guided = dataclasses.replace(_PLAN, guidance=5.0)
    model = CodedPainter(_UNEVEN, settings={"guidance": 5.0})
    assert (
        _locate(model, occupations, tmp_path / "run", plan=guided, pictures=10).settings["likelihood_guidance"] == 5.0
    )


def test_what_cannot_be_is_refused(tmp_path, occupations):
    with pytest.raises(BadInputError, match="pictures 0"):
        _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", pictures=0)
    with pytest.raises(BadInputError, match="margin"):
        LocationPlan(_PLAN.scoring, margin=0.0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"thesis\.txt"):
        _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "full")
    with pytest.raises(LedgerError, match=r"location\.json"):
        read_location(tmp_path / "full")
    _locate(CodedPainter(_UNEVEN), occupations, tmp_path / "run", pictures=10, asked=5)
    with pytest.raises(ChangedRunError):
        _locate(CodedPainter(_UNEVEN, turns=(1,)), occupations, tmp_path / "run", pictures=10, asked=5)
