"""What was worked out beforehand is what the rule does when it looks at the whole step."""

import pytest
import torch
from toy import HE, MAN, RIDES, SHE, VOCABULARY, WOMAN, A, RecordingScorer, RowSignal, openers

from evenhand.mitigate.ala.gating import gating_entries
from evenhand.mitigate.ala.guards import guard_tables
from evenhand.mitigate.ala.plan import plan_of
from evenhand.mitigate.ala.planned import OnDevice, RowByRow
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.records import Attribute, Guard

SAYS = (0.9, -0.6, None, 0.0, -1.0, 1.0, None, 0.3)
RULES = [AlignRule(), AlignRule(margin=0.7), AlignRule(abstain="neutral"), AlignRule(strength=1.0), NeutralRule()]


@pytest.mark.parametrize("way", [RowByRow, OnDevice])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scorer", [WordScorer(), RecordingScorer()], ids=["words", "context"])
def test_a_planned_step_is_the_rules_step(way, rule, scorer, weights, tokenizer, monkeypatch):
    monkeypatch.setattr("evenhand.mitigate.ala.processor.RowByRow", way)
    generator = torch.Generator().manual_seed(5)
    # Rows 5 and 6 belong to the pictures 2 and 0, row 7 to nobody; the user named a group of picture 4.
    owners, exempt = (0, 1, 2, 3, 4, 2, 0, None), torch.zeros(8, 2, dtype=torch.bool)
    exempt[4, 0] = True
    words = {"male": ("man", "he"), "female": ("woman", "she")}
    senses = (Guard("man", before=("the",)), Guard("she", after=("rides",)))
    attribute = Attribute("gender", ("male", "female"), (0.5, 0.5), words, words, (), {}, {}, "test", senses)
    guards = guard_tables(weights, attribute, tokenizer)

    def hook(*, planned: bool) -> AlaLogitsProcessor:
        signal = RowSignal(*SAYS)
        made = AlaLogitsProcessor(
            weights, scorer, rule, signal, openers(8), tokenizer, owners=owners, exempt=exempt, guards=guards
        )
        made._claims.ask(set(range(8)))  # as a device does
        if not planned:  # the tables that the plan made needless
            made._plan, made._text = None, scorer.start(weights, tokenizer)
            made._entry = gating_entries(weights, rule)
        return made

    planned, looked = hook(planned=True), hook(planned=False)
    assert planned._plan is not None
    named = torch.rand(160, 8, generator=generator) < 0.1
    text, moved = torch.empty(8, 0, dtype=torch.long), 0
    for step in range(160):
        upcoming = torch.randint(-1, VOCABULARY, (8,), generator=generator) if step % 2 else None
        for one in (planned, looked):
            one.lock(named[step] if step % 3 else None)
            if upcoming is not None:
                one.foresee(upcoming)
        scores = torch.randn(8, VOCABULARY, generator=generator) * 2
        scores[:, [MAN, WOMAN, HE, SHE]] += 2
        scores[torch.rand(8, VOCABULARY, generator=generator) < 0.1] = -torch.inf
        scores[:, RIDES] = 0.0
        one, other = planned(text, scores), looked(text, scores)
        assert torch.allclose(one, other, atol=1e-5)
        moved += int((one != scores).any(dim=1).sum())
        assert torch.equal(one[7], scores[7])
        text = torch.cat([text, one.argmax(dim=1, keepdim=True)], dim=1)
    assert moved >= 10
    answers = text.tolist()
    for a, b in zip(planned.edits(answers), looked.edits(answers), strict=True):
        assert [(e.position, e.drafted, e.emitted, e.why) for e in a] == [
            (e.position, e.drafted, e.emitted, e.why) for e in b
        ]
        assert [(e.alpha, e.s, e.shift_drafted, e.shift_emitted, e.kl) for e in a] == [
            pytest.approx((e.alpha, e.s, e.shift_drafted, e.shift_emitted, e.kl), abs=1e-4) for e in b
        ]
    left = [[(e.position, e.why) for e in edits] for edits in planned.passed(answers)]
    assert left == [[(e.position, e.why) for e in edits] for edits in looked.passed(answers)]
    if rule.reads_claim:
        assert {"other sense", "no claim"} <= {why for edits in left for _, why in edits}


def test_a_fall_in_numbers_is_a_fall_in_tensors():
    shares = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3], [0.3, 0.0, 0.7]])
    for rule in RULES:
        for groups in (2, 3):
            some = shares[:, :groups] / shares[:, :groups].sum(dim=1, keepdim=True).clamp(min=1e-9)
            for wanted in range(groups):
                for claimed in (False, True):
                    told = torch.full((4,), wanted), torch.full((4,), claimed)
                    fall = rule.fall(some[:, None], *told)[:, 0].tolist()
                    found = [rule.fall_of(row, wanted, claimed=claimed) for row in some.tolist()]
                    assert found == pytest.approx(fall, abs=1e-5)


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
