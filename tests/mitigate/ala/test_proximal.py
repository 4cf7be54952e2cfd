"""The proximal step against its fixed-point equation, closed forms and a brute-force search over distributions."""

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from evenhand.mitigate.ala.proximal import divergence, largest_scale, normaliser, proximal_shift

# man, woman, and the rest; the text would carry .98, -.98, and nothing
P = torch.tensor([[0.665, 0.090]], dtype=torch.float64)
A = torch.tensor([[[0.98], [-0.98]]], dtype=torch.float64)
REST = torch.zeros(1, 1, dtype=torch.float64)


def solve(s: float, pull: float, cap: float = 1e9):
    return proximal_shift(P, A, REST, torch.tensor([[s]], dtype=torch.float64), pull=pull, cap=cap)


@pytest.mark.parametrize("s", [-1.0, -0.4, 0.0, 0.6, 1.0])
@pytest.mark.parametrize("pull", [0.1, 1.0, 20.0, 1000.0])
def test_the_fixed_point(s, pull):
    found = solve(s, pull)
    kappa, reached = float(found.multiplier), float(found.reached)
    assert abs(kappa - pull * (reached - s)) < 1e-6
    # and E_q a is what plain Python gives for that kappa
    weights = [0.665 * exp(-kappa * 0.98), 0.090 * exp(kappa * 0.98), 0.245]
    assert reached == pytest.approx(0.98 * (weights[0] - weights[1]) / sum(weights), abs=1e-9)


@pytest.mark.parametrize("s", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_never_past_the_target_and_never_away_from_it(s):
    start = 0.98 * (0.665 - 0.090)
    reached = [float(solve(s, pull).reached) for pull in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)]
    distance = [abs(value - s) for value in (start, *reached)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(distance))
    assert all((value - s) * (start - s) >= -1e-12 for value in reached)  # on the side it came from


def test_an_independent_minimiser_finds_the_same():
    def objective(free: np.ndarray) -> float:
        q = np.exp(free - free.max())
        q /= q.sum()
        p = np.array([0.665, 0.090, 0.245])
        return float((q * np.log(q / p)).sum() + 5.0 * (0.98 * (q[0] - q[1]) + 0.7) ** 2)

    best = minimize(objective, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
    q = np.exp(best.x - best.x.max())
    q /= q.sum()
    shift = solve(-0.7, 10.0).shift[0].tolist()
    weights = np.array([0.665 * exp(shift[0]), 0.090 * exp(shift[1]), 0.245])
    assert weights / weights.sum() == pytest.approx(q, abs=1e-4)


@pytest.mark.parametrize("cap", [0.0, 0.01, 0.3, 1.0])
def test_the_cap_holds_and_is_used(cap):
    free = float(solve(-1.0, 20.0).divergence)
    capped = float(solve(-1.0, 20.0, cap).divergence)
    assert capped <= cap + 1e-9
    assert capped == pytest.approx(min(cap, free), abs=1e-6)


def test_two_aims_are_each_reached_under_one_budget():
    # two attributes over disjoint words, both even before: p = .2 .1 | .25 .05, rest .4
    p = torch.tensor([[0.2, 0.1, 0.25, 0.05]], dtype=torch.float64)
    a = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]], dtype=torch.float64)
    wanted = torch.zeros(1, 2, dtype=torch.float64)
    found = proximal_shift(p, a, torch.zeros(1, 2, dtype=torch.float64), wanted, pull=1000.0, cap=1e9)
    assert found.reached[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    tight = proximal_shift(p, a, torch.zeros(1, 2, dtype=torch.float64), wanted, pull=1000.0, cap=0.01)
    assert float(tight.divergence) == pytest.approx(0.01, abs=1e-6)
    assert (tight.reached[0].abs() < torch.tensor([0.1, 0.2])).all()  # both moved toward 0


def test_two_groups_as_two_aims_are_one_scalar_aim():
    # a on the simplex: |a - s|^2 = (alpha - s)^2 / 2, so pull 2 mu there is mu here
    shares = torch.stack([(1 + A[..., 0]) / 2, (1 - A[..., 0]) / 2], dim=2)
    even, wanted = torch.full((1, 2), 0.5, dtype=torch.float64), torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    many = proximal_shift(P, shares, even, wanted, pull=20.0, cap=1e9)
    one = solve(-0.6, 10.0)
    assert many.shift[0].tolist() == pytest.approx(one.shift[0].tolist(), abs=1e-6)


def test_a_banned_token_is_not_moved():
    p = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    found = proximal_shift(p, A, REST, torch.tensor([[-1.0]], dtype=torch.float64), pull=20.0, cap=9.0)
    assert float(found.shift[0, 1]) == 0.0
    assert torch.isfinite(found.shift).all()


def test_rows_are_single_runs():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(5, 4, generator=generator, dtype=torch.float64) / 8
    a = torch.rand(5, 4, 2, generator=generator, dtype=torch.float64) * 2 - 1
    rest, s = torch.zeros(5, 2, dtype=torch.float64), torch.rand(5, 2, generator=generator, dtype=torch.float64) - 0.5
    whole = proximal_shift(p, a, rest, s, pull=20.0, cap=0.2)
    for i in range(5):
        at = slice(i, i + 1)
        single = proximal_shift(p[at], a[at], rest[at], s[at], pull=20.0, cap=0.2)
        assert torch.allclose(whole.shift[at], single.shift, atol=1e-9)


def test_divergence_by_hand():
    # p = .5 of one token, half of it moved nowhere: shift -ln 2 -> weights .25, .5 -> q = 1/3, 2/3
    # KL = 1/3 ln(2/3) + 2/3 ln(4/3)
    found = divergence(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[-log(2)]], dtype=torch.float64))
    assert float(found) == pytest.approx(log(2 / 3) / 3 + 2 * log(4 / 3) / 3, abs=1e-12)
    assert float(normaliser(torch.tensor([[0.5]]), torch.tensor([[-log(2)]]))) == pytest.approx(log(0.75), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0.01, 0.2), st.floats(-8, 8)), min_size=1, max_size=4), st.floats(1e-4, 1.0))
def test_a_scaled_shift_keeps_to_the_cap(tokens, cap):
    p = torch.tensor([[mass for mass, _ in tokens]], dtype=torch.float64)
    shift = torch.tensor([[nats for _, nats in tokens]], dtype=torch.float64)
    scale = largest_scale(p, shift, cap=cap)
    assert 0 <= float(scale) <= 1
    spent = float(divergence(p, scale[:, None] * shift))
    assert spent <= cap + 1e-9
    if float(scale) < 1:
        assert spent == pytest.approx(cap, abs=1e-6)
