"""The modes: their parameters, what they refuse, and the toy of three candidates under each."""

from dataclasses import FrozenInstanceError, replace
from math import exp, inf, nan

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.step import Step
from evenhand.mitigate.ala.weights import TokenWeights

STRENGTHS = (PaperRule, AlignRule, NeutralRule)
ALL = (*STRENGTHS, NearestRule)

# The toy: man, woman, person with logits 3, 1, 2, so p = .665, .090, .245; the text with "man" carries .98.
LOGITS = torch.tensor([[3.0, 1.0, 2.0]])
LOG_Z = LOGITS.logsumexp(dim=1)
WEIGHTS = TokenWeights(
    attribute="gender",
    groups=("male", "female"),
    token_ids=torch.tensor([1, 2, 3]),
    group=torch.tensor([[0, 1, -1]] * 2, dtype=torch.int8),
    weight=torch.tensor([[1.0, 1.0, 0.0]] * 2),
    entry=torch.tensor([[0, 1, -1]] * 2, dtype=torch.int16),
    neutral_forms=torch.tensor([[2], [2]], dtype=torch.int16),
    counterparts=torch.tensor([[-1, 1], [0, -1]], dtype=torch.int16),
    spelling=torch.zeros(2, dtype=torch.int8),
    words=("man", "woman"),
    keys=torch.empty(0, dtype=torch.int64),
    nexts=torch.empty(0, dtype=torch.int64),
    depth=0,
    tokenizer="",
    left_out=(),
)


def toy(s: float | None, *, candidates: tuple[int, ...] = (0,)) -> Step:
    """The toy with its picture's s; candidates are columns: 0 man, 1 woman."""
    shares = [[0.99, 0.01] if c == 0 else [0.01, 0.99] for c in candidates]
    return Step(
        weights=WEIGHTS,
        listed=LOGITS,
        state=torch.tensor([0]),
        columns=torch.tensor([candidates]),
        entry=torch.tensor([candidates]),
        shares=torch.tensor([shares]),
        wanted=torch.tensor([int((s or 0) < 0)]),
        s=torch.tensor([s or 0.0]),
        claimed=torch.tensor([bool(s)]),
        before=torch.tensor([[0.5, 0.5]]),
        log_z=LOG_Z,
    )


def after(rule, step: Step) -> list[float]:
    """Probabilities of man, woman, person once the rule has moved them, in plain Python."""
    weights = [exp(z + d) for z, d in zip(LOGITS[0].tolist(), rule.move(step).dense(3)[0].tolist(), strict=True)]
    return [weight / sum(weights) for weight in weights]


PLAIN = [0.665, 0.090, 0.245]


@pytest.mark.parametrize(
    ("s", "strength", "man", "woman"),
    [(0.6, 2.0, 0.416, 0.257), (0.6, 7.0, 0.029, 0.815), (0.0, 2.0, 0.096, 0.654)],
)
def test_the_papers_failure_modes(s, strength, man, woman):
    # A right word is damaged, at lambda 7 flipped; an unsure picture flips. Worked out in test_kernel.
    assert after(PaperRule(strength=strength), toy(s))[:2] == pytest.approx([man, woman], abs=6e-4)


@pytest.mark.parametrize("rule", [AlignRule(), AlignRule(strength=100.0), AlignRule(replace=False), NearestRule()])
@pytest.mark.parametrize("s", [0.6, 0.01])
def test_absent_from_the_others_a_right_word_is_not_touched(rule, s):
    assert after(rule, toy(s)) == pytest.approx(PLAIN, abs=5e-4)


@pytest.mark.parametrize("rule", [AlignRule(), AlignRule(replace=False), AlignRule(abstain="neutral"), NeutralRule()])
@pytest.mark.parametrize("strength", [2.0, 50.0])
def test_absent_from_the_others_an_unsure_picture_gives_the_other_group_nothing(rule, strength):
    assert after(replace(rule, strength=strength), toy(None))[1] <= 0.0901


def test_the_papers_neutral_mode_and_ours():
    # s = 0 in the published update prefers the other group; |alpha| |beta| at lambda 2 prefers person:
    # without the boost .697 (spec), and moving the probability: man keeps e^-1.96 = .141 of .665, person .245 + .571
    assert after(PaperRule(), toy(0.0))[1] == pytest.approx(0.654, abs=6e-4)
    assert after(NeutralRule(strength=2.0), toy(None)) == pytest.approx([0.0937, 0.090, 0.8163], abs=6e-4)


def test_align_moves_the_probability_of_the_word():
    # c = .98, n = 5.88: man keeps e^-5.88 = .0028 of .665 = .0019; woman .090 + .6633
    assert after(AlignRule(), toy(-0.5)) == pytest.approx([0.0019, 0.7533, 0.2447], abs=6e-4)


def test_align_without_replacement_by_hand():
    shift = AlignRule(replace=False, strength=2.0, margin=0.5).move(toy(-0.5)).dense(3)
    assert shift[0].tolist() == pytest.approx([-2.96, 2.96, 0.0], abs=1e-5)  # 2 [.5 + .98]


def test_neutral_without_replacement_by_hand():
    shift = NeutralRule(replace=False, strength=0.5).move(toy(None)).dense(3)
    assert shift[0].tolist() == pytest.approx([-0.49, -0.49, 0.49], abs=1e-5)


def test_a_one_sided_target_tolerates():
    # s = -1, margin -.3: alpha .98 exceeds the tolerated .3 by .68
    shift = AlignRule(replace=False, strength=1.0, margin=-0.3).move(toy(-1.0)).dense(3)
    assert shift[0].tolist() == pytest.approx([-0.68, 0.68, 0.0], abs=1e-5)


def test_without_a_claim_abstaining_keeps_or_neutralises():
    assert after(AlignRule(), toy(None)) == pytest.approx(PLAIN, abs=5e-4)
    assert after(AlignRule(abstain="neutral"), toy(None))[2] > 0.9


def test_every_candidate_moves_where_tokens_are_drawn():
    # neutral, both words: man keeps .0028 p, woman too; person inherits .755 of .7547
    found = after(NeutralRule(), toy(None, candidates=(0, 1)))
    assert found == pytest.approx([0.0019, 0.0003, 0.9979], abs=6e-4)
    # align toward female: only man contradicts
    assert after(AlignRule(), toy(-0.5, candidates=(0, 1))) == pytest.approx([0.0019, 0.7533, 0.2447], abs=6e-4)


def test_nearest_goes_just_far_enough():
    # mu 1000 reaches an even text: E a = .98 (p_man - p_woman) = 0
    man, woman, _ = after(NearestRule(pull=1000.0, cap=9.0, neutral=True), toy(None, candidates=(0, 1)))
    assert man == pytest.approx(woman, abs=2e-3)
    assert after(NearestRule(cap=0.0), toy(-0.5, candidates=(0, 1))) == pytest.approx(PLAIN, abs=5e-4)
    assert after(NearestRule(cap=9.0), toy(-0.5, candidates=(0, 1)))[1] > 0.5


def test_nearest_needs_probabilities():
    with pytest.raises(BadInputError, match="log_z"):
        NearestRule().move(replace(toy(-0.5), log_z=None))


@pytest.mark.parametrize("kind", STRENGTHS)
def test_zero_strength_is_the_identity(kind):
    assert not kind(strength=0.0).move(toy(-0.5)).shift.any()


def test_the_published_parameters():
    assert (PaperRule().strength, PaperRule().threshold) == (2.0, 0.1)


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        (PaperRule(), True),
        (AlignRule(), True),
        (AlignRule(abstain="neutral"), False),
        (NeutralRule(), False),
        (NearestRule(), True),
        (NearestRule(neutral=True), False),
    ],
)
def test_who_asks_the_picture(rule, needs):
    assert rule.needs_claim is needs


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize("strength", [nan, inf, -inf, -0.1, 100.1, 1e30])
def test_strength_refused(kind, strength):
    with pytest.raises(BadInputError, match="strength"):
        kind(strength=strength)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("threshold", [nan, inf, 0.0, -0.1, 1.01])
def test_threshold_refused(kind, threshold):
    with pytest.raises(BadInputError, match="threshold"):
        kind(threshold=threshold)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"margin": nan}, "margin"),
        ({"margin": 1.01}, "margin"),
    ],
)
def test_align_refuses(options, named):
    with pytest.raises(BadInputError, match=named):
        AlignRule(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"pull": 0.0}, "pull"), ({"pull": nan}, "pull"), ({"cap": -1.0}, "cap"), ({"cap": nan}, "cap")],
)
def test_nearest_refuses(options, named):
    with pytest.raises(BadInputError, match=named):
        NearestRule(**options)


def test_rules_are_frozen():
    with pytest.raises(FrozenInstanceError):
        PaperRule().strength = 3.0


# --- three groups --------------------------------------------------------------------------------------------

RACE = replace(
    WEIGHTS,
    attribute="race",
    groups=("black", "white", "asian"),
    group=torch.tensor([[0, 1, 2]] * 2, dtype=torch.int8),
    weight=torch.ones(2, 3),
    entry=torch.tensor([[0, 1, 2]] * 2, dtype=torch.int16),
    neutral_forms=torch.full((3, 1), -1, dtype=torch.int16),
    counterparts=torch.tensor([[-1, 1, 2], [0, -1, 2], [0, 1, -1]], dtype=torch.int16),
    spelling=torch.zeros(3, dtype=torch.int8),
    words=("black", "white", "asian"),
)


def three(wanted: int, shares: list[float]) -> Step:
    step = toy(1.0)
    return replace(
        step, weights=RACE, wanted=torch.tensor([wanted]), shares=torch.tensor([[shares]]), before=torch.ones(1, 3) / 3
    )


def test_three_groups_are_aligned_to_the_wanted_one():
    # "black" (.665) contradicts "asian" (.245): its probability moves there; "white" keeps its .090
    found = after(AlignRule(strength=100.0), three(2, [0.98, 0.01, 0.01]))
    assert found == pytest.approx([0.0, 0.090, 0.910], abs=5e-4)
    assert after(AlignRule(), three(0, [0.98, 0.01, 0.01])) == pytest.approx(PLAIN, abs=5e-4)


def test_three_groups_under_the_papers_update():
    # test_kernel works B_ik out; here a = (.98, .01, .01), s = group 2: gap .98, .01, -.99
    # black: -2 (.98 - (.01 - .99) / 2) = -2.94; white: -2 (.01 - (-.01) / 2) = -.03; asian: -2 (-.99 - .495) = 2.97
    shift = PaperRule().move(three(2, [0.98, 0.01, 0.01])).dense(3)
    assert shift[0].tolist() == pytest.approx([-2.94, -0.03, 2.97], abs=1e-5)


def test_three_groups_without_replacement_are_refused():
    with pytest.raises(BadInputError, match="two groups"):
        AlignRule(replace=False).move(three(2, [0.98, 0.01, 0.01]))
