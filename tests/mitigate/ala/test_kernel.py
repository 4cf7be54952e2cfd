"""The mathematics of ALA on a toy of three candidates, then properties."""

from math import exp, inf, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evenhand.mitigate.ala.kernel import (
    align_shift,
    contradiction,
    group_shift,
    log_normaliser,
    move_draft,
    move_mass,
    neutral_shift,
    open_gate,
    paper_shift,
    shift_logits,
)

# The toy: candidates man, woman, person; the model's logits; which group each word names.
LOGITS = (3.0, 1.0, 2.0)
DIRECTION = torch.tensor([1.0, -1.0, 0.0])
ALPHA = torch.tensor([0.98])
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

unit = st.floats(-1, 1, width=32)
directions = st.lists(unit, min_size=1, max_size=6)
strengths = st.floats(0, 100, width=32)


def one(value: float) -> Tensor:
    return torch.tensor([value])


def bits(values: Tensor) -> bytes:
    return values.contiguous().view(torch.uint8).numpy().tobytes()


def probabilities(shift: Tensor) -> list[float]:
    """Softmax of the toy's shifted logits, in plain Python."""
    weights = [exp(z + d) for z, d in zip(LOGITS, shift[0].tolist(), strict=True)]
    return [w / sum(weights) for w in weights]


# --- by hand -------------------------------------------------------------------------------------------------


def test_the_toy_before_any_shift():
    # e^3, e^1, e^2 = 20.086, 2.718, 7.389; sum 30.193
    assert probabilities(torch.zeros(1, 3)) == pytest.approx([0.665, 0.090, 0.245], abs=5e-4)


@pytest.mark.parametrize(
    ("s", "strength", "man", "woman"),
    [
        # -2 (.98 - .6) = -.76: logits 2.24, 1.76, 2 -> e^ 9.393, 5.812, 7.389; sum 22.595
        (0.6, 2.0, 0.416, 0.257),
        # -7 (.38) = -2.66: logits .34, 3.66, 2 -> e^ 1.405, 38.861, 7.389; sum 47.655: a right word is flipped
        (0.6, 7.0, 0.029, 0.815),
        # -2 (.98) = -1.96: logits 1.04, 2.96, 2 -> e^ 2.829, 19.298, 7.389; sum 29.516: unsure, and flipped
        (0.0, 2.0, 0.096, 0.654),
    ],
)
def test_paper_shift_on_the_toy(s, strength, man, woman):
    found = probabilities(paper_shift(ALPHA, one(s), DIRECTION[None], strength=strength))
    assert found[:2] == pytest.approx([man, woman], abs=6e-4)


def test_neutral_shift_on_the_toy():
    # without neutral forms, -2 |.98| |b|: logits 1.04, -.96, 2 -> e^ 2.829, .383, 7.389; sum 10.601
    bare = neutral_shift(ALPHA, DIRECTION.abs()[None], torch.zeros(1, 3), strength=2.0)
    assert probabilities(bare)[2] == pytest.approx(0.697, abs=5e-4)
    # with `person` as the form, its logit is 3.96 -> e^ 52.457; sum 55.669
    boosted = neutral_shift(ALPHA, DIRECTION.abs()[None], torch.tensor([[0.0, 0.0, 1.0]]), strength=2.0)
    assert probabilities(boosted)[2] == pytest.approx(0.942, abs=5e-4)


@pytest.mark.parametrize(
    ("s", "margin", "man"),
    [
        (0.6, 0.0, 0.0),  # the text agrees with the picture
        (0.01, 0.0, 0.0),  # ... and only the sign of s counts
        (0.0, 0.0, 0.0),  # an unsure picture flips nobody
        (-0.6, 0.0, -5.88),  # contradiction: 6 * [0 + .98] * -1
        (-0.6, 1.0, -11.88),  # 6 * [1 + .98] * -1
        (0.6, 1.0, 0.12),  # agrees, but by less than the margin: 6 * [1 - .98]
    ],
)
def test_align_shift_by_hand(s, margin, man):
    shift = align_shift(ALPHA, one(s), DIRECTION[None], strength=6.0, margin=margin)
    assert shift[0].tolist() == pytest.approx([man, -man, 0.0], abs=1e-5)


def test_log_normaliser_by_hand():
    scores = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, log(3), -inf, -1e9], [80.0, -80.0, -inf, -inf]])
    assert log_normaliser(scores).tolist() == pytest.approx([3 + log(4), log(4), 80.0], abs=1e-6)
    assert log_normaliser(scores[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_normaliser_of_a_large_vocabulary(dtype):
    scores = (torch.randn(3, 262_144, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    exact = scores.double().logsumexp(dim=1)
    assert log_normaliser(scores).dtype == torch.float32
    assert torch.allclose(log_normaliser(scores).double(), exact, atol=1e-5)


def test_gate_by_hand():
    # Listed: tokens 1, 2, 4; of these 1 and 4 open the gate, 2 is a neutral form.
    scores = torch.tensor(
        [
            [0.0, 5.0, 1.0, 0.0, 2.0],  # greedy 1: opens, drafted is the first listed
            [0.0, 1.0, 0.0, 2.0, 9.0],  # greedy 4: opens, drafted is the second listed
            [0.0, 5.0, 6.0, 0.0, 2.0],  # greedy 2: a neutral form does not open
            [7.0, 5.0, 6.0, 0.0, 2.0],  # greedy 0: not listed
            [-inf, -inf, -inf, -inf, -3.0],  # everything else forbidden
            [-inf, -inf, -inf, -inf, -inf],  # everything forbidden: opens; the processor leaves it alone
            [5.0, 5.0, 0.0, 0.0, 0.0],  # a tie with a token that is not listed opens
            [0.0, 3.0, 3.0, 0.0, 0.0],  # a tie with a neutral form opens
        ]
    )
    gate = open_gate(scores, torch.tensor([1, 4]))
    assert gate.opened.tolist() == [True, True, False, False, True, True, True, True]
    assert gate.scores.argmax(dim=1)[gate.opened].tolist() == [0, 1, 1, 0, 0, 0]


def test_gate_opens_where_half_precision_makes_a_tie():
    # bfloat16 keeps 8 bits: 3.001 and 3.0 are the same number, so the greedy token is not unique there.
    scores = torch.tensor([[3.001, 3.0]])
    assert open_gate(scores, torch.tensor([1])).opened.tolist() == [False]
    assert open_gate(scores.bfloat16(), torch.tensor([1])).opened.tolist() == [True]


# --- properties ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_gate_is_argmax_in_the_gating_set(data):
    vocabulary = data.draw(st.integers(2, 8))
    # Distinct scores, some forbidden; at least one is allowed, so the greedy token is unique.
    order = data.draw(st.permutations(range(vocabulary)))
    forbidden = data.draw(st.sets(st.integers(0, vocabulary - 1), max_size=vocabulary - 1))
    row = [-inf if i in forbidden else 0.5 * rank - 1 for i, rank in enumerate(order)]
    gating = sorted(data.draw(st.sets(st.integers(0, vocabulary - 1), min_size=1)))
    greedy = max(range(vocabulary), key=lambda i: row[i])
    for dtype in DTYPES:
        found = open_gate(torch.tensor([row], dtype=dtype), torch.tensor(gating))
        assert bool(found.opened[0]) == (greedy in gating)
        if greedy in gating:
            assert gating[int(found.scores[0].argmax())] == greedy


@settings(deadline=None)
@given(unit, unit, directions, strengths)
def test_paper_shift_opposes_the_excess(alpha, s, direction, strength):
    shift = paper_shift(one(alpha), one(s), torch.tensor([direction]), strength=strength)[0]
    for d, moved in zip(direction, shift.tolist(), strict=True):
        assert moved == pytest.approx(-strength * (alpha - s) * d, abs=1e-4)
        if alpha > s:  # carries more than it should: the first group's words lose, the second's gain
            assert moved <= 0 if d > 0 else moved >= 0


@settings(deadline=None)
@given(unit, unit, directions, strengths, st.floats(-1, 1, width=32))
def test_align_shift_never_weakens_an_agreeing_word(alpha, s, direction, strength, margin):
    shift = align_shift(one(alpha), one(s), torch.tensor([direction]), strength=strength, margin=margin)[0]
    for d, moved in zip(direction, shift.tolist(), strict=True):
        assert moved * d * s >= 0  # whatever moves, moves toward the picture
        if s == 0 or (s > 0 and alpha >= margin) or (s < 0 and -alpha >= margin):
            assert moved == 0


@settings(deadline=None)
@given(unit, directions, strengths, st.data())
def test_neutral_shift_gives_no_groups_word_anything(alpha, direction, strength, data):
    # Neutral forms may be any token, a group's own full-weight one included.
    forms = [float(data.draw(st.booleans())) if d in (0.0, 1.0, -1.0) else 0.0 for d in direction]
    weight = torch.tensor([direction]).abs()
    shift = neutral_shift(one(alpha), weight, torch.tensor([forms]), strength=strength)[0]
    mirrored = neutral_shift(one(-alpha), weight, torch.tensor([forms]), strength=strength)[0]
    assert torch.equal(shift, mirrored)  # symmetric in the groups
    for d, form, moved in zip(direction, forms, shift.tolist(), strict=True):
        if d != 0:
            assert moved <= 0
        if d == 0 and not form:
            assert moved == 0


@given(unit, unit, directions)
def test_zero_strength_shifts_nothing(alpha, s, direction):
    d, forms = torch.tensor([direction]), torch.ones(1, len(direction))
    assert not paper_shift(one(alpha), one(s), d, strength=0.0).any()
    assert not align_shift(one(alpha), one(s), d, strength=0.0, margin=1.0).any()
    assert not neutral_shift(one(alpha), d.abs(), forms, strength=0.0).any()


def test_rows_of_a_batch_are_single_runs():
    generator = torch.Generator().manual_seed(0)
    alpha, s = (torch.rand(9, generator=generator) * 2 - 1 for _ in range(2))
    direction = torch.rand(1, 4, generator=generator) * 2 - 1
    forms = (torch.rand(9, 4, generator=generator) > 0.5).float()
    scores = torch.randn(9, 7, generator=generator)
    ids = torch.tensor([[0, 2, 3, 6]]).expand(9, 4)
    batch = {
        "paper": paper_shift(alpha, s, direction, strength=2.0),
        "align": align_shift(alpha, s, direction, strength=6.0, margin=0.1),
        "neutral": neutral_shift(alpha, direction.abs(), forms, strength=6.0),
    }
    for row in range(9):
        at = slice(row, row + 1)
        single = {
            "paper": paper_shift(alpha[at], s[at], direction, strength=2.0),
            "align": align_shift(alpha[at], s[at], direction, strength=6.0, margin=0.1),
            "neutral": neutral_shift(alpha[at], direction.abs(), forms[at], strength=6.0),
        }
        for name, shift in batch.items():
            assert torch.equal(shift[at], single[name])
            moved = shift_logits(scores[at], ids[at], single[name])
            assert torch.equal(shift_logits(scores, ids, shift)[at], moved)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shift_logits_touches_the_listed_tokens_only(dtype):
    scores = torch.tensor([[0.1, -inf, 2.0, -0.0, -inf], [5.0, 1.0, -2.0, -0.0, 0.3]], dtype=dtype)
    before, ids = scores.clone(), torch.tensor([[1, 2, 3], [1, 2, 3]])
    moved = shift_logits(scores, ids, torch.tensor([[9.0, -1.5, 0.5], [0.0, 0.0, 0.0]]))
    assert bits(scores) == bits(before)
    assert moved.dtype == dtype
    assert moved[0].tolist() == [float(before[0, 0]), -inf, 0.5, 0.5, -inf]
    assert bits(moved[1]) == bits(before[1])  # a zero row, -0.0 included


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_shift_is_the_identity(dtype):
    scores = torch.randn(4, 11, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert bits(shift_logits(scores, torch.tensor([[0, 5, 10]]).expand(4, 3), torch.zeros(4, 3))) == bits(scores)


# --- moving probability to a stand-in ------------------------------------------------------------------------


def softmax(values: list[float]) -> list[float]:
    weights = [exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def test_a_draft_hands_its_probability_over():
    # The toy: p = .665, .090, .245. With n = ln 4 a quarter stays: man .166, woman .090 + .499 = .589, person .245.
    nats = move_draft(one(3.0), one(1.0), one(log(4)))[0].tolist()
    man, woman, person = softmax([3 + nats[0], 1 + nats[1], 2.0])
    assert (man, woman, person) == pytest.approx((0.6652 / 4, 0.0900 + 0.75 * 0.6652, 0.2447), abs=2e-4)
    assert nats[0] == pytest.approx(-log(4))


@pytest.mark.parametrize(("stand_in", "nats"), [(1.0, 0.0), (-inf, 5.0)])
def test_a_draft_stays(stand_in, nats):
    # nothing to take back; or a grammar forbids the stand-in
    assert move_draft(one(3.0), one(stand_in), one(nats)).tolist() == [[0.0, 0.0]]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-480, 480), min_size=3, max_size=8, unique=True), st.floats(3.5, 100, width=32), st.data())
def test_the_stand_in_of_a_greedy_draft_is_chosen_and_the_rest_is_untouched(sixteenths, nats, data):
    # A sixteenth apart: log(1 - e^-3.5) = -.03 is all that a stand-in of no probability of its own can lack.
    row = [value / 16 for value in sixteenths]
    drafted = max(range(len(row)), key=row.__getitem__)
    stand_in = data.draw(st.sampled_from([i for i in range(len(row)) if i != drafted]))
    fall, rise = move_draft(one(row[drafted]), one(row[stand_in]), one(nats))[0].tolist()
    after = list(row)
    after[drafted] += fall
    after[stand_in] += rise
    assert max(range(len(row)), key=after.__getitem__) == stand_in
    top = max(*row, *after)
    total, moved = (sum(exp(value - top) for value in values) for values in (row, after))
    assert moved == pytest.approx(total, rel=1e-4)  # the same normaliser: every other probability is what it was


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_chooses_the_stand_in_too(dtype):
    scores = torch.tensor([[9.0, 1.0, 8.9375]], dtype=dtype)
    nats = move_draft(scores[:, 0].float(), scores[:, 1].float(), one(6.0))
    assert int(shift_logits(scores, torch.tensor([[0, 1]]), nats).argmax()) == 1


def test_mass_of_several_words_by_hand():
    # p = .4, .3, .1, .2 of man, boy, woman, girl: man keeps 1/2, boy keeps 1/4; both hand the rest to woman.
    # man .2, boy .075, woman .1 + .2 + .225 = .525, girl .2
    p = [0.4, 0.3, 0.1, 0.2]
    scores = torch.tensor([[log(x) for x in p]])
    sources, targets = torch.tensor([[0, 1]]), torch.tensor([[2, 2]])
    shift = move_mass(scores, sources, targets, torch.tensor([[log(2), log(4)]]))
    assert (scores + shift).exp()[0].tolist() == pytest.approx([0.2, 0.075, 0.525, 0.2], abs=1e-6)


def test_mass_moves_nowhere_it_must_not():
    scores = torch.tensor([[2.0, -inf, 1.0, 0.0]])
    to_banned = move_mass(scores, torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[6.0]]))
    from_banned = move_mass(scores, torch.tensor([[1]]), torch.tensor([[2]]), torch.tensor([[6.0]]))
    assert not to_banned.any()
    assert not from_banned.any()


def test_mass_of_a_token_too_small_for_a_float():
    # e^-200 is 0 in float32: the target inherits all the same.
    scores = torch.tensor([[0.0, -200.0]])
    shift = move_mass(scores, torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[log(2)]]))
    assert (scores + shift)[0].tolist() == pytest.approx([-log(2), -log(2)], abs=1e-4)


@settings(deadline=None)
@given(st.floats(-20, 20, width=32), st.floats(-20, 20, width=32), st.floats(0, 60, width=32))
def test_one_source_is_move_draft(drafted, stand_in, nats):
    scores = torch.tensor([[drafted, stand_in]])
    many = move_mass(scores, torch.tensor([[0]]), torch.tensor([[1]]), torch.tensor([[nats]]))
    assert torch.allclose(many, move_draft(scores[:, 0], scores[:, 1], one(nats)), atol=1e-4)


# --- any number of groups ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), directions, strengths)
def test_two_groups_give_the_papers_scalar_rule(first, wanted, direction, strength):
    # a = (x, 1 - x), s = (y, 1 - y): alpha = 2x - 1, s = 2y - 1
    group = torch.tensor([[-1 if d == 0 else int(d < 0) for d in direction]])
    many = group_shift(
        torch.tensor([[first, 1 - first]]),
        torch.tensor([[wanted, 1 - wanted]]),
        group,
        torch.tensor([direction]).abs(),
        strength=strength,
    )
    scalar = [-strength * ((2 * first - 1) - (2 * wanted - 1)) * d for d in direction]
    assert many[0].tolist() == pytest.approx(scalar, abs=1e-4)


def test_three_groups_by_hand():
    # a = (.7, .2, .1), s = (0, 1, 0): gap (.7, -.8, .1). A word of group 0 with b = 1:
    # -2 (.7 - (-.8 + .1) / 2) = -2 (.7 + .35) = -2.1; group 1: -2 (-.8 - .4) = 2.4; group 2: -2 (.1 + .05) = -.3
    shares, wanted = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.0, 1.0, 0.0]])
    shift = group_shift(shares, wanted, torch.tensor([[0, 1, 2, -1]]), torch.ones(1, 4), strength=2.0)
    assert shift[0].tolist() == pytest.approx([-2.1, 2.4, -0.3, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "wanted", "margin", "expected"),
    [
        ([0.9, 0.1], 1, 0.0, 0.8),  # alpha = .8, s < 0: [0 + .8]
        ([0.9, 0.1], 0, 0.0, 0.0),  # agrees
        ([0.9, 0.1], 0, 1.0, 0.2),  # agrees, by less than the margin: [1 - .8]
        ([0.7, 0.2, 0.1], 1, 0.0, 0.5),  # the largest other share leads by .5
        ([0.7, 0.2, 0.1], 0, 0.0, 0.0),
        ([0.7, 0.2, 0.1], 2, -0.3, 0.3),  # leads by .6, .3 of it tolerated
    ],
)
def test_contradiction_by_hand(shares, wanted, margin, expected):
    found = contradiction(torch.tensor([[shares]]), torch.tensor([wanted]), margin=margin)
    assert found.tolist() == [[pytest.approx(expected, abs=1e-6)]]


def test_a_lead_opens_the_gate_early():
    scores = torch.tensor([[0.0, 3.0, 2.5]])
    assert open_gate(scores, torch.tensor([2])).opened.tolist() == [False]
    assert open_gate(scores, torch.tensor([2]), lead=0.5).opened.tolist() == [True]
    assert open_gate(scores, torch.tensor([2]), lead=0.4).opened.tolist() == [False]
