"""The additive scorer: by hand, against scoring the decoded text, against scikit-learn, and its word table."""

from math import exp

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from text_material import MEASURED, weights_for
from transformers import PreTrainedTokenizerFast

from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.text.additive import AdditiveScorer, fit_additive
from evenhand.mitigate.ala.text.artefact import ScorerRecord
from evenhand.mitigate.ala.weights import tokenizer_hash
from evenhand.models.decode import text_of

RECORD = ScorerRecord("additive", "gender", ("male", "female"), None, None)
WORDS = ("man", "woman", "heroine", "his", "policewoman", "café")
WEIGHTS = torch.tensor([[2.0, -2.0], [-2.0, 2.0], [0.0, 1.0], [1.5, 0.0], [-1.0, 3.0], [0.1, 0.2]])
BIAS = torch.tensor([0.3, -0.3])


def scorer(*, decay: float = 1.0, report=MEASURED, record: ScorerRecord = RECORD) -> AdditiveScorer:
    made = AdditiveScorer(record, WORDS, WEIGHTS, BIAS, decay=decay)
    return made if report is None else made.with_report(report)


def test_logits_by_hand():
    # his man, twice man: 0.3 + 1.5 + 2 + 2 against -0.3 - 2 - 2.
    assert scorer().logits(["His man, a MAN!"])[0].tolist() == pytest.approx([5.8, -4.3])
    assert scorer().logits(["nothing of it"])[0].tolist() == pytest.approx([0.3, -0.3])


def test_shares_are_those_of_the_decoded_text(tokenizer: PreTrainedTokenizerFast):
    made = scorer()
    state = made.start(weights_for(tokenizer_hash(tokenizer)), tokenizer)
    texts = ["A man and his café", "the woman's heroine", " policewoman", "He met her", "3 men, a man"]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        for length in range(len(ids)):
            written, candidate = torch.tensor([ids[:length]]).long().reshape(1, -1), torch.tensor([[ids[length]]])
            said = made.logits([text_of(tokenizer, ids[: length + 1])])
            expected = softmax(said / MEASURED.temperature, axis=1)[0]
            assert state.shares(written, candidate)[0, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
            assert state.shares_of([ids[:length]], [ids[length]])[0] == pytest.approx(expected.tolist(), abs=1e-5)


def test_rows_and_candidates_in_any_order(tokenizer: PreTrainedTokenizerFast):
    state = scorer(decay=0.8).start(weights_for(tokenizer_hash(tokenizer)), tokenizer)
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(len(tokenizer), (9, 14), generator=random)
    candidates = torch.randint(len(tokenizer), (9, 4), generator=random)
    whole = state.shares(ids, candidates)
    order = torch.randperm(9, generator=random)
    assert torch.allclose(state.shares(ids[order], candidates[order]), whole[order], atol=1e-6)
    assert torch.allclose(state.shares(ids[2:3], candidates[2:3].flip(1)).flip(1), whole[2:3], atol=1e-6)


@pytest.mark.parametrize("decay", [1.0, 0.8])
@pytest.mark.parametrize("kept", [1 << 17, 40])
def test_token_by_token_is_all_at_once(tokenizer: PreTrainedTokenizerFast, monkeypatch, decay, kept):
    # Rows in any order, some left out for some steps.
    monkeypatch.setattr("evenhand.mitigate.ala.text.additive._KEPT", kept)
    state = scorer(decay=decay).start(weights_for(tokenizer_hash(tokenizer)), tokenizer)
    random = torch.Generator().manual_seed(0)
    words = torch.tensor(tokenizer.encode("man, woman hero his café policewoman", add_special_tokens=False))
    pool = torch.cat([torch.arange(len(tokenizer)), words.repeat(50)])
    ids = pool[torch.randint(len(pool), (9, 14), generator=random)]
    for length in range(13):
        rows = torch.randperm(9, generator=random)[: 1 + length % 9]
        written, candidates = ids[rows, :length], ids[rows, length : length + 1]
        found = torch.tensor(state.shares_of(written.tolist(), candidates[:, 0].tolist()))
        assert torch.allclose(found, state.shares(written, candidates)[:, 0], atol=1e-6)


def test_decay_by_hand():
    # WordPiece-free: one token per word. " man" three tokens old, " his" two: L0 = 0.3 + 0.125 * 2 + 0.25 * 1.5.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<unk>": 0, "▁man": 1, "▁his": 2, "▁x": 3, "a": 4, "▁a": 5}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")  # noqa: S106
    state = scorer(decay=0.5).start(weights_for(tokenizer_hash(words)), words)
    # A word ends where the next one begins, one token later: man two tokens old, his one, x the candidate.
    first = 0.3 + 0.25 * 2 + 0.5 * 1.5
    second = -0.3 + 0.25 * -2
    shares = state.shares(torch.tensor([[1, 2, 3]]), torch.tensor([[3]]))[0, 0]
    share = 1 / (1 + exp((second - first) / MEASURED.temperature))
    assert float(shares[0]) == pytest.approx(share, abs=1e-6)


def test_word_table_by_hand():
    # man: top 2, the other -2: 4. policewoman: 3 - -1 = 4, the largest. heroine: 1 of 4.
    table = scorer().word_table()
    assert table["man"] == (0, pytest.approx(1.0))
    assert table["policewoman"] == (1, pytest.approx(1.0))
    assert table["heroine"] == (1, pytest.approx(0.25))


def test_word_table_of_three_groups_by_hand():
    # (1, 4, 1): 4 - mean(1, 1) = 3; (0, 0, 6): 6.
    record = ScorerRecord("additive", "race", ("a", "b", "c"), None, None)
    made = AdditiveScorer(record, ("u", "v"), torch.tensor([[1.0, 4.0, 1.0], [0.0, 0.0, 6.0]]), torch.zeros(3))
    assert made.word_table() == {"u": (1, pytest.approx(0.5)), "v": (2, pytest.approx(1.0))}


@pytest.mark.parametrize("groups", [("male", "female"), ("a", "b", "c")])
def test_fit_is_logistic_regression_on_counts(groups: tuple[str, ...]):
    # Against scikit-learn's own word counting on texts of plain words.
    random = np.random.default_rng(0)
    vocabulary = np.array(["ax", "bo", "cy", "du", "en", "fa"])
    labels = random.integers(0, len(groups), 300)
    texts = [" ".join(random.choice(vocabulary, 6, p=np.roll([0.4, 0.2, 0.1, 0.1, 0.1, 0.1], k))) for k in labels]
    made = fit_additive(ScorerRecord("additive", "x", groups, None, None), texts, labels)
    counted = CountVectorizer().fit_transform(texts)
    model = LogisticRegression(max_iter=2000).fit(counted, labels)
    assert softmax(made.logits(texts), axis=1) == pytest.approx(model.predict_proba(counted), abs=2e-3)


def test_rare_words_are_left_out():
    texts = ["man"] * 5 + ["woman"] * 5 + ["unique"]
    made = fit_additive(RECORD, texts, np.array([0] * 5 + [1] * 6))
    assert set(made.word_table()) == {"man", "woman"}
    with pytest.raises(BadInputError, match="no word"):
        fit_additive(RECORD, ["a", "b"], np.array([0, 1]))


def test_untrained_other_groups_and_other_attribute_are_refused(tokenizer: PreTrainedTokenizerFast):
    weights = weights_for(tokenizer_hash(tokenizer))
    with pytest.raises(ArtefactError, match="never fitted"):
        scorer(report=None).start(weights, tokenizer)
    other = ScorerRecord("additive", "gender", ("female", "male"), None, None)
    with pytest.raises(BadInputError, match="female, male"):
        scorer(record=other).start(weights, tokenizer)
    bound = ScorerRecord("additive", "gender", ("male", "female"), "0" * 64, None)
    with pytest.raises(TokenizerMismatchError):
        scorer(record=bound).start(weights, tokenizer)


def test_decay_out_of_range_is_refused():
    with pytest.raises(BadInputError, match="decay"):
        scorer(decay=1.5)
