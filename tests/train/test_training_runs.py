"""One run by names, from data to an adapter, and back to an audit: the miniature, a few steps."""

import json
from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, ChangedRunError, CorruptLedgerError
from evenhand.miniature.model import load_miniature
from evenhand.mitigate.bpo.tuples import read_tuples
from evenhand.pipeline.plans import ReadBy
from evenhand.train.data import make_balanced_data
from evenhand.train.runs import HeldOut, train_model

GENDER = (ReadBy(load_attribute("gender"), "avatars"),)
FEW = {"max_steps": 4, "per_device_train_batch_size": 2, "disable_tqdm": True, "logging_steps": 1, "use_cpu": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "two.txt").write_text("sewer\nroustabout\n")
    make_balanced_data(load_miniature(), GENDER, folder / "d", data=str(folder / "two.txt"), pictures=4)
    return folder


def held_out(folder, **given):
    (folder / "held.txt").write_text("nurse\n")
    return HeldOut(str(folder / "held.txt"), GENDER, pictures=4, **given)


def test_an_adapter_a_card_and_what_changed(data, tmp_path):
    found = train_model("miniature", data / "d", tmp_path / "run", stage="bpo", held_out=held_out(data), rank=4, **FEW)
    assert found.steps == 4
    assert found.before is not None
    assert found.after is not None
    told = json.loads((tmp_path / "run" / "trained.json").read_text())
    assert told["before"]["pictures"] == told["after"]["pictures"] == 4
    card = (tmp_path / "run" / "README.md").read_text()
    assert card.startswith("---\ntags:")
    assert "male 0.5, female 0.5" in card
    assert f"| disparity (RD) | {found.before.disparity:.3f} | {found.after.disparity:.3f} |" in card
    more = replace(held_out(data), pictures=5)
    with pytest.raises(ChangedRunError, match="other held-out prompts, another number"):
        train_model("miniature", data / "d", tmp_path / "run", stage="bpo", held_out=more, rank=4, **FEW)
    opened = load_miniature(adapter=str(tmp_path / "run"))
    assert opened.revision != load_miniature().revision


def test_the_weight_of_guidance_is_part_of_a_run_and_on_its_card(data, tmp_path):
    weights = {"guidance": 3.0, "reference_guidance": 1.0}
    train_model("miniature", data / "d", tmp_path, stage="bpo", rank=2, **FEW, **weights)
    held = json.loads((tmp_path / "training.json").read_text())
    assert (held["guidance"], held["reference_guidance"]) == (3.0, 1.0)
    assert "| guidance | trained at 3, asked for groups at 1 |" in (tmp_path / "README.md").read_text()
    with pytest.raises(ChangedRunError, match=r"guidance 3\.0, now 1\.0"):
        train_model("miniature", data / "d", tmp_path, stage="bpo", rank=2, **FEW)


@pytest.mark.slow
def test_stage_two_goes_on_with_stage_one_and_watches_itself(data, tmp_path):
    train_model("miniature", data / "d", tmp_path / "sft", stage="sft", rank=4, **FEW)
    found = train_model(
        "miniature",
        read_tuples(data / "d"),
        tmp_path / "bpo",
        stage="bpo",
        start=tmp_path / "sft",
        held_out=held_out(data, every=1, patience=2),
        **FEW,
    )
    assert found.steps <= 4
    again = train_model(  # it is done; what is there is not done again
        "miniature",
        read_tuples(data / "d"),
        tmp_path / "bpo",
        stage="bpo",
        start=tmp_path / "sft",
        held_out=held_out(data, every=1, patience=2),
        **FEW,
    )
    assert again.steps == found.steps
    assert again.before == found.before


def test_refused_before_anything_is_trained(data, tmp_path):
    with pytest.raises(BadInputError, match="are trained on, the first: 'sewer'"):
        train_model(
            "miniature", data / "d", tmp_path / "r", stage="sft", held_out=HeldOut(str(data / "two.txt"), GENDER), **FEW
        )
    with pytest.raises(BadInputError, match="one share above 0"):
        train_model("miniature", data / "d", tmp_path / "r", stage="sft", target=[1.0, 0.0], **FEW)
    with pytest.raises(BadInputError, match="mitigate data"):
        train_model("miniature", tmp_path, tmp_path / "r", stage="sft", **FEW)
    assert not (tmp_path / "r").exists()


def test_an_occupation_in_other_code_points_is_the_same(data):
    from evenhand.records import Prompt
    from evenhand.train.held_out import refuse_trained

    tuples = read_tuples(data / "d")
    composed, apart = "infirmi\u00e8re", "infirmie\u0300re"
    trained = replace(tuples, tuples=(replace(tuples.tuples[0], prompt_id=f"{composed}/neutral"),))
    with pytest.raises(BadInputError, match="1 of 1 are trained on"):
        refuse_trained([Prompt(f"{apart}/neutral", "occupations", "x", None, {"occupation": apart})], trained)


def test_a_damaged_file_of_a_run_and_another_batch(data, tmp_path):
    train_model("miniature", data / "d", tmp_path, stage="sft", rank=4, **FEW)
    with pytest.raises(ChangedRunError, match="batch 2, now 4"):
        train_model("miniature", data / "d", tmp_path, stage="sft", rank=4, **{**FEW, "per_device_train_batch_size": 4})
    (tmp_path / "trained.json").write_text("")
    with pytest.raises(CorruptLedgerError, match=r"trained\.json is not what was written"):
        train_model("miniature", data / "d", tmp_path, stage="sft", rank=4, **FEW)
