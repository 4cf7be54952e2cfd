"""The lean pass gives what the plain one gives, in values and gradients, in every way it can be asked to be lean."""

import pytest
import torch
from tiny_unified import LONG, SHORT, made

from evenhand.mitigate.bpo.adapters import lora_config, trained_network
from evenhand.models.unified import tuple_pass
from evenhand.models.unified.likelihood import code_log_probs
from evenhand.models.unified.tuple_pass import tuple_log_probs

WAYS = {
    "shared": {},
    "one at a time": {"one_at_a_time": True},
    "read with each": {"share_prefix": False},
    "both": {"one_at_a_time": True, "share_prefix": False},
}
PROMPTS = {"one length": (LONG, LONG), "two lengths": (SHORT, LONG)}


def given(model, texts, *, pictures=3):
    positions = model.code_shape[0] * model.code_shape[1]
    drawn = torch.Generator().manual_seed(0)
    codes = torch.randint(0, model.codebook_size, (len(texts), pictures, positions), generator=drawn)
    return [model.family.prefix(text) for text in texts], codes


def plain(model, prefixes, codes, *, guidance=1):
    """Each picture by itself: a pass of one row, nothing padded, nothing shared."""
    rows = [
        code_log_probs(model.family, [prefix], picture[None], guidance=guidance)[0]
        for prefix, own in zip(prefixes, codes, strict=True)
        for picture in own
    ]
    return torch.stack(rows).view(codes.shape)


def slopes(model, told):
    """Gradients of a loss that weighs every code differently, by the language model's weights."""
    weights = torch.linspace(-1, 1, told.numel()).view(told.shape)
    wanted = [one for one in model.family.language_model.parameters() if one.requires_grad]
    found = torch.autograd.grad((told * weights).sum(), wanted, allow_unused=True)
    return [one for one in found if one is not None]


@pytest.mark.parametrize("rows", [4, 256])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients_are_those_of_single_rows(models, kind, way, prompts, rows, monkeypatch):
    monkeypatch.setattr(tuple_pass, "_ROWS", rows)
    model = models[kind]
    prefixes, codes = given(model, PROMPTS[prompts])
    wanted = plain(model, prefixes, codes)
    found = tuple_log_probs(model.family, prefixes, codes, **WAYS[way])
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5)
    for one, other in zip(slopes(model, found), slopes(model, wanted), strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7


@pytest.mark.parametrize("guidance", [0.5, 5.0])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("way", WAYS)
def test_guided_values_and_gradients_are_those_of_single_rows(models, kind, way, prompts, guidance):
    model = models[kind]
    prefixes, codes = given(model, PROMPTS[prompts])
    wanted = plain(model, prefixes, codes, guidance=guidance)
    found = tuple_log_probs(model.family, prefixes, codes, guidance=guidance, **WAYS[way])
    assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(found, plain(model, prefixes, codes), atol=1e-2)
    for one, other in zip(slopes(model, found), slopes(model, wanted), strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


@pytest.mark.parametrize("way", WAYS)
def test_under_an_adapter_and_without_gradients(kind, way):
    model = made(kind)
    trained_network(model.family, lora_config(model.family, r=2))
    with torch.no_grad():
        for name, one in model.model.named_parameters():
            if "lora_B" in name:
                one.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    prefixes, codes = given(model, (SHORT, LONG))
    wanted = plain(model, prefixes, codes)
    found = tuple_log_probs(model.family, prefixes, codes, **WAYS[way])
    for one, other in zip(slopes(model, found), slopes(model, wanted), strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7
    with torch.no_grad():
        assert torch.allclose(tuple_log_probs(model.family, prefixes, codes, **WAYS[way]), wanted, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_activations_that_are_made_again_by_the_model(kind, way):
    model = made(kind)
    prefixes, codes = given(model, (SHORT, LONG))
    wanted = slopes(model, plain(model, prefixes, codes))
    model.model.activation_checkpointing_enable()
    model.model.train()
    found = slopes(model, tuple_log_probs(model.family, prefixes, codes, **WAYS[way]))
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7


@pytest.mark.parametrize("way", ["one at a time", "both"])
def test_dropout_is_the_same_when_a_picture_is_made_again(way, monkeypatch):
    # The reference keeps every activation: the same draws of dropout, nothing made again.
    model = made("janus")
    adapter = trained_network(model.family, lora_config(model.family, r=2, lora_dropout=0.5), disable_dropout=False)
    with torch.no_grad():
        for name, one in model.model.named_parameters():
            if "lora_B" in name:
                one.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    adapter.train()
    prefixes, codes = given(model, (LONG,))

    def found():
        torch.manual_seed(3)
        return slopes(model, tuple_log_probs(model.family, prefixes, codes, **WAYS[way]))

    made_again = found()
    monkeypatch.setattr(tuple_pass, "checkpoint", lambda score, codes, use_reentrant: score(codes))
    for one, other in zip(made_again, found(), strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7


def test_half_precision(kind):
    model = made(kind)
    prefixes, codes = given(model, (SHORT, LONG))
    wanted = plain(model, prefixes, codes)
    model.model.to(torch.bfloat16)
    found = tuple_log_probs(model.family, prefixes, codes)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=0.5)


def test_a_picture_is_made_again_once(models, kind, monkeypatch):
    # One pass a picture forward and one back: the head's inner derivative makes nothing again.
    model = models[kind]
    prefixes, codes = given(model, (LONG,), pictures=3)
    passes = []
    before_head = type(model.family).before_head

    def counted(self, hidden):
        passes.append(len(hidden))
        return before_head(self, hidden)

    monkeypatch.setattr(type(model.family), "before_head", counted)
    slopes(model, tuple_log_probs(model.family, prefixes, codes, one_at_a_time=True))
    assert passes == [1] * 6
