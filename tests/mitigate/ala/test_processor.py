"""The transformers host: alone on hand-made logits, then inside ``generate`` of two real architectures.

In ``generate`` it is compared with a plain loop over single unpadded rows, without a cache, whose arithmetic is
written out in Python here.
"""

# ruff: noqa: S106  (special tokens are not passwords)

from dataclasses import replace
from math import inf, nan, tanh
from typing import ClassVar

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
)

from evenhand.errors import BadInputError, PictureError, TokenizerMismatchError
from evenhand.mitigate.ala.kernel import LEAD
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.signals import GivenSignal, WordScorer
from evenhand.mitigate.ala.weights import TokenWeights, tokenizer_hash
from evenhand.records import Claim

WORDS = ("<unk>", "<pad>", "</s>", "▁a", "▁man", "▁woman", "▁person", "▁he", "▁she", "▁they", "▁rides", "▁.", "▁the")
A, MAN, WOMAN, PERSON, HE, SHE, THEY, RIDES, STOP = 3, 4, 5, 6, 7, 8, 9, 10, 11
SIGN = {MAN: 1.0, WOMAN: -1.0, PERSON: 0.0, HE: 0.5, SHE: -0.5, THEY: 0.0}
OTHER = {MAN: WOMAN, WOMAN: MAN, HE: SHE, SHE: HE}
NEUTRAL = {MAN: PERSON, WOMAN: PERSON, HE: THEY, SHE: THEY}
VOCABULARY = 20  # wider than the tokenizer, as padded checkpoints are


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    model = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


@pytest.fixture(scope="module")
def weights(tokenizer) -> TokenWeights:
    ids = sorted(SIGN)
    forms = torch.tensor([[NEUTRAL.get(token) == other for other in ids] for token in ids])
    direction = torch.tensor([SIGN[token] for token in ids])
    others = torch.tensor([[OTHER.get(token) == other for other in ids] for token in ids])
    return TokenWeights("gender", torch.tensor(ids), direction, forms, others, tokenizer_hash(tokenizer), ())


class RowSignal:
    """The claim of each row, read off its picture; remembers which pictures were looked at."""

    settings: ClassVar[dict[str, str]] = {"kind": "rows"}

    def __init__(self, *says: float | None) -> None:
        self.says = says
        self.asked: list[int] = []

    def claim(self, picture) -> Claim:
        row = picture().getpixel((0, 0))
        self.asked.append(row)
        return Claim(self.says[row], "test")


class RaisingSignal:
    settings: ClassVar[dict[str, str]] = {"kind": "raising"}

    def claim(self, picture) -> Claim:
        raise PictureError("the picture cannot be read")


class RaisingScorer(WordScorer):
    def alpha(self, written, drafted, token_ids, direction):
        raise AssertionError("the scorer was called")


def openers(rows: int) -> list:
    return [lambda row=row: Image.new("L", (1, 1), row) for row in range(rows)]


def logits(*greedy: int, columns: int = VOCABULARY) -> torch.Tensor:
    """One row per greedy token: it has 5 nats, every other token 0.1 times its id."""
    scores = (torch.arange(columns) * 0.1).repeat(len(greedy), 1)
    scores[range(len(greedy)), greedy] = 5.0
    return scores


def bits(values: torch.Tensor) -> bytes:
    return values.numpy().tobytes()


NO_TEXT = torch.empty(3, 0, dtype=torch.long)

# --- alone ---------------------------------------------------------------------------------------------------


def test_a_closed_gate_costs_and_changes_nothing(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, RaisingScorer(), AlignRule(), RaisingSignal(), openers(3), tokenizer)
    scores = logits(A, RIDES, PERSON)  # a neutral form does not open it
    assert hook(NO_TEXT, scores) is scores
    assert hook.claims() == (None, None, None)
    assert hook.edits([[A], [RIDES], [PERSON]]) == ((), (), ())


def test_align_by_hand(weights, tokenizer):
    # Row 0 says man, seen +1: agrees, nothing moves. Row 1 says man, seen -1: alpha = tanh(4 / 2) = .9640276,
    # shift = 6 * .9640276 * -1 * direction: man -5.784, woman +5.784, he -2.892, she +2.892. Row 2 is closed.
    signal = RowSignal(1.0, -1.0, -1.0)
    hook = AlaLogitsProcessor(weights, WordScorer(), AlignRule(), signal, openers(3), tokenizer)
    scores = logits(MAN, MAN, RIDES)
    before = scores.clone()
    moved = hook(NO_TEXT, scores)
    assert bits(scores) == bits(before)
    assert bits(moved[0]) == bits(before[0])
    assert bits(moved[2]) == bits(before[2])
    full = 6 * tanh(2)
    expected = before[1].clone()
    expected[[MAN, WOMAN, HE, SHE]] += torch.tensor([-full, full, -full / 2, full / 2])
    assert torch.allclose(moved[1], expected, atol=1e-5)
    assert int(moved[1].argmax()) == WOMAN
    assert signal.asked in ([0, 1], [1, 0])
    assert hook.claims() == (Claim(1.0, "test"), Claim(-1.0, "test"), None)
    (edit,) = hook.edits([[MAN], [WOMAN], [RIDES]])[1]
    assert (edit.position, edit.start, edit.end) == (0, 0, 5)
    assert (edit.drafted.strip(), edit.emitted.strip()) == ("man", "woman")
    assert (edit.alpha, edit.s) == (pytest.approx(tanh(2)), -1.0)
    assert (edit.shift_drafted, edit.shift_emitted) == (pytest.approx(-full), pytest.approx(full))


def test_a_picture_is_asked_about_once(weights, tokenizer):
    signal = RowSignal(-1.0, None, 1.0)
    hook = AlaLogitsProcessor(weights, WordScorer(), AlignRule(), signal, openers(3), tokenizer)
    text = NO_TEXT
    for greedy in ([RIDES, MAN, RIDES], [MAN, MAN, A], [SHE, HE, A], [MAN, MAN, A]):
        scores = logits(*greedy)
        moved = hook(text, scores)
        assert bits(moved[1]) == bits(scores[1])  # no claim: left alone
        text = torch.cat([text, torch.tensor(greedy)[:, None]], dim=1)
    assert signal.asked == [1, 0]  # when each first opened; row 2 never did
    assert hook.claims() == (Claim(-1.0, "test"), Claim(None, "test"), None)


def test_neutral_asks_no_picture(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), RaisingSignal(), openers(3), tokenizer)
    scores = logits(MAN, SHE, RIDES)
    moved = hook(NO_TEXT, scores) - scores
    # alpha = tanh(2) and tanh(-1), half a word: the groups lose, the drafted word's own form gains
    man, she = 6 * tanh(2), 6 * tanh(1)
    assert moved[0, [MAN, WOMAN, PERSON, HE, SHE, THEY]].tolist() == pytest.approx(
        [-man, -man, man, -man / 2, -man / 2, 0], abs=1e-5
    )
    assert moved[1, [MAN, WOMAN, PERSON, HE, SHE, THEY]].tolist() == pytest.approx(
        [-she, -she, 0, -she / 2, -she / 2, she], abs=1e-5
    )
    assert not moved[2].any()
    assert hook.claims() == (None, None, None)


def test_nothing_outside_the_listed_tokens_moves(weights, tokenizer):
    scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    scores[:, [MAN, SHE]] = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, -inf]])
    scores[:, [WOMAN, RIDES]] = -inf
    moved = AlaLogitsProcessor(weights, WordScorer(), PaperRule(), GivenSignal(0.1), openers(3), tokenizer)(
        NO_TEXT, scores
    )
    rest = [i for i in range(VOCABULARY) if not SIGN.get(i)]
    assert bits(moved[:, rest].contiguous()) == bits(scores[:, rest].contiguous())
    assert (moved == -inf).equal(scores == -inf)
    assert (moved[:, MAN] != scores[:, MAN]).all()


@pytest.mark.parametrize("rule", [PaperRule(strength=0.0), AlignRule(strength=0.0), NeutralRule(strength=0.0)])
def test_zero_strength_is_the_identity(rule, weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), rule, GivenSignal(-1.0), openers(3), tokenizer)
    scores = logits(MAN, SHE, A)
    assert bits(hook(NO_TEXT, scores)) == bits(scores)
    assert hook.edits([[MAN], [SHE], [A]]) == ((), (), ())


@pytest.mark.parametrize("padding", [0, 4])
def test_prompt_and_padding_do_not_reach_alpha(padding, weights, tokenizer):
    # With decay 1 every written word counts; the prompt's words never do.
    def moved(prompt: list[int]) -> torch.Tensor:
        hook = AlaLogitsProcessor(weights, WordScorer(decay=1.0), PaperRule(), GivenSignal(0.0), openers(1), tokenizer)
        before = torch.tensor([[1] * padding + prompt], dtype=torch.long)
        hook(before, logits(HE))
        return hook(torch.cat([before, torch.tensor([[HE]])], dim=1), logits(SHE))

    expected = logits(SHE)[0]  # L = 4 (.5 - .5) = 0, so alpha = 0 = s and nothing moves
    for prompt in ([A], [MAN, MAN, WOMAN], [SHE]):
        assert torch.allclose(moved(prompt)[0], expected, atol=1e-6)


@pytest.mark.parametrize("rule", [PaperRule(), AlignRule(margin=0.5), NeutralRule()])
def test_rows_are_single_runs(rule, weights, tokenizer):
    generator = torch.Generator().manual_seed(3)
    says = (0.7, -0.2, 0.0, -1.0, 1.0)
    steps = [torch.randn(5, VOCABULARY, generator=generator) * 2 for _ in range(6)]
    for step in steps:  # group words often lead
        step[:, [MAN, WOMAN, HE, SHE]] += 2
    text = torch.randint(3, 13, (5, 6), generator=generator)

    def run(rows: list[int]) -> torch.Tensor:
        signal = RowSignal(*(says[row] for row in rows))
        hook = AlaLogitsProcessor(weights, WordScorer(decay=0.8), rule, signal, openers(len(rows)), tokenizer)
        return torch.stack([hook(text[rows, :t], step[rows]) for t, step in enumerate(steps)])

    batch = run(list(range(5)))
    assert not torch.equal(batch, torch.stack(steps))
    for row in range(5):
        assert torch.allclose(batch[:, row], run([row])[:, 0], atol=1e-6)


def test_the_picture_signals_error_propagates(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), AlignRule(), RaisingSignal(), openers(3), tokenizer)
    with pytest.raises(PictureError, match="cannot be read"):
        hook(NO_TEXT, logits(A, MAN, A))


@pytest.mark.parametrize("s", [nan, inf, -1.5])
def test_a_claim_out_of_range_is_refused(s, weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), AlignRule(), RowSignal(s, s, s), openers(3), tokenizer)
    with pytest.raises(BadInputError, match="s = "):
        hook(NO_TEXT, logits(A, MAN, A))


def test_one_picture_per_row(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(2), tokenizer)
    with pytest.raises(BadInputError, match="3 rows and 2 pictures"):
        hook(NO_TEXT, logits(A, A, A))


@pytest.mark.parametrize("rule", [PaperRule(), AlignRule()])
def test_a_rule_that_asks_needs_a_signal(rule, weights, tokenizer):
    with pytest.raises(BadInputError, match="picture signal"):
        AlaLogitsProcessor(weights, WordScorer(), rule, None, openers(1), tokenizer)


def test_logits_narrower_than_the_ids_are_refused(weights, tokenizer):
    hook = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(3), tokenizer)
    with pytest.raises(TokenizerMismatchError, match="9 columns"):
        hook(NO_TEXT, logits(A, A, A, columns=THEY))
    fits = AlaLogitsProcessor(weights, WordScorer(), NeutralRule(), None, openers(3), tokenizer)
    assert fits(NO_TEXT, logits(MAN, A, A, columns=THEY + 1)).shape == (3, THEY + 1)


# --- inside generate -----------------------------------------------------------------------------------------

STEPS = 14
ROWS = ([A, MAN, RIDES], [RIDES, STOP, A, WOMAN, A], [A, A])
SAYS = (0.9, -0.6, None)
SEED = {"gpt2": 34, "gemma3": 10}  # models that say many of the words; the tests fail on one that says none


def tiny(kind: str):
    special = {"bos_token_id": 3, "eos_token_id": 2, "pad_token_id": 1, "tie_word_embeddings": False}
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2, **special)
        )
    else:
        config = Gemma3TextConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=64,
            sliding_window=8,
            **special,
        )
        model = Gemma3ForCausalLM(config)
    generator = torch.Generator().manual_seed(SEED[kind])
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return model.eval()


@pytest.fixture(scope="module", params=["gpt2", "gemma3"])
def model(request):
    return tiny(request.param)


def needs(rule) -> bool:
    return isinstance(rule, AlignRule)


def by_hand(rule, scorer: WordScorer, s: float | None, text: list[int], row: torch.Tensor):
    """The greedy token, the token chosen, and the nats per listed token; None where the row is left alone."""
    values = row.tolist()
    greedy = max(range(len(values)), key=values.__getitem__)
    if abs(SIGN.get(greedy, 0.0)) < rule.threshold or (rule.needs_claim and s is None):
        return greedy, greedy, None, 0.0
    total = SIGN[greedy] + sum(
        SIGN.get(token, 0.0) * scorer.decay**age for age, token in enumerate(reversed(text), start=1)
    )
    alpha = tanh(scorer.log_odds * total / 2)
    if isinstance(rule, PaperRule):
        nats = {token: -rule.strength * (alpha - s) * d for token, d in SIGN.items()}
    elif isinstance(rule, AlignRule):
        side = 1 if s > 0 else -1
        nats = {token: rule.strength * max(0.0, -side * alpha) * side * d for token, d in SIGN.items()}
    else:
        form = NEUTRAL[greedy]
        nats = {token: rule.strength * abs(alpha) * ((token == form) - abs(d)) for token, d in SIGN.items()}
    kept = {} if isinstance(rule, PaperRule) or not any(nats.values()) else (OTHER if needs(rule) else NEUTRAL)
    if greedy in kept:  # the replacement takes at least the drafted token's former place
        token, former = kept[greedy], values[greedy]
        top = max(former, *(values[t] + d for t, d in nats.items()))
        if values[token] + nats[token] < top:
            nats[token] += top - (values[token] + nats[token]) + LEAD
    for token, shift in nats.items():
        values[token] += shift
    return greedy, max(range(len(values)), key=values.__getitem__), nats, alpha


@torch.inference_mode()
def plain_loop(model, prompt: torch.Tensor, rule, scorer, s, stop: int | None):
    """One row, no padding, no cache: ids, edits as tuples, and whether a gate opened."""
    table, text, edits, opened = model.get_input_embeddings(), [], [], False
    for position in range(STEPS):
        embeds = torch.cat([prompt, table(torch.tensor([text], dtype=torch.long))], dim=1)
        row = model(inputs_embeds=embeds).logits[0, -1]
        greedy, chosen, nats, alpha = by_hand(rule, scorer, s, text, row)
        opened |= abs(SIGN.get(greedy, 0.0)) >= rule.threshold
        text.append(chosen)
        if nats and any(nats.values()):
            edits.append((position, greedy, chosen, alpha, nats[greedy], nats.get(chosen, 0.0)))
        if chosen == stop:
            break
    return text, edits, opened


def check_generate(model, weights, tokenizer, rule, scorer, *, embeds: bool, stop: int | None):
    table = model.get_input_embeddings()
    signal = RowSignal(*SAYS)
    hook = AlaLogitsProcessor(weights, scorer, rule, signal, openers(3), tokenizer)
    longest = max(map(len, ROWS))
    padded = torch.tensor([[1] * (longest - len(row)) + row for row in ROWS])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ROWS])
    model.generation_config.eos_token_id = stop
    given = {"inputs_embeds": table(padded).detach()} if embeds else {"input_ids": padded}
    out = model.generate(
        **given,
        attention_mask=mask,
        max_new_tokens=STEPS,
        do_sample=False,
        pad_token_id=1,
        logits_processor=LogitsProcessorList([hook]),
    )
    answers = [row[0 if embeds else longest :].tolist() for row in out]
    answers = [row[: row.index(stop) + 1] if stop in row else row for row in answers]
    traced, flips = hook.edits(answers), 0
    names = [word.removeprefix("▁") for word in WORDS] + [""] * (VOCABULARY - len(WORDS))
    for row, prompt in enumerate(ROWS):
        expected, edits, opened = plain_loop(
            model, table(torch.tensor([prompt])).detach(), rule, scorer, SAYS[row], stop
        )
        assert answers[row] == expected
        assert [edit.position for edit in traced[row]] == [edit[0] for edit in edits]
        text = tokenizer.decode(answers[row], skip_special_tokens=True).strip()
        for edit, (_, greedy, chosen, alpha, down, up) in zip(traced[row], edits, strict=True):
            assert (edit.drafted.strip(), edit.emitted.strip()) == (names[greedy], names[chosen])
            assert text[edit.start : edit.end] == names[chosen]
            assert (edit.alpha, edit.shift_drafted, edit.shift_emitted) == pytest.approx((alpha, down, up), abs=1e-4)
            assert edit.s == (pytest.approx(SAYS[row]) if rule.needs_claim else 0.0)
            flips += chosen != greedy
        if stop is None:  # a row that opened was asked about, once; no other was
            assert signal.asked.count(row) == (1 if opened and rule.needs_claim else 0)
    return flips, traced


@pytest.mark.parametrize("embeds", [False, True], ids=["ids", "embeds"])
@pytest.mark.parametrize(
    ("rule", "scorer"),
    [
        (PaperRule(strength=4.0), WordScorer(log_odds=2.0, decay=1.0)),
        (AlignRule(strength=30.0), WordScorer()),
        (NeutralRule(strength=30.0), WordScorer(decay=0.5)),
    ],
    ids=["paper", "align", "neutral"],
)
def test_generate_agrees_with_the_plain_loop(model, weights, tokenizer, rule, scorer, embeds):
    flips, traced = check_generate(model, weights, tokenizer, rule, scorer, embeds=embeds, stop=None)
    assert flips
    if rule.needs_claim:
        assert traced[2] == ()  # no claim: untouched


@pytest.mark.parametrize("stop", [MAN, PERSON, RIDES, 15])
def test_the_trace_ends_where_the_answer_ends(model, weights, tokenizer, stop):
    check_generate(model, weights, tokenizer, NeutralRule(strength=30.0), WordScorer(), embeds=False, stop=stop)


def test_an_untouched_generate_is_bit_identical(model, weights, tokenizer):
    def run(**options):
        return model.generate(
            torch.tensor([ROWS[1], ROWS[1]]),
            max_new_tokens=STEPS,
            do_sample=False,
            pad_token_id=1,
            output_logits=True,
            output_scores=True,
            return_dict_in_generate=True,
            **options,
        )

    model.generation_config.eos_token_id = None
    hook = AlaLogitsProcessor(weights, WordScorer(), AlignRule(strength=0.0), GivenSignal(1.0), openers(2), tokenizer)
    plain, hooked = run(), run(logits_processor=LogitsProcessorList([hook]))
    assert torch.equal(plain.sequences, hooked.sequences)
    assert [bits(step) for step in hooked.scores] == [bits(step) for step in plain.logits]


def test_the_signals_error_leaves_generate(model, weights, tokenizer):
    model.generation_config.eos_token_id = None
    wide = TokenWeights(  # every listed token opens, so a gate opens within a few steps
        "gender", weights.token_ids, torch.ones(6), weights.neutral_forms, weights.counterparts, weights.tokenizer, ()
    )
    hook = AlaLogitsProcessor(wide, WordScorer(), AlignRule(), RaisingSignal(), openers(1), tokenizer)
    with pytest.raises(PictureError, match="cannot be read"):
        model.generate(
            torch.tensor([ROWS[0]]), max_new_tokens=40, do_sample=False, pad_token_id=1, logits_processor=[hook]
        )


def test_a_word_without_a_stand_in_is_left_alone(tokenizer, weights):
    # "he" has no counterpart here and no neutral form: taking it back would leave its place to any other word.
    place = weights.token_ids.tolist().index(HE)
    lonely = replace(
        weights,
        counterparts=weights.counterparts.clone().index_fill_(0, torch.tensor([place]), False),
        neutral_forms=weights.neutral_forms.clone().index_fill_(0, torch.tensor([place]), False),
    )
    scores = torch.zeros(1, VOCABULARY)
    scores[0, HE] = 5.0
    hook = AlaLogitsProcessor(lonely, WordScorer(), AlignRule(), GivenSignal(-1.0), openers(1), tokenizer)
    assert hook(torch.empty(1, 0, dtype=torch.long), scores) is scores


def test_a_word_without_a_counterpart_becomes_neutral(tokenizer, weights):
    place = weights.token_ids.tolist().index(HE)
    only_neutral = replace(
        weights, counterparts=weights.counterparts.clone().index_fill_(0, torch.tensor([place]), False)
    )
    scores = torch.zeros(1, VOCABULARY)
    scores[0, HE], scores[0, WOMAN], scores[0, THEY] = 20.0, 19.0, 1.0
    hook = AlaLogitsProcessor(only_neutral, WordScorer(), AlignRule(), GivenSignal(-1.0), openers(1), tokenizer)
    assert int(hook(torch.empty(1, 0, dtype=torch.long), scores).argmax()) == THEY
