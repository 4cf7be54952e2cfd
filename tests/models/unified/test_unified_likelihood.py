"""Likelihoods against a loop by hand, slopes, and guidance by its formula."""

import pytest
import torch
from tiny_unified import CODES, LONG, SHORT, SIZE, made

from evenhand.errors import BadInputError
from evenhand.models.protocol import ComparingModel
from evenhand.models.unified import comparing, likelihood


def next_code_logits(model, kind, prefix, codes):
    """Scores of the next code, by the model's public parts, one row, no cache, no mask."""
    lm = model.model
    if kind == "janus":
        embedded = lm.get_input_embeddings()(torch.tensor([prefix]))
        if codes:
            drawn = lm.prepare_embeddings_for_image_generation(torch.tensor([codes]))
            embedded = torch.cat([embedded, drawn], dim=1)
        return lm.model.generation_head(lm.model.language_model(inputs_embeds=embedded).last_hidden_state[0, -1])
    tokenizer, ids = model.tokenizer, list(prefix)
    columns = SIZE[1] // 8
    visual = tokenizer.convert_tokens_to_ids([f"<|visual token {code:06d}|>" for code in range(CODES)])
    for i, code in enumerate(codes):
        ids.append(visual[code])
        if (i + 1) % columns == 0:
            ids.append(tokenizer.convert_tokens_to_ids("<|extra_200|>"))
    # As published: branches are log-probabilities over the whole vocabulary.
    return lm(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1)[visual]


def by_hand(model, kind, text, codes, guidance):
    """Log-probability of each code, step by step."""
    prefix, steps = model.family.prefix(text), []
    nothing = model.family.without_text(prefix)
    with torch.no_grad():
        for t, code in enumerate(codes):
            scores = next_code_logits(model, kind, prefix, codes[:t])
            if guidance != 1:
                other = next_code_logits(model, kind, nothing, codes[:t])
                scores = other + guidance * (scores - other)
            steps.append(scores.log_softmax(dim=-1)[code])
    return torch.stack(steps)


@pytest.mark.parametrize("guidance", [1.0, 0.5, 3.0, 0.0, -1.0])
def test_log_prob_is_the_hand_loop(model, kind, guidance):
    texts = [SHORT, LONG]
    codes = torch.randint(CODES, (2, model.code_shape[0] * model.code_shape[1]), generator=torch.manual_seed(1))
    found = model.log_prob(texts, codes, guidance=guidance)
    for text, row, own in zip(texts, codes.tolist(), found, strict=True):
        expected = by_hand(model, kind, text, row, guidance)
        torch.testing.assert_close(own.detach(), expected, atol=1e-4, rtol=1e-4)
        assert float(own.sum().detach()) == pytest.approx(float(expected.sum()), abs=1e-3)


def test_positions_in_parts_give_the_same_scores_and_gradients(model, monkeypatch):
    codes = model.generate([SHORT, LONG], seeds=[1, 2])
    weight = model.family.language_model.layers[0].self_attn.q_proj.weight

    def both():
        scores = model.log_prob([SHORT, LONG], codes)
        return scores.detach(), torch.autograd.grad(scores.sum(), weight)[0]

    whole, slope = both()
    monkeypatch.setattr(likelihood, "_POSITIONS", 2)
    parts, parts_slope = both()
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(parts_slope, slope)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob([SHORT, LONG], codes), whole)


def test_guidance_moves_the_logits_by_the_formula(model):
    codes = model.generate([SHORT, LONG], seeds=[1, 2])
    none, plain, half, five = (model.logits([SHORT, LONG], codes, guidance=w) for w in (0.0, 1.0, 0.5, 5.0))
    torch.testing.assert_close(half, (none + plain) / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(five, 5 * plain - 4 * none, atol=1e-3, rtol=1e-3)
    assert float((none - plain).detach().abs().max()) > 0.1


def test_gradients_reach_the_language_model(kind):
    model = made(kind)
    codes = model.generate([SHORT, LONG], seeds=[1, 2])
    model.model.train()
    first = model.log_prob([SHORT, LONG], codes, guidance=2.0)
    assert torch.equal(first, model.log_prob([SHORT, LONG], codes, guidance=2.0))  # no dropout while training
    first.sum().backward()
    for layer in model.family.language_model.layers:
        assert float(layer.self_attn.q_proj.weight.grad.abs().sum()) > 0
        assert float(layer.mlp.down_proj.weight.grad.abs().sum()) > 0


def test_the_gradient_is_the_slope(kind):
    model = made(kind)
    model.model.double()
    codes = model.generate([SHORT], seeds=[1])
    weight = model.family.language_model.layers[0].mlp.up_proj.weight
    (slope,) = torch.autograd.grad(model.log_prob([SHORT], codes, guidance=2.0).double().sum(), weight)
    with torch.no_grad():
        values = []
        for step in (1e-3, -1e-3):
            weight[0, 0] += step
            values.append(float(model.log_prob([SHORT], codes, guidance=2.0).double().sum()))
            weight[0, 0] -= step
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(float(slope[0, 0]), abs=2e-2)


def test_an_adapter_on_emu3s_head_counts(models):
    class Adapted(torch.nn.Module):  # what PEFT puts around a layer
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, hidden):
            return self.base(hidden) * 2

    model = made("emu3")
    codes = model.generate([SHORT], seeds=[1])
    plain = model.logits([SHORT], codes, guidance=1.0)
    model.model.lm_head = Adapted(model.model.lm_head)
    torch.testing.assert_close(model.logits([SHORT], codes, guidance=1.0), plain * 2)


TEXTS = [SHORT, LONG, "a woman and a cat"]


def _random_codes(model, pictures, *, seed=5):
    places = model.code_shape[0] * model.code_shape[1]
    return torch.randint(CODES, (pictures, places), generator=torch.manual_seed(seed))


@pytest.mark.parametrize("guidance", [1.0, 3.0, 0.0])
def test_every_picture_under_every_text_is_log_prob(model, guidance, monkeypatch):
    monkeypatch.setattr(comparing, "_ROWS", 7)
    codes = _random_codes(model, 5)
    found = model.log_probs_under(TEXTS, codes, guidance=guidance, batch_size=2)
    assert isinstance(model, ComparingModel)
    assert (found.shape, found.dtype) == ((5, 3, codes.shape[1]), torch.float32)
    with torch.no_grad():
        plain = [model.log_prob([text] * 5, codes, guidance=guidance) for text in TEXTS]
    torch.testing.assert_close(found, torch.stack(plain, dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.log_probs_under(TEXTS, codes, guidance=guidance, batch_size=5), found)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_text_is_read_once_and_logits_come_a_few_at_a_time(kind, guidance, monkeypatch):
    monkeypatch.setattr(comparing, "_ROWS", 8)
    model = made(kind)
    codes = _random_codes(model, 6)
    read, held = [], []
    model.family.language_model.register_forward_hook(
        lambda _module, _args, given, _out: read.append(given["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    whole = model.family.code_logits
    model.family.code_logits = lambda part: held.append(part.shape[:-1].numel()) or whole(part)
    prefixes = [model.family.prefix(text) for text in TEXTS]
    nothing = {model.family.without_text(prefix) for prefix in prefixes} if guidance != 1 else set()
    model.log_probs_under(TEXTS, codes, guidance=guidance, batch_size=4)
    assert sorted(tokens for rows, tokens in read if rows == 1) == sorted(len(one) - 1 for one in [*prefixes, *nothing])
    assert [rows for rows, _ in read].count(4) == [rows for rows, _ in read].count(2) == 3 + len(nothing)
    assert max(held) == 8
    model.mean_probabilities(SHORT, codes, guidance=guidance, batch_size=4)
    assert max(held) == 8


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_mean_probabilities_are_the_mean_of_softmax(model, guidance):
    codes = _random_codes(model, 5)
    found = model.mean_probabilities(LONG, codes, guidance=guidance, batch_size=2)
    with torch.no_grad():
        plain = model.logits([LONG] * 5, codes, guidance=guidance).softmax(dim=-1).mean(dim=0)
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=1e-4)
    some = model.mean_probabilities(LONG, codes, guidance=guidance, positions=slice(1, 4))
    torch.testing.assert_close(some, found[1:4])


def test_comparing_leaves_the_model_as_it_was(kind):
    model = made(kind)
    codes = _random_codes(model, 2)
    expected = model.log_probs_under([SHORT], codes)
    model.model.train()
    model.model.gradient_checkpointing_enable()
    assert torch.equal(model.log_probs_under([SHORT], codes), expected)
    assert model.model.training
    assert not expected.requires_grad


def test_nothing_to_compare_is_refused(model):
    codes = _random_codes(model, 2)
    with pytest.raises(BadInputError, match="texts: got none"):
        model.log_probs_under([], codes)
    with pytest.raises(BadInputError, match="batch_size"):
        model.log_probs_under([SHORT], codes, batch_size=0)
    with pytest.raises(BadInputError, match="guidance"):
        model.log_probs_under([SHORT], codes, guidance=float("nan"))
    with pytest.raises(BadInputError, match="whole numbers"):
        model.mean_probabilities(SHORT, codes + CODES)
