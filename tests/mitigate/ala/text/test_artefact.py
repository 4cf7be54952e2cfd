"""A scorer's folder: what is written, and every way in which it can be wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from text_material import MEASURED

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.text.additive import AdditiveScorer
from evenhand.mitigate.ala.text.artefact import ScorerRecord, load_scorer, read_folder, save_scorer
from evenhand.mitigate.ala.text.paper import PaperScorer

RECORD = ScorerRecord("additive", "gender", ("male", "female"), None, MEASURED, {"seed": 3}, "400 texts of x.csv")


def made(record: ScorerRecord = RECORD) -> AdditiveScorer:
    return AdditiveScorer(record, ("man", "café"), torch.tensor([[1.0, 0.0], [0.5, 0.25]]), torch.zeros(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_scorer(made(), tmp_path / "scorer")
    return tmp_path / "scorer"


def change(folder: Path, **values: object) -> None:
    stored = json.loads((folder / "scorer.json").read_text())
    (folder / "scorer.json").write_text(json.dumps({**stored, **values}))


def test_loaded_is_what_was_saved(folder: Path):
    loaded = load_scorer(folder)
    assert isinstance(loaded, AdditiveScorer)
    assert loaded.record == RECORD
    assert loaded.settings == made().settings
    assert loaded.word_table() == made().word_table()
    assert AdditiveScorer.from_pretrained(folder, decay=0.5).settings["decay"] == 0.5
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "scorer.json", "scorer.safetensors"]


def test_card_says_what_is_known(folder: Path):
    card = (folder / "README.md").read_text()
    for said in ("gender (male, female)", "400 texts of x.csv", "0.9000", "0.5000", "0.0200", "1.600", "Limits"):
        assert said in card


def test_settings_are_json_and_name_the_weights():
    other = AdditiveScorer(RECORD, ("man", "café"), torch.tensor([[1.0, 0.0], [0.5, 0.26]]), torch.zeros(2))
    assert json.loads(json.dumps(made().settings)) == made().settings
    assert made().settings["temperature"] == MEASURED.temperature
    assert other.settings["sha256"] != made().settings["sha256"]


def test_own_folder_is_replaced_and_a_foreign_one_left_alone(folder: Path, tmp_path: Path):
    save_scorer(made(), folder)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInputError, match="not empty"):
        save_scorer(made(), tmp_path / "foreign")
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.txt"]
    with pytest.raises(BadInputError, match="is a file"):
        save_scorer(made(), tmp_path / "foreign" / "thesis.txt")


@pytest.mark.parametrize(
    "values",
    [{"format": "x"}, {"kind": "magic"}, {"groups": ["male"]}, {"groups": "male"}, {"groups": ["a", "a"]}, {"extra": 1},
     {"options": []}, {"tokenizer": 3}, {"report": {}}, {"sha256": "0"}, {"attribute": None},
     {"groups": ["a", "b", "c"]}],
)  # fmt: skip
def test_altered_records_are_refused(folder: Path, values: dict[str, object]):
    change(folder, **values)
    with pytest.raises(ArtefactError):
        load_scorer(folder)


@pytest.mark.parametrize("report", [None, {**MEASURED.to_dict(), "accuracy": 0.5}, {**MEASURED.to_dict(), "ece": 0.2}])
def test_untrained_and_miscalibrated_are_refused(folder: Path, report: object):
    change(folder, report=report)
    with pytest.raises(ArtefactError):
        load_scorer(folder)


def test_altered_weights_are_refused(folder: Path):
    tensors = made().tensors()
    save_file({**tensors, "bias": torch.ones(2)}, folder / "scorer.safetensors")
    with pytest.raises(ArtefactError, match="not the one"):
        load_scorer(folder)
    save_file({**tensors, "bias": torch.tensor([0.0, float("nan")])}, folder / "scorer.safetensors")
    with pytest.raises(ArtefactError, match="NaN"):
        load_scorer(folder)
    (folder / "scorer.safetensors").write_bytes(b"\x80\x04not a safetensors file")
    with pytest.raises(ArtefactError, match=r"scorer\.safetensors"):
        load_scorer(folder)


def test_wrong_shapes_are_refused():
    with pytest.raises(ArtefactError, match="needs"):
        AdditiveScorer.from_tensors(RECORD, {**made().tensors(), "bias": torch.zeros(3)})
    with pytest.raises(ArtefactError, match="needs"):
        AdditiveScorer.from_tensors(RECORD, {"bias": torch.zeros(2)})
    with pytest.raises(ArtefactError):
        AdditiveScorer.from_tensors(RECORD, {**made().tensors(), "weights": torch.zeros(3, 2)})
    with pytest.raises(ArtefactError, match="needs"):
        PaperScorer.from_tensors(RECORD, {"token.weight": torch.zeros(5, 128)})


def test_absent_folder_and_other_kind_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ArtefactError, match=r"scorer\.json"):
        load_scorer(tmp_path / "absent")
    with pytest.raises(ArtefactError, match="needs kind paper"):
        read_folder(folder, "paper")
