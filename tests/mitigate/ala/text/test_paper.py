"""The paper's classifier: its layers, its alpha, the window, embeddings, and training on a rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from text_material import MEASURED, weights_for

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, load_scorer, save_scorer
from evenhand.mitigate.ala.text.paper import WINDOW, PaperNetwork, PaperScorer, fit_paper, paper_logits
from evenhand.mitigate.ala.text.training import Schedule, train_network

RECORD = ScorerRecord("paper", "gender", ("male", "female"), "t", MEASURED)


@pytest.fixture(scope="module")
def network() -> PaperNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = PaperNetwork(40, 2).eval()
        made.head.bias.data += torch.tensor([0.4, -0.2])
        return made


def by_hand(network: PaperNetwork, ids: list[int]) -> torch.Tensor:
    """The same network written out: two post-norm encoder layers of 4 heads, without masks or batches."""
    weight = {name: tensor.double() for name, tensor in network.state_dict().items()}
    x = weight["token.weight"][ids] + weight["position.weight"][: len(ids)]
    for layer in ("encoder.layers.0.", "encoder.layers.1."):
        part = {name.removeprefix(layer): t for name, t in weight.items() if name.startswith(layer)}
        q, k, v = (x @ part["self_attn.in_proj_weight"].T + part["self_attn.in_proj_bias"]).split(128, dim=-1)
        heads = []
        for h in range(4):
            one = slice(32 * h, 32 * h + 32)
            heads.append(torch.softmax(q[:, one] @ k[:, one].T / 32**0.5, dim=-1) @ v[:, one])
        mixed = torch.cat(heads, dim=-1) @ part["self_attn.out_proj.weight"].T + part["self_attn.out_proj.bias"]
        x = torch.nn.functional.layer_norm(x + mixed, (128,), part["norm1.weight"], part["norm1.bias"])
        inner = torch.relu(x @ part["linear1.weight"].T + part["linear1.bias"])
        x = x + inner @ part["linear2.weight"].T + part["linear2.bias"]
        x = torch.nn.functional.layer_norm(x, (128,), part["norm2.weight"], part["norm2.bias"])
    return x.mean(dim=0) @ weight["head.weight"].T + weight["head.bias"]


def test_layers_are_those_of_the_release(network: PaperNetwork):
    # 40 x 128 + 128 x 128 embeddings; per layer attention 4 x 128 x 128 + 4 x 128, feed-forward 2 x 128 x 2048 +
    # 2048 + 128, two norms of 256; head 2 x 128 + 2.
    layer = 4 * 128 * 128 + 4 * 128 + 2 * 128 * 2048 + 2048 + 128 + 2 * 256
    assert sum(p.numel() for p in network.parameters()) == (40 + 128) * 128 + 2 * layer + 258


def test_logits_are_those_written_out(network: PaperNetwork):
    ids = [3, 7, 7, 1, 39]
    # The same text, padded among others.
    padded, mask = torch.tensor([[*ids, 0, 0], list(range(7))]), torch.tensor([[1] * 5 + [0] * 2, [1] * 7]).bool()
    with torch.no_grad():
        found = network(padded, mask)[0]
    assert found.tolist() == pytest.approx(by_hand(network, ids).tolist(), abs=1e-4)


def test_alpha_of_the_candidate(network: PaperNetwork):
    state = PaperScorer(RECORD, network).start(weights_for("t"), None)  # type: ignore[arg-type]
    logits = by_hand(network, [5, 6, 9])
    expected = torch.tanh((logits[0] - logits[1]) / (2 * MEASURED.temperature))
    shares = state.shares(torch.tensor([[5, 6]]), torch.tensor([[8, 9]]))
    assert float(shares[0, 1, 0] - shares[0, 1, 1]) == pytest.approx(float(expected), abs=1e-4)


def test_paper_switch_is_the_releases_alpha(network: PaperNetwork):
    state = PaperScorer(RECORD, network, paper=True).start(weights_for("t"), None)  # type: ignore[arg-type]
    logits = by_hand(network, [5, 6, 9])
    shares = state.shares(torch.tensor([[5, 6]]), torch.tensor([[9]]))[0, 0]
    assert float(shares[0] - shares[1]) == pytest.approx(float(2 * torch.sigmoid(logits[0]) - 1), abs=1e-4)


def test_window(network: PaperNetwork):
    weights = weights_for("t")
    last = PaperScorer(RECORD, network).start(weights, None)  # type: ignore[arg-type]
    first = PaperScorer(RECORD, network, paper=True).start(weights, None)  # type: ignore[arg-type]
    ids = torch.randint(40, (2, WINDOW + 20), generator=torch.Generator().manual_seed(0))
    candidate = torch.tensor([[1, 2], [3, 4]])
    # Our window is the end of the text: what lies before it does not matter, the candidate does.
    assert torch.allclose(last.shares(ids, candidate), last.shares(ids[:, -(WINDOW - 1) :], candidate), atol=1e-6)
    assert not torch.allclose(last.shares(ids, candidate)[:, 0], last.shares(ids, candidate)[:, 1])
    # The release's is its beginning: the candidate is not even seen.
    assert torch.equal(first.shares(ids, candidate)[:, 0], first.shares(ids, candidate)[:, 1])


def test_ids_beyond_the_vocabulary_read_as_the_last(network: PaperNetwork):
    state = PaperScorer(RECORD, network).start(weights_for("t"), None)  # type: ignore[arg-type]
    written = torch.tensor([[1, 2]])
    assert torch.equal(state.shares(written, torch.tensor([[39]])), state.shares(written, torch.tensor([[400]])))


def test_embeddings_have_gradients_and_give_the_same_logits(network: PaperNetwork):
    scorer = PaperScorer(RECORD, network)
    ids = torch.tensor([[4, 5, 6]])
    embeddings = scorer.embed(ids).detach().requires_grad_()
    logits = scorer.logits_from_embeddings(embeddings)
    assert logits[0].tolist() == pytest.approx(by_hand(network, [4, 5, 6]).tolist(), abs=1e-4)
    logits[0, 0].backward()
    assert embeddings.grad is not None
    assert float(embeddings.grad.abs().sum()) > 0


def test_stored_scorer_is_the_same(network: PaperNetwork, tmp_path: Path):
    scorer = PaperScorer(RECORD, network)
    save_scorer(scorer, tmp_path / "s")
    loaded = load_scorer(tmp_path / "s")
    assert isinstance(loaded, PaperScorer)
    assert loaded.settings == scorer.settings
    written, candidates = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5]])
    states = [made.start(weights_for("t"), None).shares(written, candidates) for made in (scorer, loaded)]  # type: ignore[arg-type]
    assert torch.equal(*states)
    assert PaperScorer.from_pretrained(tmp_path / "s", paper=True).settings["paper"] is True


def test_untrained_is_refused(network: PaperNetwork):
    fresh = ScorerRecord("paper", "gender", ("male", "female"), "t", None)
    with pytest.raises(ArtefactError, match="never fitted"):
        PaperScorer(fresh, network).start(weights_for("t"), None)  # type: ignore[arg-type]


def test_paper_switch_needs_two_groups():
    with pytest.raises(BadInputError, match="two groups"):
        PaperScorer(ScorerRecord("paper", "r", ("a", "b", "c"), "t", MEASURED), PaperNetwork(5, 3), paper=True)


def test_it_learns_a_rule_and_the_seed_decides():
    # Token 1 says group 0, token 2 group 1; the others say nothing.
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 140)
    rows = [[*random.integers(3, 30, 5).tolist(), 1 + int(k), *random.integers(3, 30, 3).tolist()] for k in labels]
    seen: list[tuple[int, int]] = []
    made = fit_paper(RECORD, rows[:100], labels[:100], vocabulary=30, schedule=Schedule(5, 1e-3, 16), seed=0,
                     progress=lambda done, wanted: seen.append((done, wanted)))  # fmt: skip
    assert (paper_logits(made, rows[100:]).argmax(axis=1) == labels[100:]).mean() > 0.9
    assert seen[-1] == (500, 500)
    brief = Schedule(1, 1e-3, 16)
    twice = [fit_paper(RECORD, rows[:16], labels[:16], vocabulary=30, schedule=brief, seed=s) for s in (0, 0, 1)]
    assert twice[0].settings["sha256"] == twice[1].settings["sha256"] != twice[2].settings["sha256"]


def test_leaving_out_unused_rows_changes_nothing():
    # Trained with every row of the vocabulary in the network, as the release does.
    random = np.random.default_rng(1)
    rows, labels = [random.integers(0, 9, 6).tolist() for _ in range(40)], random.integers(0, 2, 40)
    schedule = Schedule(2, 1e-2, 8)
    made = fit_paper(RECORD, rows, labels, vocabulary=12, schedule=schedule, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        dense = PaperNetwork(12, 2)
    loss = torch.nn.functional.cross_entropy
    train_network(dense, lambda ids, mask, y: loss(dense(ids, mask), y), rows, labels, schedule=schedule, seed=3)
    for name, tensor in dense.state_dict().items():
        assert torch.allclose(made.tensors()[name], tensor, atol=2e-4), name
    assert float(made.tensors()["token.weight"][9:].abs().min()) > 0
