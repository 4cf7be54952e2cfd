"""The log-probability of one code, against log_softmax and gather."""

import math

import pytest
import torch

from evenhand.models.unified.chosen import chosen_log_probs


def test_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    told = chosen_log_probs(logits, torch.tensor([1]))
    assert told.tolist() == pytest.approx([math.log(3 / 4)])
    told.sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([-1 / 4, 1 / 4])


def test_values_and_gradients_are_those_of_log_softmax():
    drawn = torch.Generator().manual_seed(0)
    logits = (50 * torch.randn(64, 1000, generator=drawn)).requires_grad_()
    codes = torch.randint(0, 1000, (64,), generator=drawn)
    weights = torch.randn(64, generator=drawn)
    kept = logits.detach().clone()
    wanted = logits.log_softmax(dim=-1).gather(-1, codes[:, None])[:, 0]
    (slope,) = torch.autograd.grad((weights * wanted).sum(), logits)
    found = chosen_log_probs(logits, codes)
    (own,) = torch.autograd.grad((weights * found).sum(), logits)
    assert torch.equal(found, wanted)
    assert torch.allclose(own, slope, atol=1e-6)
    assert torch.equal(logits, kept)  # what was given stays as it was


def test_a_second_gradient_is_refused():
    logits = torch.zeros(1, 3, requires_grad=True)
    told = chosen_log_probs(logits, torch.tensor([1])).sum()
    told.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        told.backward()
