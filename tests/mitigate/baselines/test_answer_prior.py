"""Answers corrected by their prior, by hand."""

import math

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.baselines.answer_prior import correct_answers


def test_by_hand():
    # p = (0.6, 0.4), prior (0.8, 0.2): 0.75 and 2, of 2.75: 3/11 and 8/11. Subtracted: -0.2 and 0.2.
    p, prior = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.8, 0.2]])
    assert correct_answers(p, prior)[0].tolist() == pytest.approx([3 / 11, 8 / 11])
    assert correct_answers(p, prior, form="subtract")[0].tolist() == pytest.approx([-0.2, 0.2])
    assert p[0].tolist() == pytest.approx([0.6, 0.4])


def test_an_answer_that_is_only_the_prior_becomes_even():
    prior = torch.tensor([[0.7, 0.2, 0.1]])
    assert correct_answers(prior, prior)[0].tolist() == pytest.approx([1 / 3] * 3)


def test_an_even_prior_changes_nothing():
    p = torch.tensor([[0.7, 0.2, 0.1]])
    assert torch.allclose(correct_answers(p, torch.full((1, 3), 1 / 3)), p)


@pytest.mark.parametrize(
    ("p", "prior"),
    [
        ([0.5, math.nan], [0.5, 0.5]),
        ([0.5, 0.5], [1.0, 0.0]),
        ([0.0, 0.0], [0.5, 0.5]),
        ([0.5, 0.5], [1.5, -0.5]),
    ],
)
def test_what_is_no_distribution_is_refused(p, prior):
    with pytest.raises(BadInputError, match=r"probabilities|mass"):
        correct_answers(torch.tensor([p]), torch.tensor([prior]))
