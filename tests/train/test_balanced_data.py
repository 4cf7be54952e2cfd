"""Balanced data of the miniature and of a tiny Janus: what is drawn, kept, paired, and gone on with."""

import numpy as np
import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, ChangedRunError, TooFewSamplesError
from evenhand.ledger import Ledger
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.pipeline.plans import ReadBy
from evenhand.train.data import make_balanced_data

GENDER = (ReadBy(load_attribute("gender"), "avatars"),)
BOTH = (*GENDER, ReadBy(load_attribute("skin_tone"), "avatars"))


@pytest.fixture(scope="module")
def miniature():
    return load_miniature()


@pytest.fixture
def occupations(tmp_path):
    (tmp_path / "two.txt").write_text("sewer\nroustabout\ncosmetologist\n")
    (tmp_path / "held.txt").write_text("Cosmetologist\n")
    return {"data": str(tmp_path / "two.txt"), "leave_out": str(tmp_path / "held.txt")}


def test_true_crosses_are_drawn_confirmed_and_paired(miniature, tmp_path, occupations):
    found = make_balanced_data(miniature, BOTH, tmp_path / "d", pictures=3, **occupations)
    stored = read_tuples(tmp_path / "d")
    assert stored.attribute == "gender x skin_tone"
    assert stored.groups[0] == "male x light"
    assert len(stored.groups) == 6
    assert found.tuples == len(stored.tuples) > 0
    assert sum(one.asked for one in found.groups) == 2 * 6 * 3  # the one that is left out is not drawn
    assert all(one.kept <= one.asked for one in found.groups)
    assert {one.prompt_id for one in stored.tuples} <= {"sewer/neutral", "roustabout/neutral"}
    one = stored.tuples[0]
    occupation = one.prompt_id.removesuffix("/neutral")
    assert one.prompt == f"a photo of the face of a {occupation}, a person"
    assert one.asked[0] == f"a photo of the face of a male light {occupation}, a person"
    assert min(one.confidence) >= 0.8
    # The codes are those of the pictures in the run folder.
    drawn = {(s.prompt_id, s.k): s for s in Ledger.open(tmp_path / "d" / "drawn").samples()}
    first = [s.codes for s in drawn.values() if s.prompt_id == f"{occupation}/neutral/male x light"]
    assert tuple(one.codes[0].tolist()) in first


def test_more_pictures_are_added_and_none_is_drawn_again(miniature, tmp_path, occupations):
    make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=2, **occupations)
    before = {(s.prompt_id, s.k): s.image_sha256 for s in Ledger.open(tmp_path / "d" / "drawn").samples()}
    asked = []
    make_balanced_data(
        miniature, GENDER, tmp_path / "d", pictures=3, progress=lambda done, wanted: asked.append(done), **occupations
    )
    after = {(s.prompt_id, s.k): s.image_sha256 for s in Ledger.open(tmp_path / "d" / "drawn").samples()}
    assert asked[0] == len(before) == 8
    assert {key: after[key] for key in before} == before
    with pytest.raises(ChangedRunError):
        make_balanced_data(miniature, BOTH, tmp_path / "d", pictures=3, **occupations)


def test_pictures_of_another_model_are_encoded_by_the_one_that_is_trained(miniature, tmp_path, occupations):
    source = load_miniature("even")
    make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=2, source=source, **occupations)
    one = read_tuples(tmp_path / "d").tuples[0]
    assert one.source == "source"
    pictures = Ledger.open(tmp_path / "d" / "drawn").samples(pictures=True)
    from evenhand.pictures import decode_picture

    codes = {tuple(miniature.encode([decode_picture(s.image)])[0].tolist()) for s in pictures}
    assert tuple(one.codes[0].tolist()) in codes
    assert one.codes.dtype == np.int32


def test_pictures_are_kept_where_that_is_asked_for(miniature, tmp_path, occupations):
    make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=3, keep_pictures=True, **occupations)
    drawn = {s.image: s.codes for s in Ledger.open(tmp_path / "d" / "drawn").samples(pictures=True)}
    for one in read_tuples(tmp_path / "d", pictures=True).tuples:
        assert [drawn[image] for image in one.images] == [tuple(codes) for codes in one.codes.tolist()]
    before = read_tuples(tmp_path / "d")
    make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=3, **occupations)
    again = read_tuples(tmp_path / "d", pictures=True)
    assert {one.images for one in again.tuples} == {()}
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(before.tuples, again.tuples, strict=True))


def test_wordings_are_sentences_of_their_own(miniature, tmp_path):
    (tmp_path / "one.csv").write_text(
        'occupation,template\nsewer,"a photo of the face of a {occupation}, a person"\n'
        "sewer,a picture of a {occupation}\n"
    )
    make_balanced_data(miniature, GENDER, tmp_path / "d", data=str(tmp_path / "one.csv"), pictures=3)
    prompts = {one.prompt for one in read_tuples(tmp_path / "d").tuples}
    assert prompts == {"a photo of the face of a sewer, a person", "a picture of a sewer"}
    for one in read_tuples(tmp_path / "d").tuples:
        assert one.asked[0] == one.prompt.replace("a sewer", "a male sewer")


def test_refused(miniature, tmp_path, occupations):
    with pytest.raises(BadInputError, match="all are left out"):
        make_balanced_data(
            miniature, GENDER, tmp_path / "d", data=occupations["leave_out"], leave_out=occupations["data"]
        )
    with pytest.raises(BadInputError, match="1 and more"):
        make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=0)
    with pytest.raises(TooFewSamplesError, match=r"male: 0 of 2 \(instead low confidence 2\)"):
        make_balanced_data(miniature, GENDER, tmp_path / "d", pictures=1, min_confidence=1.0, **occupations)
