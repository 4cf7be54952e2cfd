"""Where a shift could go wrong without a sound: each of these did, once."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from toy import (
    HE,
    MAN,
    PERSON,
    RIDES,
    SHE,
    THEY,
    VOCABULARY,
    WOMAN,
    A,
    RecordingScorer,
    RowSignal,
    logits,
    openers,
)

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.ala import Ala
from evenhand.mitigate.ala.guards import GuardTables
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.several import SeveralProcessor
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.records import Claim

NO_TEXT = torch.empty(1, 0, dtype=torch.long)


class Says:
    """Always the same claim."""

    def __init__(self, claim: Claim) -> None:
        self.said, self.settings = claim, {"kind": "says"}

    def claim(self, picture) -> Claim:
        return self.said


def row(man: float = 3.0, woman: float = 1.0, person: float = 2.0, rest: float = -20.0) -> torch.Tensor:
    scores = torch.full((1, VOCABULARY), rest)
    scores[0, [MAN, WOMAN, PERSON]] = torch.tensor([man, woman, person])
    return scores.log_softmax(1)


def run(weights, tokenizer, rule, claim, scores, *, text=(), decoding="greedy", scorer=None):
    hook = AlaLogitsProcessor(
        weights, scorer or WordScorer(), rule, Says(claim), openers(1), tokenizer, decoding=decoding
    )
    prompt = torch.empty(1, 0, dtype=torch.long)
    if text:  # the first call says where the prompt ends
        hook(prompt, torch.zeros(1, VOCABULARY).log_softmax(1))
    return hook, hook(torch.tensor([list(text)], dtype=torch.long), scores.clone())


@pytest.mark.parametrize("decoding", ["greedy", "sampling", "beams"])
def test_the_right_word_stays_however_wrong_the_text_before_it(decoding, weights, tokenizer):
    # "woman woman ..." with a picture of a man: the text contradicts, the word "man" does not
    _, after = run(
        weights,
        tokenizer,
        AlignRule(),
        Claim(1.0, "g"),
        row(),
        text=(WOMAN, A, WOMAN, A),
        decoding=decoding,
        scorer=WordScorer(decay=1.0),
    )
    assert float(after.exp()[0, MAN]) >= 0.665 - 1e-3
    assert float(after.exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_a_picture_that_says_nothing_leaves_both_groups_alone(weights, tokenizer):
    for scores in (row(), row(man=1.0, woman=3.0)):
        _, after = run(weights, tokenizer, NearestRule(), Claim(0.0, "g"), scores)
        assert torch.equal(after, scores)


def test_an_abstaining_claim_with_shares_is_no_claim(weights, tokenizer):
    for rule in (PaperRule(), AlignRule()):
        _, after = run(weights, tokenizer, rule, Claim(None, "uncertain", shares=(0.5, 0.5)), row())
        assert torch.equal(after, row())


def test_a_claim_that_contradicts_itself_is_refused(weights, tokenizer):
    with pytest.raises(BadInputError, match="different groups"):
        run(weights, tokenizer, AlignRule(), Claim(1.0, "g", shares=(0.0, 1.0)), row())


@pytest.mark.parametrize("rule", [NearestRule(), AlignRule(strength=100.0, replace=False), PaperRule(strength=100.0)])
def test_a_forced_token_survives_beams(rule, weights, tokenizer):
    scores = torch.full((1, VOCABULARY), -torch.inf)
    scores[0, MAN] = 0.0
    hook, after = run(weights, tokenizer, rule, Claim(-1.0, "g"), scores, decoding="beams")
    assert after[0, MAN] == pytest.approx(0.0, abs=1e-5)
    assert (after == -torch.inf).sum() == VOCABULARY - 1
    assert all(edit.kl == pytest.approx(0.0, abs=1e-5) for edit in hook.edits([[MAN]])[0])


@pytest.mark.parametrize("gap", [90.0, 120.0, 300.0])
def test_the_divergence_of_a_far_stand_in(gap, weights, tokenizer):
    # nearly all probability moves over `gap` nats: KL is about the gap
    hook, _ = run(weights, tokenizer, AlignRule(), Claim(-1.0, "g"), row(man=10.0, woman=10.0 - gap, rest=-400.0))
    assert hook.edits([[WOMAN]])[0][0].kl == pytest.approx(gap, rel=0.03)


@pytest.mark.parametrize("banned", [-torch.inf, -1e9])
def test_a_banned_stand_in_stays_banned_and_the_trace_says_so(banned, weights, tokenizer):
    scores = row()
    scores[0, WOMAN] = banned
    hook, after = run(weights, tokenizer, AlignRule(), Claim(-1.0, "g"), scores)
    assert torch.equal(after, scores)
    assert [edit.why for edit in hook.passed([[MAN]])[0]] == ["nothing may stand in its place"]


def test_the_paper_shifting_a_right_word_is_not_called_a_contradiction(weights, tokenizer):
    hook, _ = run(weights, tokenizer, PaperRule(), Claim(0.6, "g"), row())
    assert hook.edits([[MAN]])[0][0].why == "carries another amount than the picture"


def test_weights_of_another_attribute_or_of_other_groups_are_refused(weights, tokenizer):
    parts = {"rule": AlignRule(), "scorer": WordScorer(), "signal": GivenSignal(1.0), "continuation": "draft"}
    for wrong in (replace(weights, groups=("female", "male")), replace(weights, attribute="race")):
        mode = Ala("mine", load_attribute("gender"), weights=wrong, guarded=False, **parts)
        with pytest.raises(BadInputError, match="Give weights of it"):
            mode.start(openers(1), tokenizer)


def test_nearest_refuses_a_scorer_of_the_next_state(weights, tokenizer):
    class Probe(RecordingScorer):
        wants_hidden = True

    with pytest.raises(BadInputError, match="another text scorer"):
        AlaLogitsProcessor(weights, Probe(), NearestRule(), GivenSignal(1.0), openers(1), tokenizer)


@pytest.mark.parametrize("rule", [NeutralRule(replace=False), AlignRule(replace=False)])
def test_rules_that_shift_leave_the_users_own_words_too(rule, weights, tokenizer):
    exempt = torch.tensor([[True, False]])  # the question names men
    hook = AlaLogitsProcessor(weights, WordScorer(), rule, GivenSignal(1.0), openers(1), tokenizer, exempt=exempt)
    scores = logits(WOMAN)
    moved = hook(NO_TEXT, scores)
    assert torch.equal(moved[:, [MAN, HE]], scores[:, [MAN, HE]])
    assert moved[0, WOMAN] < scores[0, WOMAN]


def test_each_pictures_own_words_count_for_it_alone(weights, tokenizer):
    exempt = torch.tensor([[False, False], [True, False]])
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(2), tokenizer, exempt=exempt)
    assert hook(NO_TEXT.expand(2, 0), logits(MAN, MAN)).argmax(1).tolist() == [PERSON, MAN]


def test_a_word_of_several_pieces_is_steered_at_its_last_piece(weights, tokenizer):
    # State 2: behind "rides", the tokens he / she end a word of their own, with weight 1.
    more = replace(
        weights,
        group=torch.cat([weights.group, weights.group[:1]]),
        weight=torch.cat([weights.weight, torch.ones_like(weights.weight[:1])]),
        entry=torch.cat([weights.entry, weights.entry[:1]]),
        keys=torch.tensor([RIDES]),  # state 0, then "rides"
        nexts=torch.tensor([2]),
        depth=1,
    )
    # Elsewhere he / she do not reach the threshold: only behind "rides" does the gate open.
    hook = AlaLogitsProcessor(more, WordScorer(), AlignRule(threshold=0.9), GivenSignal(-1.0), openers(2), tokenizer)
    hook(torch.empty(2, 0, dtype=torch.long), logits(A, A))
    moved = hook(torch.tensor([[RIDES], [A]]), logits(HE, HE))
    assert moved.argmax(1).tolist() == [SHE, HE]


def test_what_is_foreseen_holds_for_one_step_and_every_attribute(weights, tokenizer, monkeypatch):
    heard: list[object] = []

    class Listen:
        def __init__(self, tables):
            pass

        def code(self, written, entry, upcoming):
            heard.append(upcoming)
            return 0

    monkeypatch.setattr("evenhand.mitigate.ala.planned.GuardReader", Listen)
    made = [AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(1), tokenizer) for _ in range(2)]
    for one in made:
        one._guards = object.__new__(GuardTables)
    both = SeveralProcessor(made, budget=None, decoding="sampling")
    both.foresee(torch.tensor([A]))
    both(NO_TEXT, logits(MAN))
    assert heard == [A]  # person is no word of the second's
    heard.clear()
    made[1](NO_TEXT, logits(MAN))
    assert heard == [None]  # what was foreseen is used up, in the second too


def test_a_stand_in_of_the_first_attribute_is_not_moved_by_the_second(weights, tokenizer):
    # To the second attribute "person" is a word of a group, with "they" as its neutral form.
    entry = torch.tensor([[-1, -1, 0, -1, -1, -1]] * 2, dtype=torch.int16)
    other = replace(
        weights,
        attribute="other",
        group=torch.where(entry >= 0, 0, -1).to(torch.int8),
        weight=(entry >= 0).float(),
        entry=entry,
        neutral_forms=torch.tensor([[5]], dtype=torch.int16),
        counterparts=torch.tensor([[-1, -1]], dtype=torch.int16),
        spelling=torch.zeros(1, dtype=torch.int8),
        words=("person",),
    )
    both = SeveralProcessor(
        [AlaLogitsProcessor(w, WordScorer(), NeutralRule(), None, openers(1), tokenizer) for w in (weights, other)],
        budget=None,
    )
    assert int(both(NO_TEXT, logits(MAN)).argmax()) == PERSON
    assert [edit.attribute for edit in both.edits([[PERSON]])[0]] == ["gender"]
    assert int(both(NO_TEXT, logits(PERSON)).argmax()) == THEY


@pytest.mark.parametrize("rule", [PaperRule(), NeutralRule()])
def test_a_budget_under_beams_keeps_the_sum_and_the_trace_true(rule, weights, tokenizer):
    signal = RowSignal(-1.0)
    made = [
        AlaLogitsProcessor(w, WordScorer(), rule, signal, openers(1), tokenizer, decoding="beams")
        for w in (weights, replace(weights, attribute="other"))
    ]
    both = SeveralProcessor(made, budget=0.3, decoding="beams")
    scores = row(man=3.0, woman=1.0, person=2.0, rest=-2.0)
    moved = both(NO_TEXT, scores)
    assert float(moved.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    p, q = scores.double(), moved.double()
    true = float((q.exp() * (q - p)).sum())
    assert true <= 0.3 + 1e-4
    assert both.edits([[MAN]])[0][0].kl == pytest.approx(true, abs=1e-3)


def test_a_guarded_word_leaves_a_trace_where_tokens_are_drawn(weights, tokenizer, monkeypatch):
    monkeypatch.setattr(
        "evenhand.mitigate.ala.processor.blocked",
        lambda tables, weights, written, entry, upcoming: torch.where(entry >= 0, 5, 0),
    )
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(1), tokenizer, decoding="sampling")
    hook._guards = object()
    scores = logits(MAN).log_softmax(1)
    assert torch.equal(hook(NO_TEXT, scores), scores)
    assert [edit.why for edit in hook.passed([[MAN]])[0]] == ["quoted"]


def test_a_hook_that_saw_a_batch_refuses_another_even_if_nothing_was_said(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(1), tokenizer)
    hook(torch.tensor([[A]]), logits(A))  # no listed word in front
    with pytest.raises(BadInputError, match="already answered"):
        hook(torch.tensor([[RIDES]]), logits(MAN))


def test_even_shares_in_half_precision_are_no_edit():
    # 1/3 in float32 is 3e-8 more than 1/3: a text that carries nothing must not be moved by 1e-7 nats.
    for groups in (3, 5, 6, 7):
        even = torch.full((groups,), 1 / groups).tolist()
        assert NeutralRule().fall_of(even, 0, claimed=False) == 0.0
        assert AlignRule(abstain="neutral").fall_of(even, 0, claimed=False) == 0.0


def test_the_text_scorer_follows_the_weights_to_a_device(weights, tokenizer):
    class Listen(WordScorer):
        devices: ClassVar[list[str]] = []

        def start(self, weights, tokenizer):
            self.devices.append(weights.token_ids.device.type)
            return super().start(weights, tokenizer)

    hook = AlaLogitsProcessor(weights, Listen(decay=1.0), NeutralRule(), None, openers(1), tokenizer)
    hook._move(torch.device("meta"))
    assert Listen.devices == ["cpu", "meta"]


def test_a_scorer_that_keeps_states_is_asked_about_all_rows(weights, tokenizer):
    scorer = RecordingScorer()
    hook = AlaLogitsProcessor(weights, scorer, NeutralRule(), None, openers(3), tokenizer)
    hook(torch.empty(3, 0, dtype=torch.long), logits(A, MAN, A))
    assert len(scorer.asked[0][0]) == 3


def test_a_table_of_shares_that_depends_on_the_state_is_read_and_nobody_asked(weights, tokenizer):
    class ByState:
        settings: ClassVar[dict[str, str]] = {"kind": "by state"}

        def start(self, weights, tokenizer):
            # Inside a text "man" carries male, where nothing is written it carries nothing.
            self.by_token = torch.full((2, 6, 2), 0.5)
            self.by_token[0, 0] = torch.tensor([1.0, 0.0])
            return self

        def shares(self, *asked):
            raise AssertionError("the table says it")

    hook = AlaLogitsProcessor(weights, ByState(), NeutralRule(), None, openers(1), tokenizer)
    assert torch.equal(hook(NO_TEXT, logits(MAN)), logits(MAN))
    assert hook(torch.tensor([[A]]), logits(MAN)).argmax(1).tolist() == [PERSON]
