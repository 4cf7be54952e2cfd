"""The mathematics of balanced preference: by hand, at its extremes, against the published code's number."""

import math
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.losses import (
    balance,
    check_target,
    log_odds,
    log_odds_loss,
    pairs_of,
    posterior_loss,
    preference_gap,
    weighted_nll,
)

PARITY = Path(__file__).parents[2] / "data" / "parity" / "vila_u_loss.safetensors"


def test_the_log_odds_by_hand():
    # p = 1/2: log 1 = 0. p = 1/4: log 1/3. p = 9/10: log 9.
    found = log_odds(torch.tensor([0.5, 0.25, 0.9]).log())
    assert found.tolist() == pytest.approx([0, math.log(1 / 3), math.log(9)], abs=1e-6)


def test_the_slope_of_the_log_odds_is_one_over_what_is_left():
    # g'(l) = 1 / (1 - e^l): 2 at p = 1/2, 4/3 at p = 1/4, 10 at p = 9/10.
    given = torch.tensor([0.5, 0.25, 0.9]).log().requires_grad_()
    log_odds(given).sum().backward()
    assert given.grad.tolist() == pytest.approx([2, 4 / 3, 10], rel=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [-1e-8, -1e-4, 0.0, -math.log(2), -7.0, -100.0, -4000.0])
def test_nothing_is_ever_nan(value, kind):
    given = torch.tensor([value, -7.0], dtype=kind, requires_grad=True)
    odds = log_odds(given)
    balance(odds[0] - odds[1]).backward()
    assert odds.dtype == torch.float32
    assert odds.isfinite().all()
    assert given.grad.isfinite().all()


def test_a_sequence_that_is_all_but_impossible_has_its_log_probability_as_log_odds():
    assert log_odds(torch.tensor([-4000.0])).item() == -4000.0


def test_eq_10_by_hand():
    # sigma(0) = 1/2: log 1. sigma(log 3) = 3/4: log(1 + 1/16). Far away sigma is 1: log(5/4).
    found = balance(torch.tensor([0.0, math.log(3), -math.log(3), 1000.0, -1000.0]))
    assert found.tolist() == pytest.approx(
        [0, math.log(17 / 16), math.log(17 / 16), math.log(1.25), math.log(1.25)], abs=1e-7
    )


def test_eq_10_follows_from_eq_9():
    # log(1 + gap^2 / 4)
    difference = torch.linspace(-6, 6, 25)
    assert torch.allclose(balance(difference), (1 + preference_gap(difference) ** 2 / 4).log(), atol=1e-6)
    assert preference_gap(torch.tensor(math.log(3))).item() == pytest.approx(0.5)


def test_near_even_it_is_a_sixteenth_of_the_square():
    # (sigma - 1/2)^2 ~ (delta / 4)^2
    near = torch.tensor([0.01, -0.02], dtype=torch.float64)
    assert torch.allclose(balance(near).double(), near**2 / 16, rtol=1e-3)


def test_the_steepest_slope():
    # 0.0892 at |delta| = 1.232, odd in delta
    difference = torch.linspace(-4, 4, 8001).requires_grad_()
    balance(difference).sum().backward()
    slope = difference.grad
    top = slope.argmax()
    assert slope[top].item() == pytest.approx(0.0892, abs=5e-5)
    assert difference[top].item() == pytest.approx(1.232, abs=5e-3)
    assert torch.allclose(slope, -slope.flip(0), atol=1e-6)


def test_the_gradient_by_hand():
    # Delta = log 3, s = 3/4: dL/dDelta = 2 (s - 1/2) s (1 - s) / (1 + (s - 1/2)^2) = 2 * 1/4 * 3/16 / (17/16) = 3/34.
    # One code a picture: l_i = log 1/2 (odds 1, slope 2), l_j = log 1/4 (odds 1/3, slope 4/3). Delta = log 3.
    given = torch.tensor([[[0.5], [0.25]]]).log().requires_grad_()
    log_odds_loss(given).sum().backward()
    assert given.grad.flatten().tolist() == pytest.approx([3 / 34 * 2, -3 / 34 * 4 / 3], rel=1e-5)


def test_the_published_code_s_loss_and_gradient():
    # `bpo_v1` of the released code: eq. 10 on 2 pictures of 16 places x 4 depths, as one pair
    held = load_file(PARITY)
    logits = held["image_logits"].requires_grad_()
    told = logits.log_softmax(-1).gather(-1, held["image_codes_for_loss"][..., None])[..., 0]
    loss = log_odds_loss(told.flatten(1)[None]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(0.000929407, abs=5e-9)
    assert logits.grad.norm().item() == pytest.approx(0.002684134, abs=1e-8)


def test_pairs_by_hand():
    assert pairs_of(2) == pairs_of(2, "cycle") == ((0, 1),)
    assert pairs_of(3, "cycle") == ((0, 1), (1, 2), (2, 0))
    assert pairs_of(4, "cycle") == ((0, 1), (1, 2), (2, 3), (3, 0))  # white against asian, not indian twice
    assert pairs_of(4) == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


@pytest.mark.parametrize("comparing", ["all", "cycle"])
@pytest.mark.parametrize("groups", [2, 3, 4, 6])
def test_every_pair_shares_its_prompt_and_differs_in_group(groups, comparing):
    # Each tuple has a level of its own and each group a step: what is compared can be read off the gradient.
    tuples = 3
    assert all(i != j for i, j in pairs_of(groups, comparing))
    given = (-5 - torch.rand(tuples, groups, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    for one in range(tuples):
        moved = torch.autograd.grad(log_odds_loss(given, comparing=comparing)[one], given)[0]
        others = [row for row in range(tuples) if row != one]
        assert (moved[others] == 0).all()  # another prompt never enters
        assert (moved[one].abs().sum(dim=-1) > 0).all()  # every group does


def test_three_groups_by_hand():
    # One code each: p = 1/2, 1/4, 1/2; odds 1, 1/3, 1. Pairs: log 3, 0, -log 3 -> mean of (log 17/16, 0, log 17/16).
    given = torch.tensor([[[0.5], [0.25], [0.5]]]).log()
    assert log_odds_loss(given).item() == pytest.approx(2 / 3 * math.log(17 / 16), abs=1e-7)
    assert log_odds_loss(given, comparing="cycle").item() == pytest.approx(2 / 3 * math.log(17 / 16), abs=1e-7)


def test_the_order_of_groups_does_not_matter():
    given = -torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(1)) - 3
    turned = given[:, [2, 0, 3, 1]]
    assert torch.allclose(log_odds_loss(given), log_odds_loss(turned))


def test_the_posterior_is_the_share_whatever_the_difficulty():
    # pi = (.8, .2), pictures of group 0 have 3 nats, of group 1 have 40: p(y|x) = pi_d p(y|x, d).
    reference = torch.tensor([[-3.0, -40.0]])
    told = reference + torch.tensor([[0.8, 0.2]]).log()
    spread = (told / 5)[..., None].expand(1, 2, 5)
    # Delta = log 4, sigma = 4/5: log(1 + 0.09)
    assert posterior_loss(spread, reference).item() == pytest.approx(math.log(1.09), abs=1e-6)
    assert posterior_loss(spread, reference, target=(0.8, 0.2)).item() == pytest.approx(0, abs=1e-6)
    # eq. 10 sees the difficulty alone: per code -0.645 against -8.32
    assert log_odds_loss(spread).item() > 0.2


def test_the_temperature_divides():
    reference = torch.zeros(1, 2)
    told = torch.tensor([[[math.log(0.9)], [math.log(0.1)]]])
    # Delta = log 9 / 2 = log 3
    assert posterior_loss(told, reference, temperature=2).item() == pytest.approx(math.log(17 / 16), abs=1e-6)


def test_the_reference_gets_no_gradient():
    told, reference = torch.rand(1, 2, 3).neg().requires_grad_(), torch.rand(1, 2).neg().requires_grad_()
    posterior_loss(told, reference).sum().backward()
    assert told.grad is not None
    assert reference.grad is None


def test_a_target_moves_the_published_loss_by_its_share_of_a_code():
    # 10 codes; group 0 likelier by log(7/3) a picture: where the target is 70/30 nothing is left (up to p = e^-7).
    level = torch.tensor([[-7.0 + math.log(7 / 3) / 10, -7.0]])[..., None].expand(1, 2, 10)
    assert log_odds_loss(level, target=(0.7, 0.3)).item() < 1e-9
    assert log_odds_loss(level).item() == pytest.approx((math.log(7 / 3) / 10) ** 2 / 16, rel=1e-2)
    near = torch.tensor([[-0.5 + math.log(7 / 3) / 10, -0.5]])[..., None].expand(1, 2, 10)  # where odds are no shares
    assert log_odds_loss(near, target=(0.7, 0.3)).item() < 1e-9


def test_the_likelihood_by_hand():
    # means -1 and -3; even: 2; target (.75, .25): 1.5
    told = torch.tensor([[[-0.5, -1.5], [-2.0, -4.0]]])
    assert weighted_nll(told).item() == pytest.approx(2)
    assert weighted_nll(told, target=(0.75, 0.25)).item() == pytest.approx(1.5)


@pytest.mark.parametrize("target", [(1.0,), (0.5, 0.5, 0.1), (0.5, 0.4), (1.0, 0.0), (1.5, -0.5), (float("nan"), 0.5)])
def test_targets_that_are_none(target):
    with pytest.raises(BadInputError, match="one share above 0"):
        check_target(target, 2)


def test_bad_numbers():
    with pytest.raises(BadInputError, match="2 or more"):
        pairs_of(1)
    with pytest.raises(BadInputError, match="above 0"):
        posterior_loss(torch.zeros(1, 2, 1), torch.zeros(1, 2), temperature=0)


class _Coded(torch.nn.Module):
    """Pictures of eight codes. The first decides the group; group 0 has 3 codes, group 1 has 15: 1.1 and 2.7 nats."""

    def __init__(self) -> None:
        super().__init__()
        self.group = torch.nn.Parameter(torch.tensor([0.9, 0.1]).log())
        inside = torch.full((2, 18), -6.0)
        inside[0, :3], inside[1, 3:] = 0, 0
        self.inside = torch.nn.Parameter(inside)

    def asked(self, pictures):
        """Log-probability of each code of (tuples, 2, codes) where its group is asked for."""
        table = self.inside.log_softmax(-1)
        return torch.stack([table[g].expand(len(pictures), -1).gather(1, pictures[:, g]) for g in (0, 1)], dim=1)

    def neutral(self, pictures):
        """The same where nobody is asked for: the group's share goes to the first code."""
        share = torch.cat([self.group.log_softmax(0)[:, None], torch.zeros(2, pictures.shape[2] - 1)], dim=1)
        return self.asked(pictures) + share


def _trained(loss, steps=300):
    """P(group 0) of a model that starts at .9, trained on one picture of each group a step."""
    model, drawn = _Coded(), torch.Generator().manual_seed(0)
    before = _Coded()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0)
    for _ in range(steps):
        easy = torch.randint(0, 3, (8, 1, 8), generator=drawn)
        hard = torch.randint(3, 18, (8, 1, 8), generator=drawn)
        pictures = torch.cat([easy, hard], dim=1)
        optimizer.zero_grad()
        loss(model.neutral(pictures), before.asked(pictures).sum(-1)).mean().backward()
        optimizer.step()
    return model.group.softmax(0)[0].item()


def test_the_published_loss_alone_draws_the_harder_group():
    # In a model small enough to be sure of: even is 1/2.
    assert _trained(lambda told, _: log_odds_loss(told)) < 0.05


@pytest.mark.parametrize("target", [(0.5, 0.5), (0.7, 0.3)])
def test_the_corrected_loss_draws_the_target(target):
    def loss(told, reference):
        return posterior_loss(told, reference, target=target) + 0.3 * weighted_nll(told, target=target)

    assert _trained(loss) == pytest.approx(target[0], abs=0.03)


def test_all_pairs_and_cycle_agree_where_groups_are_even():
    even = torch.full((1, 5, 3), -4.0)
    for comparing in ("all", "cycle"):
        assert log_odds_loss(even, comparing=comparing).item() == 0
    assert len(pairs_of(5)) == len(list(combinations(range(5), 2)))
    assert [*pairwise([0, 1, 2, 3, 4, 0])] == list(pairs_of(5, "cycle"))
