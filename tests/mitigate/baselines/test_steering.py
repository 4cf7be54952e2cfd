"""Steering: the projection in closed form, the direction by finite differences, on and off."""

import pytest
import torch
from PIL import Image

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.steering import (
    Directions,
    attribute_directions,
    decoder_layers,
    middle_third,
    project_out,
    steering,
)

TEXT = torch.tensor([[20, 21], [20, 21]])


def test_projection_by_hand():
    # r = (0.6, 0.8), h = (5, 10): r.h = 11. gamma 1: h - 11 r = (-1.6, 1.2). gamma 0.5: h - 5.5 r = (1.7, 5.6).
    h, r = torch.tensor([[[5.0, 10.0]]]), torch.tensor([[0.6, 0.8]])
    assert project_out(h, r, 1.0)[0, 0].tolist() == pytest.approx([-1.6, 1.2])
    assert project_out(h, r, 0.5)[0, 0].tolist() == pytest.approx([1.7, 5.6])
    assert torch.equal(project_out(h, r, 0.0), h)
    assert h.tolist() == [[[5, 10]]]


@pytest.mark.parametrize("strength", [0.25, 1.0, 1.5])
def test_the_component_is_scaled_and_the_rest_is_left(strength):
    draw = torch.Generator().manual_seed(0)
    h = torch.randn(3, 4, 16, generator=draw, dtype=torch.float64)
    r = torch.nn.functional.normalize(torch.randn(3, 16, generator=draw, dtype=torch.float64), dim=-1)
    out = project_out(h, r, strength)
    along = torch.einsum("rph,rh->rp", h, r)
    assert torch.allclose(torch.einsum("rph,rh->rp", out, r), (1 - strength) * along)
    rest = h - along[..., None] * r[:, None]
    assert torch.allclose(out - (1 - strength) * along[..., None] * r[:, None], rest)


def test_middle_third():
    assert [middle_third(count) for count in (1, 2, 3, 6, 12, 32)] == [
        (0,),
        (0, 1),
        (1,),
        (2, 3),
        (4, 5, 6, 7),
        tuple(range(10, 22)),
    ]


def test_directions_must_have_length_one():
    with pytest.raises(BadInputError, match="length"):
        Directions((0,), torch.ones(1, 1, 4))
    with pytest.raises(BadInputError, match="2 layers"):
        Directions((0, 1), torch.eye(4)[None, :1])


def test_a_row_needs_its_own_direction_or_one_for_all():
    h = torch.randn(4, 2, 8)
    one = torch.eye(8)[:1]
    assert torch.equal(project_out(h, one, 1.0), project_out(h, one.expand(4, -1), 1.0))
    with pytest.raises(BadInputError, match="2 directions for 4 rows"):
        project_out(h, torch.eye(8)[:2], 1.0)


def test_the_picture_is_stepped_where_the_text_becomes_less_likely(llava, question):
    # A tenth of a pixel level along +sign of the gradient: the text's cross-entropy rises in every row.
    def loss(pixels):
        ids = torch.cat([question["input_ids"], TEXT], dim=1)
        with torch.no_grad():
            logits = llava(input_ids=ids, pixel_values=pixels).logits[:, -3:-1].log_softmax(dim=-1)
        return -logits.gather(2, TEXT[..., None]).sum(dim=(1, 2))

    seen = []
    handle = llava.model.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args or tuple(kwargs.values()))[0]), with_kwargs=True
    )
    try:
        attribute_directions(llava, question, TEXT, step=0.001, image_std=(0.5, 0.25, 0.1))
    finally:
        handle.remove()
    moved = seen[-1] - question["pixel_values"]
    assert moved.abs().amax(dim=(0, 2, 3)).tolist() == pytest.approx([0.002, 0.004, 0.01], rel=1e-3)
    assert (loss(seen[-1]) > loss(question["pixel_values"])).all()


@torch.no_grad()
def test_directions_by_hand_from_hidden_states(llava, question):
    found = attribute_directions(llava, question, TEXT, step=0.05)
    assert found.layers == (2, 3)
    assert found.values.shape == (2, 2, 32)
    # The stepped picture is found again by its gradient; hidden state i + 1 leaves layer i.
    pixels = question["pixel_values"].clone().requires_grad_(True)
    labels = torch.cat([torch.full_like(question["input_ids"], -100), TEXT], dim=1)
    ids = torch.cat([question["input_ids"], TEXT], dim=1)
    with torch.enable_grad():
        llava(input_ids=ids, pixel_values=pixels, labels=labels).loss.backward()
    llava.zero_grad()
    states = [
        llava(**{**question, "pixel_values": one}, output_hidden_states=True).hidden_states
        for one in (question["pixel_values"], question["pixel_values"] + 0.05 * pixels.grad.sign())
    ]
    for i, layer in enumerate(found.layers):
        r = (states[0][layer + 1] - states[1][layer + 1]).mean(dim=1)
        assert torch.allclose(found.values[i], r / r.norm(dim=-1, keepdim=True), atol=1e-4)


@torch.no_grad()
def test_padding_is_not_averaged(llava, question):
    ids = question["input_ids"]
    padded = {
        "input_ids": torch.cat([torch.zeros(2, 2, dtype=torch.long), ids], dim=1),
        "attention_mask": torch.cat([torch.zeros(2, 2, dtype=torch.long), torch.ones_like(ids)], dim=1),
        "pixel_values": question["pixel_values"],
    }
    one, two = (
        attribute_directions(llava, question, TEXT, step=0.05),
        attribute_directions(llava, padded, TEXT, step=0.05),
    )
    assert torch.allclose(one.values, two.values, atol=1e-3)


@torch.no_grad()
def test_the_logits_change_and_off_is_bit_identical(llava, question):
    before = llava(**question).logits
    directions = attribute_directions(llava, question, TEXT)
    assert torch.equal(llava(**question).logits, before)
    with steering(llava, directions):
        inside = llava(**question).logits
    assert not torch.equal(inside[:, -1], before[:, -1])
    with steering(llava, directions, strength=0.0):
        assert torch.equal(llava(**question).logits, before)
    assert torch.equal(llava(**question).logits, before)


@torch.no_grad()
def test_inside_a_steered_layer_nothing_is_left_along_the_direction(llava, question):
    directions = attribute_directions(llava, question, TEXT)
    layers = decoder_layers(llava)
    with steering(llava, directions, strength=0.75):
        kept = []
        handle = layers[directions.layers[-1]].register_forward_hook(lambda _, __, out: kept.append(out))
        with_one = Directions(directions.layers[:1], directions.values[:1])
        llava(**question)
        handle.remove()
    # The last steered layer's own output without its hook, the earlier one steered: its component times 0.25.
    with steering(llava, with_one, strength=0.75):
        handle = layers[directions.layers[-1]].register_forward_hook(lambda _, __, out: kept.append(out))
        llava(**question)
        handle.remove()
    along = [torch.einsum("rph,rh->rp", out, directions.values[-1]) for out in kept]
    assert torch.allclose(along[0], 0.25 * along[1], atol=1e-5)


def test_generation_is_steered(llava, question):
    directions = attribute_directions(llava, question, TEXT)
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
    plain = llava.generate(**question, **options)
    with steering(llava, directions, strength=4.0):
        assert not torch.equal(llava.generate(**question, **options), plain)
    assert torch.equal(llava.generate(**question, **options), plain)


@torch.no_grad()
def test_a_captioner_is_steered_through_its_prefix(clipcap):
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ((250, 10, 10), (10, 10, 250))]
    prefix = clipcap.prefix(clipcap.encoder.encode(pictures)).clone()
    before = clipcap.lm(inputs_embeds=prefix).logits
    directions = attribute_directions(clipcap.lm, {"inputs_embeds": prefix}, torch.tensor([[4], [4]]), step=0.01)
    assert directions.layers == (0, 1)
    with steering(clipcap.lm, directions):
        assert not torch.equal(clipcap.lm(inputs_embeds=prefix).logits, before)
        clipcap.caption(pictures)
    assert torch.equal(clipcap.lm(inputs_embeds=prefix).logits, before)


@torch.no_grad()
def test_qwen_is_steered(tiny_qwen):
    model, inputs = tiny_qwen
    before = model(**inputs).logits
    directions = attribute_directions(model, inputs, TEXT[:1])
    with steering(model, directions):
        assert not torch.equal(model(**inputs).logits, before)
    assert torch.equal(model(**inputs).logits, before)
    with pytest.raises(BadInputError, match="one for all"):
        attribute_directions(model, inputs, TEXT[:1], image_std=(0.2, 0.3, 0.3))


def test_what_cannot_be_steered_is_refused(llava, question):
    with pytest.raises(BadInputError, match="pixel_values"):
        attribute_directions(llava, {"input_ids": torch.tensor([[1, 5]])}, TEXT[:1])
    with pytest.raises(BadInputError, match="moves no hidden state"):
        attribute_directions(llava, question, TEXT, step=0.0)
    with pytest.raises(BadInputError, match="the model has 6"), steering(llava, Directions((9,), torch.eye(32)[None])):
        pass
    with pytest.raises(BadInputError, match="nothing passed"), steering(llava, Directions((2,), torch.eye(32)[None])):
        pass
