"""Drawing between prompts: mixed logits are the formula's, and what has no weight costs nothing."""

import pytest
import torch
from tiny_unified import CODES, LONG, SEEDS, SEVEN, SHORT, made

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.sampling import BalancedModel
from evenhand.models.unified.codes import RowDraws, mixed
from evenhand.records import Prompt

AUGMENTED = "a photo of the face of a man, a person in a black suit"
NEUTRAL = Prompt("person/neutral", "occupations", LONG, None)


def one_mixed(model, strength, seed):
    """Codes drawn from LONG toward AUGMENTED."""
    (sample,) = model.draw_mixed([NEUTRAL], [(AUGMENTED, LONG)], weights=(strength, 1 - strength), seeds=[seed])
    return torch.tensor([sample.codes])


def rows_fed(model, call):
    """Rows of every step of the language model, prefixes apart."""
    rows = []
    handle = model.family.language_model.register_forward_pre_hook(
        lambda module, args, given: rows.append(tuple(given["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    try:
        call()
    finally:
        handle.remove()
    return {count for count, tokens in rows if tokens <= 2}


def test_mixing_by_hand():
    # b + .5 (x - b) + 2 (y - b), of b = 1, x = 3, y = 0: 1 + 1 - 2 = 0.
    read = torch.tensor([[3.0], [0.0], [1.0]])
    assert mixed(read, (0.5, 2.0)).item() == 0.0
    assert mixed(read, (0.0, 0.0)).item() == 1.0
    # A weight of 1 alone is that branch; what is added to a branch's every logit is added as often as it weighs.
    assert mixed(read, (1.0, 0.0)).item() == 3.0


@pytest.mark.parametrize("guidance", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("strength", [0.5, 6.0])
def test_what_is_drawn_from_is_the_formula(kind, guidance, strength, monkeypatch):
    model, used = made(kind, guidance=guidance), []
    head = model.family.code_logits
    monkeypatch.setattr(model.family, "code_logits", lambda read: used.append(head(read)) or used[-1])
    codes = one_mixed(model, strength, seed=3)
    monkeypatch.undo()
    with torch.no_grad():  # every branch alone, after the fact, by the scoring path
        n, a = (model.logits([text], codes, guidance=1.0)[0] for text in (LONG, AUGMENTED))
        u = model.logits([LONG], codes, guidance=0.0)[0]
    logits = u + guidance * (n + strength * (a - n) - u)
    assert torch.allclose(torch.cat(used), logits, atol=1e-4)
    for end in (u + guidance * (n - u), u + guidance * (a - u)):  # neither the neutral prompt's nor the sentence's
        assert float((logits - end).abs().max()) > 0.01
    draws = RowDraws([3], CODES)
    assert [int(draws.next((row - row.max())[None])) for row in logits] == codes[0].tolist()


def test_greedy_codes_are_the_formulas_best(kind):
    model = made(kind, guidance=3.0, temperature=0.0)
    codes = one_mixed(model, 0.6, seed=0)
    with torch.no_grad():
        n, a = (model.logits([text], codes, guidance=1.0)[0] for text in (LONG, AUGMENTED))
        u = model.logits([LONG], codes, guidance=0.0)[0]
    assert torch.equal((u + 3.0 * (n + 0.6 * (a - n) - u)).argmax(dim=-1), codes[0])


def test_one_text_alone_is_draw(model):
    prompts = [Prompt(str(i), "p", text, None) for i, text in enumerate(SEVEN)]
    alone = model.draw_mixed(prompts, [(text,) for text in SEVEN], weights=(1.0,), seeds=SEEDS)
    assert alone == model.draw(prompts, seeds=SEEDS)
    assert torch.equal(torch.tensor([one.codes for one in alone]), model.generate(SEVEN, seeds=SEEDS))


def test_seven_together_are_seven_alone(model):
    prompts = [Prompt(str(i), "p", "", None) for i in range(7)]
    texts = [(text, other) for text, other in zip(SEVEN, SEVEN[::-1], strict=True)]
    together = model.draw_mixed(prompts, texts, weights=(0.4, 0.6), seeds=SEEDS)
    for i in range(7):
        (alone,) = model.draw_mixed([prompts[i]], [texts[i]], weights=(0.4, 0.6), seeds=[SEEDS[i]])
        assert alone == together[i]


@pytest.mark.parametrize(
    ("guidance", "strength", "rows"), [(1.0, 1.0, 2), (1.0, 0.5, 4), (5.0, 0.0, 4), (5.0, 1.0, 4), (5.0, 0.5, 6)]
)
def test_a_picture_takes_a_row_a_branch(kind, guidance, strength, rows):
    model = made(kind, guidance=guidance)
    facts = {"occupation": "nurse", "template": "a photo of the face of a {occupation}, a person", "asked": "neutral"}
    prompts = [Prompt("nurse/neutral", "occupations", LONG, None, facts)] * 2
    balanced = BalancedModel(model, load_attribute("gender"), strength=strength)
    assert rows_fed(model, lambda: balanced.draw(prompts, seeds=[1, 2])) == {rows}


def test_balanced_at_0_and_at_1_is_the_model_bit_for_bit(model):
    template = "a photo of the face of a {occupation}, a person"
    facts = {"occupation": "nurse", "template": template, "asked": "neutral"}
    prompts = [Prompt("nurse/neutral", "occupations", template.format(occupation="nurse"), None, facts)] * 3
    untouched, sentence = (BalancedModel(model, load_attribute("gender"), strength=s) for s in (0, 1))
    assert untouched.draw(prompts, seeds=[1, 2, 3]) == model.draw(prompts, seeds=[1, 2, 3])
    for seed, sample in zip([1, 2, 3], sentence.draw(prompts, seeds=[1, 2, 3]), strict=True):
        (alone,) = model.draw([Prompt("nurse/neutral", "p", sample.text, None)], seeds=[seed])
        assert (alone.image, alone.codes) == (sample.image, sample.codes)


def test_one_bad_text_does_not_lose_the_batch(model):
    prompts = [Prompt(str(i), "p", "", None) for i in range(2)]
    forbidden = f"a {model.processor.image_token}"
    drawn = model.draw_mixed(prompts, [(SHORT, LONG), (forbidden, LONG)], weights=(0.5, 0.5), seeds=[1, 2])
    assert [one.error is None for one in drawn] == [True, False]


@pytest.mark.parametrize(
    ("texts", "weights", "message"),
    [
        ([(SHORT, LONG)], (0.5, 0.6), "sum 1"),
        ([(SHORT, LONG)], (float("nan"), 1.0), "sum 1"),
        ([(SHORT, LONG)], (float("inf"), float("-inf")), "sum 1"),
        ([(SHORT,)], (0.5, 0.5), "one a weight"),
        ([()], (), "sum 1"),
        ([], (1.0,), "texts: got 0"),
    ],
)
def test_bad_mixtures(models, texts, weights, message):
    with pytest.raises(BadInputError, match=message):
        models["janus"].draw_mixed([NEUTRAL], texts, weights=weights, seeds=[1])
