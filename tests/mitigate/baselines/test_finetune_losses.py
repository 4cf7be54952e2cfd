"""The losses, worked out by hand from probabilities."""

import math

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.finetune import even_answer_loss, unknown_loss


def logits(*shares: float) -> torch.Tensor:
    return torch.tensor([[math.log(share) for share in shares]])


def test_unknown_by_hand():
    # Shares 0.2, 0.5, 0.3; "Unknown" is option 2 in one row and option 0 in the other: 1 - 0.3 and 1 - 0.2.
    z = logits(0.2, 0.5, 0.3).repeat(2, 1)
    assert unknown_loss(z, torch.tensor([2, 0])).tolist() == pytest.approx([0.7, 0.8])


def test_unknown_falls_along_its_gradient():
    z = logits(0.2, 0.5, 0.3).requires_grad_(True)
    unknown_loss(z, torch.tensor([2])).sum().backward()
    # d(1 - p2)/dz = -p2 (e2 - p): -0.3 (-0.2, -0.5, 0.7).
    assert z.grad[0].tolist() == pytest.approx([0.06, 0.15, -0.21])


@pytest.mark.parametrize(
    ("shares", "loss"),
    [((0.5, 0.5 - 1e-9, 1e-9), 0.0), ((0.9, 0.05, 0.05), 0.85), ((0.25, 0.25, 0.5), 0.5), ((1e-9, 1e-9, 1), 1.0)],
)
def test_even_answer_by_hand(shares, loss):
    # |P(yes) - 0.5| + |P(no) - 0.5|: 0.4 + 0.45 in the second row, 0.25 + 0.25 in the third.
    assert even_answer_loss(logits(*shares), yes=[0], no=[1]).item() == pytest.approx(loss, abs=1e-6)


def test_spellings_are_summed():
    # yes = 0.2 + 0.3, no = 0.1: 0 + 0.4; an id given twice counts once.
    assert even_answer_loss(logits(0.2, 0.3, 0.1, 0.4), yes=[0, 1, 1], no=[2]).item() == pytest.approx(0.4)


def test_answers_must_be_told_apart():
    for yes, no in (([], [1]), ([0], []), ([0, 1], [1])):
        with pytest.raises(BadInputError, match="at least one"):
            even_answer_loss(logits(0.5, 0.5), yes=yes, no=no)
