"""The modes: their parameters, what they refuse, and that they call the update they name."""

from dataclasses import FrozenInstanceError
from math import inf, nan

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.rules import AlignRule, NeutralRule, PaperRule

ALL = (PaperRule, AlignRule, NeutralRule)
# man, woman, person; the text says `man` with .98, the picture says female with .5
ALPHA, S = torch.tensor([0.98]), torch.tensor([-0.5])
DIRECTION, FORMS = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([[False, False, True]])


@pytest.mark.parametrize(
    ("rule", "shift"),
    [
        (PaperRule(), [-2.96, 2.96, 0.0]),  # -2 (.98 + .5)
        (PaperRule(strength=1.0), [-1.48, 1.48, 0.0]),
        (AlignRule(), [-5.88, 5.88, 0.0]),  # 6 [0 + .98]
        (AlignRule(strength=2.0, margin=0.5), [-2.96, 2.96, 0.0]),  # 2 [.5 + .98]
        (NeutralRule(), [-5.88, -5.88, 5.88]),  # 6 * .98
        (NeutralRule(strength=0.5), [-0.49, -0.49, 0.49]),
    ],
)
def test_shift_by_hand(rule, shift):
    assert rule.shift(ALPHA, S, DIRECTION, FORMS)[0].tolist() == pytest.approx(shift, abs=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_zero_strength_is_the_identity(kind):
    assert not kind(strength=0.0).shift(ALPHA, S, DIRECTION, FORMS).any()


def test_the_published_parameters():
    assert (PaperRule().strength, PaperRule().threshold) == (2.0, 0.1)


@pytest.mark.parametrize(("kind", "needs"), [(PaperRule, True), (AlignRule, True), (NeutralRule, False)])
def test_who_asks_the_picture(kind, needs):
    assert kind().needs_claim is needs


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("strength", [nan, inf, -inf, -0.1, 100.1, 1e30])
def test_strength_refused(kind, strength):
    with pytest.raises(BadInputError, match="strength"):
        kind(strength=strength)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("threshold", [nan, inf, 0.0, -0.1, 1.01])
def test_threshold_refused(kind, threshold):
    with pytest.raises(BadInputError, match="threshold"):
        kind(threshold=threshold)


@pytest.mark.parametrize("margin", [nan, inf, -inf, 1.01, -1.01])
def test_margin_refused(margin):
    with pytest.raises(BadInputError, match="margin"):
        AlignRule(margin=margin)


@pytest.mark.parametrize("kind", ALL)
def test_the_ends_of_the_ranges_are_allowed(kind):
    assert kind(strength=100.0, threshold=1.0).strength == 100.0


def test_rules_are_frozen():
    with pytest.raises(FrozenInstanceError):
        PaperRule().strength = 3.0
