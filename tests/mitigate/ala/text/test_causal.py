"""The causal scorer: its steps against PyTorch's GRU, kept states under reordering, size, training on a rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from text_material import MEASURED, weights_for

from evenhand.errors import ArtefactError, TokenizerMismatchError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, load_scorer, save_scorer
from evenhand.mitigate.ala.text.causal import CausalNetwork, CausalScorer, causal_logits, fit_causal
from evenhand.mitigate.ala.text.training import Schedule

RECORD = ScorerRecord("causal", "gender", ("male", "female"), "t", MEASURED)
KNOWN = torch.tensor([2, 3, 5, 8, 13, 21])


@pytest.fixture(scope="module")
def scorer() -> CausalScorer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CausalNetwork(KNOWN, 2)
        for parameter in network.parameters():
            parameter.data.mul_(3)
        return CausalScorer(RECORD, network)


def from_scratch(scorer: CausalScorer, texts: torch.Tensor) -> torch.Tensor:
    """Shares of whole texts through ``nn.GRU`` and its own outputs' maximum."""
    network = scorer._network
    place = torch.tensor([[KNOWN.tolist().index(i) + 1 if i in KNOWN else 0 for i in row] for row in texts.tolist()])
    with torch.no_grad():
        outputs, _ = network.gru(network.token(place))
        both = torch.cat([outputs[:, -1], outputs.amax(dim=1)], dim=-1)
        logits = both @ network.head.weight.T + network.head.bias
    return torch.softmax(logits / MEASURED.temperature, dim=-1)


def check(scorer: CausalScorer, state, written: torch.Tensor, candidates: torch.Tensor) -> None:
    shares = state.shares(written, candidates)
    for column in range(candidates.shape[1]):
        expected = from_scratch(scorer, torch.cat([written, candidates[:, column : column + 1]], dim=1))
        assert torch.allclose(shares[:, column], expected, atol=1e-5)


def test_kept_states_are_those_from_scratch_under_random_reorders(scorer: CausalScorer):
    state = scorer.start(weights_for("t"), None)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    written = torch.empty(4, 0, dtype=torch.int64)
    for step in range(30):
        check(scorer, state, written, torch.randint(25, (len(written), 3), generator=random))
        rows = torch.randint(len(written), (4 + step % 3,), generator=random)
        written = torch.cat([written[rows], torch.randint(25, (len(rows), 1 + step % 2), generator=random)], dim=1)
    assert state.prefixes.steps <= written.shape[1]  # a step a token, and no row was ever read again


def test_a_rejected_draft_and_other_rows(scorer: CausalScorer):
    state = scorer.start(weights_for("t"), None)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(1)
    written = torch.randint(25, (3, 6), generator=random)
    candidates = torch.randint(25, (3, 2), generator=random)
    check(scorer, state, written, candidates)
    check(scorer, state, written[:, :4], candidates)
    check(scorer, state, torch.randint(25, (3, 9), generator=random), candidates)
    check(scorer, state, written[1:2], candidates[1:2])


def test_stored_in_half_precision_and_small(tmp_path: Path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = CausalNetwork(torch.arange(6000), 2)
        for parameter in network.parameters():
            parameter.data.copy_(parameter.half().float())
    scorer = CausalScorer(RECORD, network)
    save_scorer(scorer, tmp_path / "s")
    assert (tmp_path / "s" / "scorer.safetensors").stat().st_size < 2_000_000
    loaded = load_scorer(tmp_path / "s")
    assert isinstance(loaded, CausalScorer)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(
        loaded.logits_from_embeddings(loaded.embed(ids)), scorer.logits_from_embeddings(scorer.embed(ids))
    )


def test_embeddings_have_gradients(scorer: CausalScorer):
    embeddings = scorer.embed(torch.tensor([[2, 3, 4]])).detach().requires_grad_()
    scorer.logits_from_embeddings(embeddings)[0, 1].backward()
    assert embeddings.grad is not None
    assert bool((embeddings.grad.abs().sum(dim=-1) > 0).all())


def test_other_tokenizer_and_untrained_are_refused(scorer: CausalScorer):
    with pytest.raises(TokenizerMismatchError):
        scorer.start(weights_for("other"), None)  # type: ignore[arg-type]
    fresh = ScorerRecord("causal", "gender", ("male", "female"), "t", None)
    with pytest.raises(ArtefactError, match="never fitted"):
        CausalScorer(fresh, scorer._network).start(weights_for("t"), None)  # type: ignore[arg-type]


def test_ids_that_do_not_ascend_are_refused(scorer: CausalScorer):
    tensors = scorer.tensors()
    with pytest.raises(ArtefactError, match="ascending"):
        CausalScorer.from_tensors(RECORD, {**tensors, "token_ids": tensors["token_ids"].flip(0)})


def test_it_learns_a_rule_and_the_seed_decides():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    rows = [[*random.integers(3, 30, 4).tolist(), 1 + int(k), *random.integers(3, 30, 3).tolist()] for k in labels]
    made = [fit_causal(RECORD, rows[:240], labels[:240], schedule=Schedule(6, 5e-3, 16), seed=s) for s in (0, 0, 1)]
    logits = causal_logits(made[0], rows[240:])
    assert (logits.argmax(axis=1) == labels[240:]).mean() > 0.9
    assert made[0].settings["sha256"] == made[1].settings["sha256"] != made[2].settings["sha256"]
    # Rare tokens share the unknown one's row.
    assert made[0].record.options["tokens"] <= 30


def test_measured_is_what_is_stored():
    rows, labels = [[1, 2, 3], [2, 3, 1]] * 4, np.array([0, 1] * 4)
    made = fit_causal(RECORD, rows, labels, schedule=Schedule(1, 1e-2, 4), seed=0)
    again = CausalScorer.from_tensors(made.record, made.tensors())
    assert np.array_equal(causal_logits(made, rows), causal_logits(again, rows))
