"""What was worked out beforehand is what the rule does when it looks at the whole step."""

import pytest
import torch
from toy import HE, MAN, RIDES, SHE, VOCABULARY, WOMAN, A, RecordingScorer, RowSignal, openers

from evenhand.mitigate.ala.gating import gating_entries
from evenhand.mitigate.ala.plan import plan_of
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.text.lexicon import WordScorer

SAYS = (0.9, -0.6, None, 0.0, -1.0, 1.0, None, 0.3)
RULES = [AlignRule(), AlignRule(margin=0.7), AlignRule(abstain="neutral"), AlignRule(strength=1.0), NeutralRule()]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scorer", [WordScorer(), RecordingScorer()], ids=["words", "context"])
def test_a_planned_step_is_the_rules_step(rule, scorer, weights, tokenizer):
    generator = torch.Generator().manual_seed(5)

    def hook(*, planned: bool) -> AlaLogitsProcessor:
        made = AlaLogitsProcessor(weights, scorer, rule, RowSignal(*SAYS), openers(8), tokenizer)
        if not planned:  # the tables that the plan made needless
            made._plan, made._text = None, scorer.start(weights, tokenizer)
            made._entry = gating_entries(weights, rule)
        return made

    planned, looked = hook(planned=True), hook(planned=False)
    assert planned._plan is not None
    text, moved = torch.empty(8, 0, dtype=torch.long), 0
    for _ in range(40):
        scores = torch.randn(8, VOCABULARY, generator=generator) * 2
        scores[:, [MAN, WOMAN, HE, SHE]] += 2
        scores[torch.rand(8, VOCABULARY, generator=generator) < 0.1] = -torch.inf
        scores[:, RIDES] = 0.0
        one, other = planned(text, scores), looked(text, scores)
        assert torch.allclose(one, other, atol=1e-5)
        moved += int((one != scores).any(dim=1).sum())
        text = torch.cat([text, one.argmax(dim=1, keepdim=True)], dim=1)
    assert moved > 20
    answers = text.tolist()
    for a, b in zip(planned.edits(answers), looked.edits(answers), strict=True):
        assert [(e.position, e.drafted, e.emitted, e.why) for e in a] == [
            (e.position, e.drafted, e.emitted, e.why) for e in b
        ]
        assert [(e.alpha, e.s, e.shift_drafted, e.shift_emitted, e.kl) for e in a] == [
            pytest.approx((e.alpha, e.s, e.shift_drafted, e.shift_emitted, e.kl), abs=1e-4) for e in b
        ]
    assert [len(edits) for edits in planned.passed(answers)] == [len(edits) for edits in looked.passed(answers)]


def test_only_a_rule_that_replaces_has_a_plan(weights):
    for rule in (PaperRule(), AlignRule(replace=False), NeutralRule(replace=False), NearestRule()):
        assert plan_of(rule, weights, None) is None


def test_a_plan_by_hand(weights):
    # entries: man woman he she, then none; aims: male, female, no claim
    plan = plan_of(AlignRule(), weights, WordScorer().start(weights, None).by_token)
    assert plan.targets[0, 1].tolist() == [WOMAN]
    assert plan.targets[3, 0].tolist() == [HE]
    falls = [[plan.moves[entry, aim, 0].item() < 0 for aim in range(3)] for entry in range(5)]
    assert falls == [
        [False, True, False],  # man falls where female is claimed
        [True, False, False],
        [False, True, False],
        [True, False, False],
        [False, False, False],
    ]
    assert A not in plan.targets[:4].flatten().tolist()
