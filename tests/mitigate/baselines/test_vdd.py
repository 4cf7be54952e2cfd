"""VDD: two logits worked out by hand, every cached step against whole forward passes, both hosts."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.vdd import ContrastiveHook, ContrastRule, ReferencePass, contrast_logits
from evenhand.mitigate.baselines.vdd_references import (
    CaptionerContrast,
    contrastive_hook,
    with_noise,
    with_unknown,
    without_picture,
)
from evenhand.models.decode import decode_greedily
from evenhand.models.protocol import Intervention, LogitsHook

PICTURE = 98  # the tiny LLaVA's picture token
STEPS = 6


def test_contrast_by_hand():
    # z = (2, 1, -3), ref = (3, 0, -9), a = 1: 2 z - ref = (1, 2, 3).
    # b = 0.1: ln 0.1 = -2.303, so tokens below 2 - 2.303 = -0.303 are cut: the third, which the contrast alone prefers.
    z, ref = torch.tensor([[2.0, 1.0, -3.0]]), torch.tensor([[3.0, 0.0, -9.0]])
    assert contrast_logits(z, ref, strength=1, plausibility=0).tolist() == [[1, 2, 3]]
    assert contrast_logits(z, ref, strength=1, plausibility=0.1).tolist() == [[1, 2, -math.inf]]
    # a = 0.5: 1.5 z - 0.5 ref = (1.5, 1.5, 0).
    assert contrast_logits(z, ref, strength=0.5, plausibility=0).tolist() == [[1.5, 1.5, 0]]
    assert contrast_logits(z, ref, strength=1, plausibility=1).tolist() == [[1, -math.inf, -math.inf]]
    assert z.tolist() == [[2, 1, -3]]


def test_no_strength_and_no_cut_is_the_identity():
    z, ref = torch.randn(3, 50), torch.randn(3, 50)
    z[:, 4] = -torch.inf
    assert torch.equal(contrast_logits(z, ref, strength=0, plausibility=0), z)
    out = contrast_logits(z, ref, strength=2, plausibility=0)
    assert torch.equal(out == -torch.inf, z == -torch.inf)
    assert not out.isnan().any()


@pytest.mark.parametrize("change", [{"strength": -1}, {"strength": math.nan}, {"plausibility": 1.1}])
def test_rules_out_of_range_are_refused(change):
    with pytest.raises(BadInputError, match="allowed"):
        ContrastRule(**change)


@torch.no_grad()
def two_forwards(model, inputs, references, rule, steps=STEPS):
    """Without any cache: whole forward passes over prompt and answer at every step."""
    written = inputs["input_ids"][:, :0]

    def last(given):
        whole = {**given, "input_ids": torch.cat([given["input_ids"], written], dim=1)}
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        if "mm_token_type_ids" in given:
            extra = torch.zeros_like(written, dtype=torch.int)
            whole["mm_token_type_ids"] = torch.cat([given["mm_token_type_ids"], extra], dim=1)
        elif hasattr(model.model, "rope_deltas"):
            model.model.rope_deltas = None
        return model(**whole).logits[:, -1].double()

    for _ in range(steps):
        z = last(inputs)
        ref = sum(last(one) for one in references) / len(references)
        moved = (1 + rule.strength) * z - rule.strength * ref
        moved[z < z.max(dim=1, keepdim=True).values + math.log(rule.plausibility)] = -math.inf
        written = torch.cat([written, moved.argmax(dim=1, keepdim=True)], dim=1)
    return written


@pytest.mark.parametrize("reference", ["none", "unknown", "both", "noise"])
def test_generate_says_what_whole_forward_passes_say(reference, llava, question):
    rule = ContrastRule(strength=1.0, plausibility=0.1)
    none = without_picture(question, picture_token=PICTURE)
    unknown = with_unknown(question, picture_token=PICTURE)
    noise = with_noise(question, seed=4)
    by_hand = {"none": [none], "unknown": [unknown], "both": [none, unknown], "noise": [noise]}[reference]
    hook = contrastive_hook(llava, question, seed=4, reference=reference, rule=rule)
    options = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
    ids = llava.generate(**question, **options, logits_processor=[hook])
    plain = llava.generate(**question, **options)
    width = question["input_ids"].shape[1]
    assert torch.equal(ids[:, width:], two_forwards(llava, question, by_hand, rule))
    assert not torch.equal(ids, plain)


@pytest.mark.parametrize("reference", ["none", "noise"])
def test_qwen_keeps_two_sets_of_positions(reference, tiny_qwen):
    model, inputs = tiny_qwen
    rule = ContrastRule()
    by_hand = without_picture(inputs, picture_token=50) if reference == "none" else with_noise(inputs, seed=1)
    hook = contrastive_hook(model, inputs, seed=1, reference=reference, rule=rule)
    options = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS}
    ids = model.generate(**inputs, **options, logits_processor=[hook])
    assert torch.equal(ids[:, inputs["input_ids"].shape[1] :], two_forwards(model, inputs, [by_hand], rule))


@torch.no_grad()
def test_a_row_padded_on_the_left_is_as_if_alone(llava, question):
    short = {"input_ids": question["input_ids"][:1, :-1], "pixel_values": question["pixel_values"][:1]}
    padded = torch.tensor([[0, *short["input_ids"][0].tolist()], question["input_ids"][1].tolist()])
    batch = {**question, "input_ids": padded, "attention_mask": (padded != 0).long()}
    alone = ReferencePass(llava, without_picture(short, picture_token=PICTURE))
    both = ReferencePass(llava, without_picture(batch, picture_token=PICTURE))
    assert torch.allclose(alone.logits(None)[0], both.logits(None)[0], atol=1e-5)
    one, two = alone.logits(torch.tensor([7])), both.logits(torch.tensor([7, 9]))
    assert torch.allclose(one[0], two[0], atol=1e-5)


def test_references_by_hand():
    ids = torch.tensor([[1, 98, 98, 5], [98, 98, 6, 7]])
    inputs = {"input_ids": ids, "pixel_values": torch.zeros(2, 3, 4, 4)}
    assert without_picture(inputs, picture_token=98)["input_ids"].tolist() == [[1, 5], [6, 7]]
    assert with_unknown(inputs, picture_token=98)["input_ids"].tolist() == [[1, 0, 0, 5], [0, 0, 6, 7]]
    one, same, other = (with_noise(inputs, seed=seed)["pixel_values"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert inputs["pixel_values"].abs().max() == 0


def test_inputs_without_a_picture_are_refused(llava):
    words = {"input_ids": torch.tensor([[1, 5]])}
    for reference in ("none", "unknown", "both", "noise"):
        with pytest.raises(BadInputError, match=r"picture token|pixel_values"):
            contrastive_hook(llava, words, seed=0, reference=reference)
    uneven = {"input_ids": torch.tensor([[1, 98, 98], [1, 98, 5]])}
    with pytest.raises(BadInputError, match="same number"):
        without_picture(uneven, picture_token=98)


def test_reordered_rows_are_refused(llava, question):
    hook = contrastive_hook(llava, question, seed=0, reference="none")
    ids = question["input_ids"]
    hook(ids, torch.zeros(2, 99))
    with pytest.raises(BadInputError, match="num_beams"):
        hook(torch.cat([ids.flip(0), torch.zeros(2, 1, dtype=torch.long)], dim=1), torch.zeros(2, 99))
    with pytest.raises(BadInputError, match="num_beams"):
        hook(ids, torch.zeros(2, 99))


@pytest.mark.parametrize("reference", ["none", "zero", "noise"])
def test_a_captioner_is_contrasted_step_by_step(reference, clipcap):
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ((250, 10, 10), (10, 10, 250), (90, 200, 30))]
    rule = ContrastRule(strength=2.0, plausibility=0.05)
    contrast = CaptionerContrast(clipcap, seed=3, reference=reference, rule=rule)
    assert isinstance(contrast, Intervention)
    prefix = clipcap.prefix(clipcap.encoder.encode(pictures))
    hook = contrast.start([lambda: None] * 3, clipcap.tokenizer)
    assert isinstance(hook, LogitsHook)
    ids = decode_greedily(clipcap.lm, prefix, stop_ids=frozenset({1}), max_new_tokens=STEPS, hook=hook)
    # By hand, one row at a time, no cache.
    if reference == "none":
        shown = prefix[:1, :1]
    elif reference == "zero":
        shown = clipcap.prefix(torch.zeros(1, 9))
    else:
        shown = contrast._prefix()
        assert shown.shape == prefix[:1].shape
    table = clipcap.lm.get_input_embeddings()
    for row, found in enumerate(ids):
        written = torch.empty(1, 0, dtype=torch.long)
        for token in found:
            said = table(written)
            z = clipcap.lm(inputs_embeds=torch.cat([prefix[row : row + 1], said], dim=1)).logits[:, -1]
            ref = clipcap.lm(inputs_embeds=torch.cat([shown, said], dim=1)).logits[:, -1]
            moved = 3 * z - 2 * ref
            moved[z < z.max() + math.log(0.05)] = -math.inf
            assert int(moved.argmax()) == token
            written = torch.cat([written, torch.tensor([[token]])], dim=1)


def test_a_captioner_answers_with_it(clipcap):
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ((250, 10, 10), (10, 10, 250))]
    strong = CaptionerContrast(clipcap, seed=3, rule=ContrastRule(strength=4.0, plausibility=0.0))
    made = clipcap.caption(pictures, intervention=strong)
    assert [answer.text for answer in made] != [answer.text for answer in clipcap.caption(pictures)]
    assert strong.settings == {"reference": "noise", "seed": 3, "strength": 4.0, "plausibility": 0.0}


def test_a_hook_says_where_the_choice_changed():
    # Row 0: z = (2, 1), ref = (9, 0): 2z - ref = (-5, 2): token 1 instead of 0. Row 1: ref = (0, 9): token 0 stays.
    class Model(torch.nn.Module):
        def forward(self, **_):
            return SimpleNamespace(logits=torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]]), past_key_values=None)

    reference = ReferencePass(Model(), {"input_ids": torch.tensor([[1], [1]])})
    hook = ContrastiveHook([reference], ContrastRule(plausibility=0.0))
    assert hook.drafted() is None
    hook(torch.empty(2, 0, dtype=torch.long), torch.tensor([[2.0, 1.0], [2.0, 1.0]]))
    assert hook.drafted().tolist() == [0, -1]
    assert hook.claims() == (None, None)
    assert hook.edits([[1], [0]]) == hook.passed([[1], [0]]) == ((), ())


def test_beams_and_several_rows_a_picture_are_refused(clipcap):
    contrast = CaptionerContrast(clipcap, seed=0)
    with pytest.raises(BadInputError, match="greedy"):
        contrast.start([lambda: None], clipcap.tokenizer, decoding="beams")
    with pytest.raises(BadInputError, match="greedy"):
        contrast.start([lambda: None], clipcap.tokenizer, owners=[0, 0])
    with pytest.raises(BadInputError, match="no text"):
        contrast.start([lambda: None], clipcap.tokenizer, asked=["Describe."])
    with pytest.raises(BadInputError, match="references"):
        ContrastiveHook([], ContrastRule())
