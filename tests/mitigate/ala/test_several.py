"""Two attributes on one row: each does what it does alone, the first has precedence, the budget holds."""

from dataclasses import replace

import pytest
import torch
from toy import HE, MAN, PERSON, RIDES, SHE, THE, THEY, VOCABULARY, WOMAN, A, logits, openers

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.ala import Ala, Several
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.several import SeveralProcessor
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.models.protocol import Intervention, LogitsHook

NO_TEXT = torch.empty(1, 0, dtype=torch.long)


@pytest.fixture
def ages(weights):
    """Another attribute over other words: rides is old, the is young, a is neutral."""
    return replace(
        weights,
        attribute="age",
        groups=("old", "young"),
        token_ids=torch.tensor([A, RIDES, THE]),
        group=torch.tensor([[-1, 0, 1]] * 2, dtype=torch.int8),
        weight=torch.tensor([[0.0, 1.0, 1.0]] * 2),
        entry=torch.tensor([[-1, 0, 1]] * 2, dtype=torch.int16),
        neutral_forms=torch.tensor([[0], [0]], dtype=torch.int16),
        counterparts=torch.tensor([[-1, 2], [1, -1]], dtype=torch.int16),
        spelling=torch.zeros(2, dtype=torch.int8),
        words=("rides", "the"),
    )


def processor(weights, tokenizer, rule, s: float = -1.0) -> AlaLogitsProcessor:
    return AlaLogitsProcessor(weights, WordScorer(), rule, GivenSignal(s), openers(1), tokenizer)


@pytest.mark.parametrize("rule", [PaperRule(), AlignRule(), NeutralRule()])
@pytest.mark.parametrize("greedy", [MAN, HE, RIDES])
def test_each_does_what_it_does_alone(rule, greedy, weights, ages, tokenizer):
    scores = logits(greedy)
    both = SeveralProcessor([processor(weights, tokenizer, rule), processor(ages, tokenizer, rule)], budget=None)
    alone = [processor(one, tokenizer, rule)(NO_TEXT, scores) - scores for one in (weights, ages)]
    assert torch.allclose(both(NO_TEXT, scores) - scores, sum(alone), atol=1e-5)
    ids = int((scores + sum(alone)).argmax())
    (edits,) = both.edits([[ids]])
    assert [edit.attribute for edit in edits] == ["age" if greedy == RIDES else "gender"]
    assert both.drafted().tolist() == [greedy]


def test_the_first_has_precedence(weights, tokenizer):
    # Both list "man"; the first makes it neutral, so the second finds no word of its own in front.
    other = replace(weights, attribute="other")
    both = SeveralProcessor(
        [processor(weights, tokenizer, NeutralRule()), processor(other, tokenizer, AlignRule())], budget=None
    )
    assert int(both(NO_TEXT, logits(MAN)).argmax()) == PERSON
    assert [edit.attribute for edit in both.edits([[PERSON]])[0]] == ["gender"]


@pytest.mark.parametrize("budget", [0.01, 0.2])
def test_the_budget_holds_and_the_trace_says_what_was_applied(budget, weights, ages, tokenizer):
    rules = [processor(weights, tokenizer, PaperRule()), processor(ages, tokenizer, PaperRule())]
    both = SeveralProcessor(rules, budget=budget)
    scores = logits(MAN)
    moved = both(NO_TEXT, scores)
    p, q = scores[0].double().softmax(0), moved[0].double().softmax(0)
    assert float((q * (q / p).log()).sum()) == pytest.approx(budget, abs=1e-5)
    (edit,) = both.edits([[MAN]])[0]
    assert edit.shift_drafted == pytest.approx(float(moved[0, MAN] - scores[0, MAN]), abs=1e-5)


def test_a_budget_that_suffices_changes_nothing(weights, ages, tokenizer):
    scores = logits(SHE)
    free, bound = (
        SeveralProcessor(
            [processor(weights, tokenizer, PaperRule(), 1.0), processor(ages, tokenizer, PaperRule(), 1.0)],
            budget=budget,
        )(NO_TEXT, scores)
        for budget in (None, 50.0)
    )
    assert torch.allclose(free, bound, atol=1e-5)


def mode(attribute, weights, **options) -> Ala:
    parts = {"rule": NeutralRule(), "scorer": WordScorer(), "signal": None, "continuation": "draft", "guarded": False}
    return Ala("neutral", attribute, weights=weights, **{**parts, **options})


def test_several_is_an_intervention(weights, ages, tokenizer):
    from evenhand.attributes import load_attribute

    gender = load_attribute("gender")
    other = replace(gender, name="age", groups=("old", "young"))
    both = Several(mode(gender, weights), mode(other, ages))
    assert isinstance(both, Intervention)
    hook = both.start(openers(1), tokenizer)
    assert isinstance(hook, LogitsHook)
    assert int(hook(NO_TEXT, logits(WOMAN)).argmax()) == PERSON
    assert int(both.start(openers(1), tokenizer)(NO_TEXT, logits(THE)).argmax()) == A
    assert hook.claims() == (None,)
    assert int(both.start(openers(1), tokenizer, in_place=True)(NO_TEXT, logits(HE)).argmax()) == THEY
    with pytest.raises(BadInputError, match="another attribute"):
        Several(mode(gender, weights), mode(gender, weights))
    with pytest.raises(BadInputError, match="another attribute"):
        Several(mode(gender, weights))
    with pytest.raises(BadInputError, match="budget"):
        Several(mode(gender, weights), mode(other, ages), budget=0.0)
    with pytest.raises(BadInputError, match="continuation"):
        Several(mode(gender, weights), mode(other, ages, continuation="emitted"))


def test_closed_gates_give_the_scores_back(weights, ages, tokenizer):
    both = SeveralProcessor(
        [processor(weights, tokenizer, NeutralRule()), processor(ages, tokenizer, NeutralRule())], budget=0.1
    )
    scores = logits(VOCABULARY - 1)
    assert both(NO_TEXT, scores) is scores
    assert both.drafted() is None
