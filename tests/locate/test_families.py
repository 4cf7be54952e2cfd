"""Whole locations of tiny Janus and Emu3 of the real classes, through the files that ``save_pretrained`` writes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from coded_painter import labelled

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.locate import LocationPlan, locate_bias
from evenhand.pipeline.plans import ReadBy, ScoringPlan

_TESTS = Path(__file__).parents[1]
_PLAN = LocationPlan(ScoringPlan((ReadBy(load_attribute("gender"), "colours"),)))


@pytest.fixture(scope="module")
def tiny():
    sys.path.insert(0, str(_TESTS / "models" / "unified"))
    try:
        import tiny_unified
    finally:
        sys.path.pop(0)
    return tiny_unified


@pytest.fixture(autouse=True)
def _classifier(monkeypatch):
    monkeypatch.syspath_prepend(str(_TESTS / "extension"))


@pytest.mark.parametrize(("kind", "places"), [("janus", 5), pytest.param("emu3", 4, marks=pytest.mark.slow)])
def test_a_family_is_located_from_its_files(tmp_path, tiny, kind, places):
    (tmp_path / "two.txt").write_text("sewer\npilot\n")
    folder = tiny.save(kind, tmp_path / kind)
    source = labelled(tmp_path / "labelled", people=24)
    found = locate_bias(
        f"unified:{folder}",
        plan=_PLAN,
        out=tmp_path / "out",
        data=tmp_path / "two.txt",
        pictures=5,
        asked=8,
        answers=2,
        labelled=str(source),
        options=tiny.own_options(kind),
    )[0]
    # Places before and after the quantisation, behind the projector, of the codes; three kinds of controls.
    assert sum(not probe.control for probe in found.probes) == places
    assert {"codes", "projected", "histogram"} <= {probe.place for probe in found.probes}
    assert found.round_trip.pictures == 24
    assert [len(one.values) for one in found.maps] == [found.maps[0].rows * found.maps[0].columns] * len(found.maps)
    assert {one.what for one in found.maps} == {"enters", "differs"}
    # Random weights hardly hear a group's name: the codes stand for nobody clearly, and the verdict says so.
    assert found.counts["pictures scored"] == 2 * 5 + 2 * 2 * 8
    assert (found.parts[0].verdict, "too many codes" in found.parts[0].why) == ("not enough evidence", True)
    # What is kept is what the model says of the codes that were drawn.
    model = tiny.UnifiedModel.from_pretrained(str(folder), guidance=1.0, **tiny.own_options(kind))
    sample = Ledger.open(tmp_path / "out" / "asked-gender").samples()[0]
    prompt = next(one for one in Ledger.open(tmp_path / "out" / "asked-gender").prompts() if one.id == sample.prompt_id)
    kept = read_rows(tmp_path / "out", sample)
    with torch.no_grad():
        own = model.log_prob([prompt.text], torch.tensor([sample.codes]))[0].numpy()
    assert np.abs(kept - own).max() < 1e-4


def read_rows(out, sample):
    """The likelihoods of a picture under the prompt that drew it."""
    from evenhand.locate.likelihood import conditions_of, read_likelihoods

    runs = [Ledger.open(out / name) for name in ("neutral", "asked-gender")]
    conditions = conditions_of(runs[0].prompts(), runs[1].prompts(), ("male", "female"))
    rows = read_likelihoods(str(out / "asked-gender"), conditions, attribute="gender", guidance=1.0)
    column = next(
        1 + list(one.asked).index(group)
        for one in conditions
        for group, prompt in one.asked.items()
        if prompt.id == sample.prompt_id
    )
    return rows[sample.prompt_id, sample.k][column]


def test_options_may_not_draw_from_another_distribution(tmp_path, tiny):
    folder = tiny.save("emu3", tmp_path / "emu3")
    with pytest.raises(BadInputError, match="top_k 3"):
        locate_bias(
            f"unified:{folder}", plan=_PLAN, out=tmp_path / "out", options={"top_k": 3, **tiny.own_options("emu3")}
        )
