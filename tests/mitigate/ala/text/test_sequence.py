"""Someone else's classifier: labels mapped to groups, decoded text, what is remembered, calibration, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from text_material import MEASURED, tokenizer_of, weights_for
from transformers import BertConfig, BertForSequenceClassification

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, load_scorer, save_scorer
from evenhand.mitigate.ala.text.sequence import SequenceScorer

GROUPS = ("male", "female")


def folder_of(path: Path, labels: tuple[str, ...]) -> str:
    reader = tokenizer_of("wordpiece")
    config = BertConfig(vocab_size=len(reader), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=20, pad_token_id=reader.pad_token_id,
                        id2label=dict(enumerate(labels)),
                        label2id={name: i for i, name in enumerate(labels)})  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
        for parameter in model.parameters():
            parameter.data.mul_(5)
    model.save_pretrained(path)
    reader.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("classifier"), ("M", "F", "other"))


def scorer(classifier: str, labels: dict[str, str]) -> SequenceScorer:
    return SequenceScorer.from_model(classifier, attribute="gender", groups=GROUPS, labels=labels).with_report(MEASURED)


def own(classifier: str, text: str) -> torch.Tensor:
    from transformers import AutoTokenizer

    reader = AutoTokenizer.from_pretrained(classifier)
    model = BertForSequenceClassification.from_pretrained(classifier).eval()
    with torch.no_grad():
        return model(**reader(text, return_tensors="pt")).logits[0]


def test_shares_are_the_classifiers_of_the_decoded_text(classifier: str):
    lm = tokenizer_of("byte-level")
    state = scorer(classifier, {"M": "male", "F": "female"}).start(weights_for("t"), lm)
    ids = lm.encode("A woman is riding", add_special_tokens=False)
    shares = state.shares(torch.tensor([ids[:-1]]), torch.tensor([[ids[-1], ids[0]]]))
    z = own(classifier, "A woman is riding")
    assert shares[0, 0].tolist() == pytest.approx(torch.softmax(z[:2] / MEASURED.temperature, dim=0).tolist(), abs=1e-5)
    assert shares.shape == (1, 2, 2)


def test_several_labels_of_one_group_add_up(classifier: str):
    made = scorer(classifier, {"M": "male", "F": "female", "other": "female"})
    z = torch.softmax(own(classifier, "a man"), dim=0)
    found = made.logits(["a man"])[0]
    assert np.exp(found[0] - np.logaddexp(*found)) == pytest.approx(float(z[0]), abs=1e-5)


def test_one_logit_is_a_sigmoid(tmp_path: Path):
    classifier = folder_of(tmp_path / "one", ("toxic",))
    made = scorer(classifier, {"toxic": "male", "0": "female"})
    found = made.logits(["a man"])[0]
    assert 1 / (1 + np.exp(found[1] - found[0])) == pytest.approx(float(torch.sigmoid(own(classifier, "a man")[0])))


def test_texts_are_remembered_and_long_ones_lose_their_beginning(classifier: str, monkeypatch: pytest.MonkeyPatch):
    made = scorer(classifier, {"M": "male", "F": "female"})
    first = made.logits(["a man", "a woman", "a man"])
    monkeypatch.setattr(made._model, "forward", None)
    assert np.array_equal(made.logits(["a woman", "a man"]), first[[1, 0]])
    made = scorer(classifier, {"M": "male", "F": "female"})
    assert np.allclose(made.logits(["he " * 300 + "a man"]), made.logits(["she " * 3 + "he " * 200 + "a man"]))


def test_stored_scorer_is_the_same(classifier: str, tmp_path: Path):
    made = scorer(classifier, {"M": "male", "F": "female"})
    save_scorer(made, tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    assert isinstance(loaded, SequenceScorer)
    assert np.array_equal(loaded.logits(["a hero"]), made.logits(["a hero"]))
    options = {**made.record.options, "classifier": str(tmp_path / "absent")}
    with pytest.raises(BadInputError, match="cannot be opened"):
        SequenceScorer.from_tensors(replace(made.record, options=options), made.tensors())
    with pytest.raises(ArtefactError, match="parameters"):
        SequenceScorer.from_tensors(made.record, {"parameters": torch.tensor([3])})


@pytest.mark.parametrize("labels", [{"M": "male"}, {"M": "male", "X": "female"}, {"M": "male", "F": "girls"}])
def test_labels_that_do_not_fit_are_refused(classifier: str, labels: dict[str, str]):
    with pytest.raises(BadInputError, match="labels"):
        scorer(classifier, labels)


def test_uncalibrated_is_refused(classifier: str):
    made = SequenceScorer.from_model(classifier, attribute="gender", groups=GROUPS, labels={"M": "male", "F": "female"})
    with pytest.raises(ArtefactError, match="never fitted"):
        made.start(weights_for("t"), tokenizer_of("gemma"))
    assert isinstance(made.record, ScorerRecord)
