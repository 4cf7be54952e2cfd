"""The transformers host on hand-made logits: what opens, what moves, what is remembered, what is refused."""

from dataclasses import replace
from math import exp, inf, log, nan, tanh

import pytest
import torch
from toy import (
    END,
    HE,
    MAN,
    PERSON,
    RIDES,
    SHE,
    SIGN,
    THE,
    THEY,
    VOCABULARY,
    WOMAN,
    A,
    RaisingSignal,
    RecordingScorer,
    RowSignal,
    bits,
    logits,
    openers,
)

from evenhand.errors import BadInputError, PictureError, TokenizerMismatchError
from evenhand.mitigate.ala.gating import Gating
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.records import Claim

NO_TEXT = torch.empty(3, 0, dtype=torch.long)
LISTED = [MAN, WOMAN, PERSON, HE, SHE, THEY]


def start(weights, tokenizer, rule, signal=None, *, rows=3, scorer=None, **options) -> AlaLogitsProcessor:
    return AlaLogitsProcessor(weights, scorer or WordScorer(), rule, signal, openers(rows), tokenizer, **options)


def test_a_closed_gate_costs_and_changes_nothing(weights, tokenizer):
    scorer = RecordingScorer()
    hook = start(weights, tokenizer, AlignRule(), RaisingSignal(), scorer=scorer)
    scores = logits(A, RIDES, PERSON)  # a neutral form does not open it
    assert hook(NO_TEXT, scores) is scores
    assert scorer.asked == []
    assert hook.claims() == (None, None, None)
    assert hook.edits([[A], [RIDES], [PERSON]]) == ((), (), ())
    assert hook.drafted() is None


def test_align_by_hand(weights, tokenizer):
    # Row 0 says man, seen +1: agrees. Row 1 says man, seen -1: alpha = tanh(4 / 2) = .9640276, n = 6 alpha = 5.784:
    # man loses 5.784, woman inherits: ln(e^.5 + e^5 (1 - e^-5.784)). Row 2 is closed.
    signal = RowSignal(1.0, -1.0, -1.0)
    hook = start(weights, tokenizer, AlignRule(), signal)
    scores = logits(MAN, MAN, RIDES)
    before = scores.clone()
    moved = hook(NO_TEXT, scores)
    assert bits(scores) == bits(before)
    assert bits(moved[0]) == bits(before[0])
    assert bits(moved[2]) == bits(before[2])
    n = 6 * tanh(2)
    inherited = log(exp(0.5) + exp(5) * (1 - exp(-n)))
    expected = before[1].clone()
    expected[[MAN, WOMAN]] = torch.tensor([5 - n, inherited])
    assert torch.allclose(moved[1], expected, atol=1e-5)
    assert int(moved[1].argmax()) == WOMAN
    assert signal.asked in ([0, 1], [1, 0])
    assert hook.claims() == (Claim(1.0, "test"), Claim(-1.0, "test"), None)
    assert hook.drafted().tolist() == [-1, MAN, -1]
    (edit,) = hook.edits([[MAN], [WOMAN], [RIDES]])[1]
    assert (edit.position, edit.start, edit.end) == (0, 0, 5)
    assert (edit.drafted.strip(), edit.emitted.strip()) == ("man", "woman")
    assert (edit.alpha, edit.s) == (pytest.approx(tanh(2)), -1.0)
    assert (edit.shift_drafted, edit.shift_emitted) == (pytest.approx(-n), pytest.approx(inherited - 0.5, abs=1e-5))
    assert (edit.attribute, edit.why) == ("gender", "contradicts the picture")


def test_the_trace_says_what_was_spent_and_what_was_left_alone(weights, tokenizer):
    hook = start(weights, tokenizer, AlignRule(), RowSignal(1.0, -1.0, None))
    scores = logits(MAN, MAN, MAN)
    moved = hook(NO_TEXT, scores)
    emitted = [[MAN], [WOMAN], [MAN]]
    p, q = scores[1].double().softmax(0), moved[1].double().softmax(0)
    assert hook.edits(emitted)[1][0].kl == pytest.approx(float((q * (q / p).log()).sum()), abs=1e-5)
    assert hook.edits(emitted)[0] == hook.edits(emitted)[2] == ()
    assert [edit.why for edit in hook.passed(emitted)[0]] == ["agrees"]
    assert hook.passed(emitted)[1] == ()
    assert [edit.why for edit in hook.passed(emitted)[2]] == ["no claim"]


def test_the_rest_of_the_vocabulary_keeps_its_probability(weights, tokenizer):
    scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    scores[range(3), [MAN, SHE, WOMAN]] = 6.0
    for rule in (AlignRule(), NeutralRule()):
        moved = start(weights, tokenizer, rule, RowSignal(-1.0, 1.0, 1.0))(NO_TEXT, scores)
        rest = [i for i in range(VOCABULARY) if i not in LISTED]
        assert not torch.equal(moved, scores)
        assert torch.allclose(moved.softmax(1)[:, rest], scores.softmax(1)[:, rest], atol=1e-6)


def test_a_picture_is_asked_about_once(weights, tokenizer):
    signal = RowSignal(-1.0, None, 1.0)
    hook = start(weights, tokenizer, AlignRule(), signal)
    text = NO_TEXT
    for greedy in ([RIDES, MAN, RIDES], [MAN, MAN, A], [SHE, HE, A], [MAN, MAN, A]):
        scores = logits(*greedy)
        moved = hook(text, scores)
        assert bits(moved[1]) == bits(scores[1])  # no claim: left alone
        text = torch.cat([text, torch.tensor(greedy)[:, None]], dim=1)
    assert signal.asked == [1, 0]  # when each first opened; row 2 never did
    assert hook.claims() == (Claim(-1.0, "test"), Claim(None, "test"), None)


def test_neutral_asks_no_picture(weights, tokenizer):
    hook = start(weights, tokenizer, NeutralRule(), RaisingSignal())
    scores = logits(MAN, SHE, RIDES)
    moved = hook(NO_TEXT, scores) - scores
    # man: n = 6 tanh(2), person inherits; she: half a word, n = 6 tanh(1), they inherits; everything else stays
    man, she = 6 * tanh(2), 6 * tanh(1)
    person = log(exp(0.6) + exp(5) * (1 - exp(-man))) - 0.6
    they = log(exp(0.9) + exp(5) * (1 - exp(-she))) - 0.9
    assert moved[0, LISTED].tolist() == pytest.approx([-man, 0, person, 0, 0, 0], abs=1e-5)
    assert moved[1, LISTED].tolist() == pytest.approx([0, 0, 0, 0, -she, they], abs=1e-5)
    assert not moved[2].any()
    assert hook.claims() == (None, None, None)


def test_neutral_raises_no_words_of_a_group(weights, tokenizer):
    generator = torch.Generator().manual_seed(1)
    for rule in (NeutralRule(), NeutralRule(replace=False), AlignRule(abstain="neutral")):
        # Beams are renormalised, and what is not weakened then gains its share; a replacement leaves nothing to share.
        for decoding in ("greedy", "sampling", "beams") if rule.replaces else ("greedy", "sampling"):
            scores = torch.randn(3, VOCABULARY, generator=generator) * 3
            scores[range(3), [MAN, SHE, WOMAN]] += 6.0
            hook = start(weights, tokenizer, rule, RowSignal(None, None, None), decoding=decoding)
            moved = hook(NO_TEXT, scores.log_softmax(1))
            groups = [token for token, sign in SIGN.items() if sign]
            assert (moved[:, groups] <= scores.log_softmax(1)[:, groups] + 1e-6).all()


def test_nothing_outside_the_listed_tokens_moves(weights, tokenizer):
    scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    scores[:, [MAN, SHE]] = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, -inf]])
    scores[:, [WOMAN, RIDES]] = -inf
    moved = start(weights, tokenizer, PaperRule(), GivenSignal(0.1))(NO_TEXT, scores)
    rest = [i for i in range(VOCABULARY) if not SIGN.get(i)]
    assert bits(moved[:, rest].contiguous()) == bits(scores[:, rest].contiguous())
    assert (moved == -inf).equal(scores == -inf)
    assert (moved[:, MAN] != scores[:, MAN]).all()


@pytest.mark.parametrize("rule", [PaperRule(), AlignRule(), AlignRule(replace=False), NeutralRule(), NearestRule()])
@pytest.mark.parametrize("decoding", ["greedy", "sampling", "beams"])
def test_what_a_grammar_forbids_stays_forbidden_and_nothing_is_nan(rule, decoding, weights, tokenizer):
    scores = logits(MAN, SHE, WOMAN)
    scores[:, [PERSON, HE, THEY]] = -inf
    scores[2, MAN] = -inf
    moved = start(weights, tokenizer, rule, RowSignal(-1.0, 1.0, 1.0), decoding=decoding)(NO_TEXT, scores)
    assert (moved == -inf).equal(scores == -inf)
    assert not moved.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", [PaperRule(), AlignRule(), AlignRule(strength=100.0), NeutralRule(), NearestRule()])
def test_half_precision_chooses_as_single_precision_does(dtype, rule, weights, tokenizer):
    scores = logits(MAN, SHE, WOMAN).to(dtype)
    signal = RowSignal(-1.0, 1.0, 1.0)
    half = start(weights, tokenizer, rule, signal)(NO_TEXT, scores)
    full = start(weights, tokenizer, rule, signal)(NO_TEXT, scores.float())
    assert half.dtype == dtype
    assert not half.isnan().any()
    assert torch.allclose(half.float(), full, atol=0.05, rtol=0.01)
    assert torch.equal(half.argmax(1), full.argmax(1))


@pytest.mark.parametrize("rule", [PaperRule(strength=0.0), AlignRule(strength=0.0), NeutralRule(strength=0.0)])
def test_zero_strength_is_the_identity(rule, weights, tokenizer):
    hook = start(weights, tokenizer, rule, GivenSignal(-1.0))
    scores = logits(MAN, SHE, A)
    assert bits(hook(NO_TEXT, scores)) == bits(scores)
    assert hook.edits([[MAN], [SHE], [A]]) == ((), (), ())


@pytest.mark.parametrize("padding", [0, 4])
def test_prompt_and_padding_do_not_reach_alpha(padding, weights, tokenizer):
    # With decay 1 every written word counts; the prompt's words never do.
    def moved(prompt: list[int]) -> torch.Tensor:
        hook = start(weights, tokenizer, PaperRule(), GivenSignal(0.0), rows=1, scorer=WordScorer(decay=1.0))
        before = torch.tensor([[1] * padding + prompt], dtype=torch.long)
        hook(before, logits(HE))
        return hook(torch.cat([before, torch.tensor([[HE]])], dim=1), logits(SHE))

    expected = logits(SHE)[0]  # L = 4 (.5 - .5) = 0, so alpha = 0 = s and nothing moves
    for prompt in ([A], [MAN, MAN, WOMAN], [SHE]):
        assert torch.allclose(moved(prompt)[0], expected, atol=1e-6)


RULES = [PaperRule(), AlignRule(margin=0.5), AlignRule(replace=False), AlignRule(abstain="neutral"), NeutralRule()]


@pytest.mark.parametrize("rule", [*RULES, NearestRule()])
@pytest.mark.parametrize("decoding", ["greedy", "sampling", "beams"])
def test_rows_are_single_runs(rule, decoding, weights, tokenizer):
    generator = torch.Generator().manual_seed(3)
    says = (0.7, -0.2, None, -1.0, 1.0)
    steps = [torch.randn(5, VOCABULARY, generator=generator) * 2 for _ in range(6)]
    for step in steps:  # group words often lead
        step[:, [MAN, WOMAN, HE, SHE]] += 2
    text = torch.randint(3, 13, (5, 6), generator=generator)

    def run(rows: list[int]) -> torch.Tensor:
        signal = RowSignal(*(says[row] for row in rows))
        hook = start(weights, tokenizer, rule, signal, rows=len(rows), scorer=WordScorer(decay=0.8), decoding=decoding)
        return torch.stack([hook(text[rows, :t], step[rows]) for t, step in enumerate(steps)])

    batch = run(list(range(5)))
    assert not torch.equal(batch, torch.stack(steps))
    for row in range(5):
        assert torch.allclose(batch[:, row], run([row])[:, 0], atol=1e-5)


# --- rows that are not pictures ------------------------------------------------------------------------------


def test_a_pictures_rows_share_its_claim_and_guidance_rows_are_left_alone(weights, tokenizer):
    signal = RowSignal(-1.0, 1.0)
    hook = start(weights, tokenizer, AlignRule(), signal, rows=2, owners=(0, 0, 1, None))
    scores = logits(MAN, HE, MAN, MAN)
    moved = hook(torch.empty(4, 0, dtype=torch.long), scores)
    assert moved.argmax(1).tolist() == [WOMAN, SHE, MAN, MAN]
    assert bits(moved[2:]) == bits(scores[2:])
    assert sorted(signal.asked) == [0, 1]


def test_reordered_rows_change_nothing(weights, tokenizer):
    # A beam search moves rows about between steps; what is done follows from the ids alone.
    scorer = RecordingScorer()
    texts = torch.tensor([[MAN, RIDES], [WOMAN, RIDES], [A, A]])
    one = start(weights, tokenizer, PaperRule(), GivenSignal(0.3), rows=1, owners=(0, 0, 0), scorer=scorer)
    other = start(weights, tokenizer, PaperRule(), GivenSignal(0.3), rows=1, owners=(0, 0, 0), scorer=scorer)
    one(texts[:, :0], logits(A, A, A))
    other(texts[:, :0], logits(A, A, A))
    scores, order = logits(HE, HE, SHE), torch.tensor([2, 0, 1])
    assert torch.equal(one(texts, scores)[order], other(texts[order], scores[order]))


def test_a_trace_follows_the_answer_through_beams(weights, tokenizer):
    hook = start(weights, tokenizer, AlignRule(), GivenSignal(-1.0), rows=1, owners=(0, 0))
    hook(torch.empty(2, 0, dtype=torch.long), logits(A, THE))
    hook(torch.tensor([[A], [THE]]), logits(MAN, HE))
    hook(torch.tensor([[THE, SHE], [A, WOMAN]]), logits(RIDES, HE))
    (edits,) = hook.edits([[A, WOMAN, SHE]])  # the second beam won, of the first one's beginning
    assert [(e.position, e.drafted.strip(), e.emitted.strip()) for e in edits] == [
        (1, "man", "woman"),
        (2, "he", "she"),
    ]


def test_rejected_drafts_leave_no_trace(weights, tokenizer):
    # Assisted decoding looks at a longer text first and takes it back.
    hook = start(weights, tokenizer, NeutralRule(), rows=1)
    prompt = torch.tensor([[A, A]])
    for text, greedy in ([[], A], [[A], MAN], [[A, MAN], HE], [[A], SHE], [[A, THEY], RIDES]):
        hook(torch.cat([prompt, torch.tensor([text], dtype=torch.long)], dim=1), logits(greedy))
    (edits,) = hook.edits([[A, THEY, RIDES]])
    assert [edit.position for edit in edits] == [1]


def test_another_prompt_needs_a_fresh_hook(weights, tokenizer):
    hook = start(weights, tokenizer, NeutralRule(), rows=1)
    hook(torch.tensor([[A, THE]]), logits(MAN))
    with pytest.raises(BadInputError, match="already answered"):
        hook(torch.tensor([[THE, THE]]), logits(MAN))
    with pytest.raises(BadInputError, match="already answered"):
        hook(torch.tensor([[A]]), logits(MAN))


# --- where the next token is drawn ---------------------------------------------------------------------------


def shared(**mass: float) -> torch.Tensor:
    """One row of log-probabilities; what is left is shared by the words that are not listed."""
    probabilities = torch.full((VOCABULARY,), 0.0)
    rest = [i for i in range(VOCABULARY) if i not in LISTED]
    names = {"man": MAN, "woman": WOMAN, "person": PERSON, "he": HE, "she": SHE, "they": THEY}
    for name, share in mass.items():
        probabilities[names[name]] = share
    probabilities[rest] = (1 - sum(mass.values())) / len(rest)
    return probabilities[None].log()


def test_a_word_that_is_not_the_likeliest_is_moved_too(weights, tokenizer):
    scores = shared(man=0.04, he=0.02, woman=0.01, they=0.001, person=0.002)
    drawn = start(weights, tokenizer, NeutralRule(strength=100.0), rows=1, decoding="sampling")
    found = drawn(NO_TEXT[:1], scores).exp()[0]
    assert found[[MAN, WOMAN, HE]].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert found[[PERSON, THEY]].tolist() == pytest.approx([0.052, 0.021], abs=1e-5)


@pytest.mark.parametrize(("mass", "moves"), [(0.012, True), (0.008, False)])
def test_the_gate_opens_on_probability_mass(mass, moves, weights, tokenizer):
    hook = start(weights, tokenizer, AlignRule(), GivenSignal(-1.0), rows=1, decoding="sampling")
    scores = shared(man=mass, woman=0.0001)
    assert torch.equal(hook(NO_TEXT[:1], scores), scores) is not moves


def test_a_text_that_names_a_person_is_followed_with_a_finer_ear(weights, tokenizer):
    def moved(*written: int) -> bool:
        hook = start(weights, tokenizer, AlignRule(), GivenSignal(-1.0), rows=1, decoding="sampling")
        hook(NO_TEXT[:1], shared(person=0.5))
        scores = shared(he=0.005, she=0.0001)
        return not torch.equal(hook(torch.tensor([list(written)]), scores), scores)

    assert not moved(A, RIDES)
    assert moved(A, PERSON)
    assert moved(A, WOMAN)


@pytest.mark.parametrize("rule", RULES)
def test_beams_keep_probabilities_of_sum_one(rule, weights, tokenizer):
    scores = shared(man=0.4, he=0.1, woman=0.05, person=0.1, they=0.02)
    hook = start(weights, tokenizer, rule, GivenSignal(-0.8), rows=1, decoding="beams")
    moved = hook(NO_TEXT[:1], scores)
    assert not torch.equal(moved, scores)
    assert float(moved.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_an_unsure_picture_gives_the_other_group_nothing_when_sampling(weights, tokenizer):
    scores = shared(man=0.6, woman=0.1)
    for signal in (GivenSignal(0.0), RowSignal(None)):
        hook = start(weights, tokenizer, AlignRule(), signal, rows=1, decoding="sampling")
        assert torch.equal(hook(NO_TEXT[:1], scores), scores)


@pytest.mark.parametrize("options", [{"mass": 0.0}, {"mass": 1.0}, {"mass": nan}, {"mass": 0.001, "mass_kept": 0.05}])
def test_gating_refuses(options):
    with pytest.raises(BadInputError, match="mass"):
        Gating(**options)


# --- refused -------------------------------------------------------------------------------------------------


def test_the_picture_signals_error_propagates(weights, tokenizer):
    hook = start(weights, tokenizer, AlignRule(), RaisingSignal())
    with pytest.raises(PictureError, match="cannot be read"):
        hook(NO_TEXT, logits(A, MAN, A))


@pytest.mark.parametrize("s", [nan, inf, -1.5])
def test_a_claim_out_of_range_is_refused(s, weights, tokenizer):
    hook = start(weights, tokenizer, AlignRule(), RowSignal(s, s, s))
    with pytest.raises(BadInputError, match="s = "):
        hook(NO_TEXT, logits(A, MAN, A))


def test_one_owner_per_row(weights, tokenizer):
    hook = start(weights, tokenizer, NeutralRule(), rows=2)
    with pytest.raises(BadInputError, match="3 rows and 2 owners"):
        hook(NO_TEXT, logits(A, A, A))
    with pytest.raises(BadInputError, match="owners"):
        start(weights, tokenizer, NeutralRule(), rows=2, owners=(0, 2))


@pytest.mark.parametrize("rule", [PaperRule(), AlignRule(), NearestRule()])
def test_a_rule_that_asks_needs_a_signal(rule, weights, tokenizer):
    with pytest.raises(BadInputError, match="picture signal"):
        start(weights, tokenizer, rule)


def test_logits_narrower_than_the_ids_are_refused(weights, tokenizer):
    with pytest.raises(TokenizerMismatchError, match="9 columns"):
        start(weights, tokenizer, NeutralRule())(NO_TEXT, logits(A, A, A, columns=THEY))
    fits = start(weights, tokenizer, NeutralRule())
    assert fits(NO_TEXT, logits(MAN, A, A, columns=THEY + 1)).shape == (3, THEY + 1)


def test_a_vocabulary_padded_beyond_the_table_is_left_alone(weights, tokenizer):
    scores = logits(MAN, MAN, END, columns=VOCABULARY + 64)
    moved = start(weights, tokenizer, NeutralRule())(NO_TEXT, scores)
    assert bits(moved[:, VOCABULARY:].contiguous()) == bits(scores[:, VOCABULARY:].contiguous())


def without_stand_in(weights, token: int, *, neutral: bool):
    entry = int(weights.entry[0, weights.token_ids.tolist().index(token)])
    counterparts, forms = weights.counterparts.clone(), weights.neutral_forms.clone()
    counterparts[entry] = -1
    if not neutral:
        forms[entry] = -1
    return replace(weights, counterparts=counterparts, neutral_forms=forms)


def test_a_word_without_a_stand_in_is_left_alone(tokenizer, weights):
    # "he" has no counterpart here and no neutral form: taking it back would leave its place to any other word.
    hook = start(without_stand_in(weights, HE, neutral=False), tokenizer, AlignRule(), GivenSignal(-1.0), rows=1)
    scores = logits(HE)
    assert hook(NO_TEXT[:1], scores) is scores


def test_a_word_without_a_counterpart_becomes_neutral(tokenizer, weights):
    hook = start(without_stand_in(weights, HE, neutral=True), tokenizer, AlignRule(), GivenSignal(-1.0), rows=1)
    scores = torch.zeros(1, VOCABULARY)
    scores[0, HE], scores[0, WOMAN], scores[0, THEY] = 20.0, 19.0, 1.0
    assert int(hook(NO_TEXT[:1], scores).argmax()) == THEY
