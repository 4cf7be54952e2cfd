"""The decoding loop against transformers' ``generate``, and what a hook may and may not change."""

import pytest
import torch

from evenhand.models.decode import decode_greedily
from tiny_lm import tiny_lm

VOCABULARY, WIDTH, PREFIX, STEPS = 24, 16, 3, 16
NEVER = frozenset({VOCABULARY - 1})


def tiny(kind: str):
    model = tiny_lm(kind, vocabulary=VOCABULARY, seed=10, bos=0, eos=1, pad=2, matrices_only=True)
    with torch.no_grad():
        model.get_output_embeddings().weight[VOCABULARY - 1] = 0  # NEVER is never said
    return model


@pytest.fixture(scope="module", params=["gpt2", "gemma3"])
def lm(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def prefix() -> torch.Tensor:
    return torch.randn(7, PREFIX, WIDTH, generator=torch.Generator().manual_seed(4)) * 2


@pytest.fixture(scope="module")
def plain(lm, prefix) -> list[list[int]]:
    """What the model says where nothing stops or changes it."""
    return decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS)


class Swap:
    """Says ``new`` wherever the model would say ``old``; remembers what it was given."""

    def __init__(self, old: int, new: int) -> None:
        self.old, self.new, self.seen, self.foreseen = old, new, [], None

    def __call__(self, input_ids, scores):
        self.seen.append((input_ids.clone(), scores.clone()))
        moved = scores.clone()
        hit = scores.argmax(dim=1) == self.old
        moved[hit, self.new] = scores[hit].amax(dim=1) + 1
        self.wanted = torch.where(hit, self.old, -1)
        return moved

    def drafted(self):
        return self.wanted

    def foresee(self, upcoming):
        self.foreseen = upcoming

    def claims(self):
        return ()

    def edits(self, emitted):
        return ()

    def passed(self, emitted):
        return ()


class Pass(Swap):
    """Hands the scores back untouched."""

    def __init__(self) -> None:
        super().__init__(-1, -1)

    def __call__(self, input_ids, scores):
        return scores

    def drafted(self):
        return None


def cut(row: list[int], stops: set[int]) -> list[int]:
    end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
    return row[:end]


def a_common_token(plain: list[list[int]]) -> int:
    """A token some rows say in the middle of their answer."""
    middle = [token for row in plain for token in row[2:-2]]
    return max(set(middle), key=middle.count)


def test_equals_generate(lm, prefix, plain):
    lm.generation_config.eos_token_id = None
    mask = torch.ones(prefix.shape[:2], dtype=torch.long)
    theirs = lm.generate(
        inputs_embeds=prefix, attention_mask=mask, max_new_tokens=STEPS, do_sample=False, pad_token_id=2
    )
    assert plain == theirs.tolist()
    assert len({tuple(row) for row in plain}) > 3


def test_a_stop_token_ends_its_row_only(lm, prefix, plain):
    stop = a_common_token(plain)
    found = decode_greedily(lm, prefix, stop_ids=frozenset({stop}) | NEVER, max_new_tokens=STEPS)
    assert found == [cut(row, {stop}) for row in plain]
    assert {len(row) for row in found} != {STEPS}


def test_several_stop_tokens(lm, prefix, plain):
    stops = {plain[0][3], plain[1][5], plain[2][1]}
    found = decode_greedily(lm, prefix, stop_ids=frozenset(stops), max_new_tokens=STEPS)
    assert found == [cut(row, stops) for row in plain]


def test_seven_rows_are_seven_single_runs(lm, prefix, plain):
    for row in range(7):
        (single,) = decode_greedily(lm, prefix[row : row + 1], stop_ids=NEVER, max_new_tokens=STEPS)
        assert single == plain[row]


@pytest.mark.parametrize("length", [1, 5])
def test_the_longest_answer(lm, prefix, plain, length):
    found = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=length)
    assert found == [row[:length] for row in plain]


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_a_hook_that_does_nothing_changes_nothing(lm, prefix, plain, continuation):
    found = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=Pass(), continuation=continuation)
    assert found == plain


def test_draft_changes_the_corrected_tokens_only(lm, prefix, plain):
    old = a_common_token(plain)
    new = next(token for token in range(VOCABULARY) if all(token not in row for row in plain))
    found = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=Swap(old, new), continuation="draft")
    assert found == [[new if token == old else token for token in row] for row in plain]
    assert found != plain


def test_emitted_is_ordinary_decoding(lm, prefix, plain):
    # Row by row, without a cache: the whole text so far, corrections included, is fed again at each step.
    old, new = a_common_token(plain), 5
    hook, table = Swap(old, new), lm.get_input_embeddings()
    found = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=hook, continuation="emitted")
    for row, text in enumerate(found):
        for position, token in enumerate(text):
            with torch.inference_mode():
                so_far = table(torch.tensor([text[:position]], dtype=torch.long))
                logits = lm(inputs_embeds=torch.cat([prefix[row : row + 1], so_far], dim=1)).logits
            greedy = int(logits[0, -1].argmax())
            assert token == (new if greedy == old else greedy)


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_the_hook_sees_what_was_emitted(lm, prefix, plain, continuation):
    old = a_common_token(plain)
    hook = Swap(old, 5)
    found = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=hook, continuation=continuation)
    assert len(hook.seen) == STEPS
    for position, (ids, scores) in enumerate(hook.seen):
        assert ids.tolist() == [row[:position] for row in found]
        assert scores.dtype == torch.float32


def test_an_ended_row_triggers_nothing(lm, prefix, plain):
    # Row 0 stops where it first says its fourth token; from then on the hook finds only a stop token there.
    stop = plain[0][3]
    hook = Swap(-1, -1)
    found = decode_greedily(lm, prefix, stop_ids=frozenset({stop}), max_new_tokens=STEPS, hook=hook)
    ended_seen = 0
    for position, (_, scores) in enumerate(hook.seen):
        for row, text in enumerate(found):
            if position >= len(text):
                allowed = [token for token in range(VOCABULARY) if scores[row, token] > -torch.inf]
                assert allowed == [stop]
                ended_seen += 1
    assert ended_seen


def test_draft_row_that_stops_by_a_correction(lm, prefix, plain):
    # A correction may itself be a stop token: the row ends there, though the drafted token would have gone on.
    old = a_common_token(plain)
    stop = VOCABULARY - 1
    found = decode_greedily(
        lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=Swap(old, stop), continuation="draft"
    )
    assert found == [cut([stop if token == old else token for token in row], {stop}) for row in plain]


def test_half_precision_logits_reach_the_hook_in_float32(prefix):
    lm = tiny("gpt2").bfloat16()
    hook = Swap(-1, -1)
    decode_greedily(lm, prefix.bfloat16(), stop_ids=NEVER, max_new_tokens=2, hook=hook)
    assert {scores.dtype for _, scores in hook.seen} == {torch.float32}


def test_a_hook_that_knows_no_draft_still_changes_the_answer(lm, prefix, plain):
    class Quiet(Swap):
        def drafted(self):
            return None

    old = a_common_token(plain)
    loud = decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=Swap(old, 3))
    assert decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=Quiet(old, 3)) == loud
    assert loud != plain


def test_a_draft_is_foreseen_one_step_ahead(lm, prefix, plain):
    class Watch(Pass):
        def __init__(self):
            super().__init__()
            self.told = []

        def __call__(self, input_ids, scores):
            self.told.append(None if self.foreseen is None else self.foreseen.tolist())
            self.foreseen = None
            return scores

    watch = Watch()
    decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=watch, continuation="draft")
    # at step t the hook is told what the model says at t + 1
    assert watch.told[:-1] == [[row[t + 1] for row in plain] for t in range(STEPS - 1)]
    emitted = Watch()
    decode_greedily(lm, prefix, stop_ids=NEVER, max_new_tokens=STEPS, hook=emitted)
    assert emitted.told == [None] * STEPS


def test_rows_of_other_lengths_are_single_runs(lm, prefix):
    longer = torch.randn(1, PREFIX + 2, WIDTH, generator=torch.Generator().manual_seed(9)) * 2
    padded = torch.cat([torch.cat([torch.zeros(7, 2, WIDTH), prefix], dim=1), longer])
    mask = torch.ones(8, PREFIX + 2, dtype=torch.long)
    mask[:7, :2] = 0
    together = decode_greedily(lm, padded, mask=mask, stop_ids=NEVER, max_new_tokens=STEPS)
    apart = [decode_greedily(lm, prefix[i : i + 1], stop_ids=NEVER, max_new_tokens=STEPS)[0] for i in range(7)]
    assert together == [*apart, *decode_greedily(lm, longer, stop_ids=NEVER, max_new_tokens=STEPS)]
