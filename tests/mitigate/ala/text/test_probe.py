"""The probe: its formula by hand, the states it is fitted on, and what it refuses."""

from math import exp, tanh

import numpy as np
import pytest
import torch
from text_material import MEASURED, weights_for

from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.text.artefact import ScorerRecord
from evenhand.mitigate.ala.text.probe import ProbeScorer, fit_probe, hidden_states

RECORD = ScorerRecord("probe", "gender", ("male", "female"), "t", MEASURED)
W, B = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.5, 0.0])


def tiny(family: str):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig
    from transformers import LlamaForCausalLM as Llama

    small = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if family == "llama":
            return Llama(LlamaConfig(**small)).eval()
        if family == "gemma":
            return Gemma3ForCausalLM(Gemma3TextConfig(**small, head_dim=8)).eval()
        return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)).eval()


def test_formula_by_hand():
    # h = (2, 1): logits (2.5, 2) / 1.6. Candidate 0 is listed for group 0, 1 for group 1, 9 for none; 3 nats each.
    state = ProbeScorer(RECORD, W, B, log_odds=3.0).start(weights_for("t"), None)  # type: ignore[arg-type]
    shares = state.shares(torch.tensor([[7]]), torch.tensor([[0, 1, 9]]), torch.tensor([[2.0, 1.0]]))[0]
    alpha = (shares[:, 0] - shares[:, 1]).tolist()
    base = (2.5 - 2) / 1.6
    assert alpha == pytest.approx([tanh((base + 3) / 2), tanh((base - 3) / 2), tanh(base / 2)], abs=1e-6)
    rows = state.shares_of([[7]] * 3, [0, 1, 9], torch.tensor([[2.0, 1.0]] * 3))
    assert [first - second for first, second in rows] == pytest.approx(alpha, abs=1e-6)


def test_three_groups_by_hand():
    record = ScorerRecord("probe", "gender", ("a", "b", "c"), "t", MEASURED)
    scorer = ProbeScorer(record, torch.zeros(3, 2), torch.zeros(3), log_odds=1.0)
    state = scorer.start(weights_for("t", groups=("a", "b", "c"), listed=3), None)  # type: ignore[arg-type]
    shares = state.shares(torch.empty(1, 0).long(), torch.tensor([[2]]), torch.zeros(1, 2))[0, 0]
    assert shares.tolist() == pytest.approx([1 / (2 + exp(1)), 1 / (2 + exp(1)), exp(1) / (2 + exp(1))])


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
def test_states_are_those_the_next_token_comes_from(family: str):
    # The vocabulary's product of the state is the logits of the model itself, each text run alone.
    lm = tiny(family)
    rows = [[1, 5, 9], [2], [3, 3, 8, 4, 4, 7], [6, 1]]
    states = hidden_states(lm, rows, batch_size=3)
    for row, state in zip(rows, states, strict=True):
        with torch.no_grad():
            logits = lm(torch.tensor([row])).logits[0, -1]
            product = lm.get_output_embeddings()(torch.from_numpy(state).float())
        assert torch.allclose(product, logits, atol=1e-4)


def test_fit_finds_a_planted_direction():
    # Only h_3 tells the groups apart; its scale and the others' do not matter.
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    hidden = random.normal(size=(400, 8)) * np.array([1, 50, 1, 1, 0.1, 1, 1, 1]) + 7
    hidden[:, 3] += 3 * (labels == 0)
    scorer = fit_probe(ScorerRecord("probe", "gender", ("male", "female"), "t", None), hidden[:300], labels[:300])
    assert (scorer.logits(hidden[300:]).argmax(axis=1) == labels[300:]).mean() > 0.85
    weight = scorer.tensors()["weight"]
    spread = weight[0] * torch.tensor(hidden[:300].std(axis=0)).float()
    assert int(spread.abs().argmax()) == 3
    assert float(weight[0, 3]) > 0 > float(weight[1, 3])


def test_three_groups_are_fitted():
    random = np.random.default_rng(1)
    labels = np.arange(300) % 3
    hidden = random.normal(size=(300, 4)) + 4 * np.eye(4)[labels]
    scorer = fit_probe(ScorerRecord("probe", "x", ("a", "b", "c"), "t", None), hidden, labels)
    assert (scorer.logits(hidden).argmax(axis=1) == labels).mean() > 0.95


def test_absent_states_and_other_models_are_refused():
    state = ProbeScorer(RECORD, W, B).start(weights_for("t"), None)  # type: ignore[arg-type]
    ids = torch.tensor([[1]])
    with pytest.raises(BadInputError, match="got none"):
        state.shares(ids, ids)
    with pytest.raises(BadInputError, match="width 3"):
        state.shares(ids, ids, torch.zeros(1, 3))
    with pytest.raises(TokenizerMismatchError):
        ProbeScorer(RECORD, W, B).start(weights_for("other"), None)  # type: ignore[arg-type]
    fresh = ScorerRecord("probe", "gender", ("male", "female"), "t", None)
    with pytest.raises(ArtefactError, match="never fitted"):
        ProbeScorer(fresh, W, B).start(weights_for("t"), None)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="log_odds"):
        ProbeScorer(RECORD, W, B, log_odds=-1)
    with pytest.raises(BadInputError, match="NaN"):
        fit_probe(RECORD, np.full((4, 2), np.nan), np.array([0, 1, 0, 1]))
