"""Our decoding loop against transformers' ``generate``: equal without a hook, and what a hook may change."""

import pytest
import torch
from tiny_vlm import KINDS, picture, save, text_model
from transformers import LogitsProcessor, LogitsProcessorList

from evenhand.errors import BadInputError
from evenhand.models.decode import decode_greedily
from evenhand.models.hidden import LastHidden, language_head
from evenhand.models.transformers_load import load_vision_language
from evenhand.models.transformers_loop import DecodingLoop, generate_text
from evenhand.models.transformers_prompt import PromptEncoder, form_for

QUESTIONS = ("What is the person doing?", "man", "A boy and a girl are playing with a ball near their mother.")
STEPS = 12


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Every kind of model, saved and loaded back, by name."""
    made = {}
    for kind in KINDS:
        folder = save(kind, tmp_path_factory.mktemp(kind))
        options = {"device": "cpu", "dtype": torch.float32, "revision": None, "trust_remote_code": False}
        found = load_vision_language(str(folder), **options)
        made[kind] = (found.model, PromptEncoder(found.processor, form_for(found.model.config.model_type)))
    return made


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def inputs_of(encoder, questions=QUESTIONS):
    if not encoder.form.pads:  # BLIP: prompts of one length share a batch
        questions = ["a picture of", "the woman and", "he is riding"][: len(questions)]
    return encoder.encode(questions, [picture(i + 1, side=56) for i in range(len(questions))])


@pytest.fixture(scope="module")
def lm():
    return text_model(vocabulary=40, seed=3)


@pytest.fixture(scope="module")
def prompt():
    return torch.tensor([[5, 6, 7], [8, 9, 10], [11, 12, 13], [7, 7, 9]])


def run(lm, prompt, hook=None, *, length=STEPS, seeds=None, eos=None, continuation="emitted", **call):
    """Answers of a text model; nothing stops it unless ``eos`` is given."""
    loop = DecodingLoop(hook, continuation, seeds=seeds, answers_only=True)
    lm.generation_config.eos_token_id = eos
    return lm.generate(
        prompt,
        attention_mask=call.pop("attention_mask", torch.ones_like(prompt)),
        max_new_tokens=length,
        custom_generate=loop,
        **call,
    )


class Hook:
    """Says ``new`` wherever the model would say ``old``; remembers what it was given."""

    def __init__(self, old=-1, new=0):
        self.old, self.new, self.seen, self.ahead, self.wanted = old, new, [], [], None

    def __call__(self, input_ids, scores):
        self.seen.append((input_ids.clone(), scores.clone()))
        hit = scores.argmax(dim=1) == self.old
        if not bool(hit.any()):
            self.wanted = None
            return scores
        moved = scores.clone()
        moved[hit, self.new] = scores[hit].amax(dim=1) + 1
        self.wanted = torch.where(hit, self.old, -1)
        return moved

    def foresee(self, upcoming):
        self.ahead.append(upcoming.tolist())

    def drafted(self):
        return self.wanted

    def claims(self):
        return ()

    def edits(self, emitted):
        return ((),) * len(emitted)

    def passed(self, emitted):
        return ((),) * len(emitted)


class Raise(Hook):
    """Adds nats to one token, everywhere."""

    def __init__(self, token, nats):
        super().__init__()
        self.token, self.nats = token, nats

    def __call__(self, input_ids, scores):
        self.seen.append((input_ids.clone(), scores.clone()))
        moved = scores.clone()
        moved[:, self.token] += self.nats
        self.wanted = scores.argmax(dim=1)
        return moved


def common_token(plain):
    middle = [token for row in plain for token in row[2:-2]]
    return max(set(middle), key=middle.count)


def test_greedy_equals_transformers_token_for_token(loaded, kind):
    model, encoder = loaded[kind]
    inputs = inputs_of(encoder)
    call = {"max_new_tokens": STEPS, "do_sample": False}
    theirs = model.generate(**inputs, **call)
    ours = generate_text(model, **inputs, **call, custom_generate=DecodingLoop())
    assert ours.tolist() == theirs.tolist()
    assert len({tuple(row) for row in ours.tolist()}) == 3  # the pictures and questions matter


def test_a_batch_is_its_single_runs(loaded, kind):
    model, encoder = loaded[kind]
    call = {"max_new_tokens": STEPS, "do_sample": True, "temperature": 3.0, "top_k": 0, "top_p": 0.9}
    whole = inputs_of(encoder)
    if encoder.form.pads:
        assert bool((whole["attention_mask"][:, 0] == 0).any())  # some row is padded on the left
    loop = DecodingLoop(seeds=[7, 8, 9], answers_only=True)
    together = generate_text(model, **whole, **call, custom_generate=loop)
    texts = QUESTIONS if encoder.form.pads else ["a picture of", "the woman and", "he is riding"]
    for i, text in enumerate(texts):
        inputs = encoder.encode([text], [picture(i + 1, side=56)])
        alone = generate_text(model, **inputs, **call, custom_generate=DecodingLoop(seeds=[7 + i], answers_only=True))
        assert alone == [together[i]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_the_hook_gets_float32(loaded, kind, dtype):
    model, encoder = loaded[kind]
    inputs = inputs_of(encoder)
    hook = Hook()
    try:
        half = model.to(dtype)
        ids = generate_text(
            half,
            **inputs.to("cpu", dtype=dtype),
            max_new_tokens=3,
            do_sample=False,
            custom_generate=DecodingLoop(hook, answers_only=True),
        )
    finally:
        model.float()
    assert len(ids) == 3
    assert {scores.dtype for _, scores in hook.seen} == {torch.float32}
    assert all(bool(torch.isfinite(scores).any()) for _, scores in hook.seen)


def test_janus_drops_logits_processors_and_we_do_not(loaded):
    model, encoder = loaded["janus"]
    inputs = inputs_of(encoder)
    calls = []

    class Count(LogitsProcessor):
        def __call__(self, input_ids, scores):
            calls.append(len(input_ids))
            return scores

    call = {"max_new_tokens": 3, "do_sample": False, "logits_processor": LogitsProcessorList([Count()])}
    theirs = model.generate(**inputs, **call, generation_mode="text")
    assert calls == []  # transformers 5.23: the reason for generate_text
    ours = generate_text(model, **inputs, **call, generation_mode="text")
    assert calls == [3, 3, 3]
    assert ours.tolist() == theirs.tolist()
    with pytest.raises(BadInputError, match="image"):
        generate_text(model, **inputs, **call, generation_mode="image")


def test_equals_the_captioners_loop_from_prefix_embeddings(lm):
    prefix = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(1))
    stop = 5
    plain = decode_greedily(lm, prefix, stop_ids=frozenset({stop}), max_new_tokens=STEPS)
    old = common_token(plain)
    for continuation in ("draft", "emitted"):
        hook, loop_hook = Hook(old, 20), Hook(old, 20)
        theirs = decode_greedily(
            lm, prefix, stop_ids=frozenset({stop}), max_new_tokens=STEPS, hook=hook, continuation=continuation
        )
        ours = lm.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(4, 3, dtype=torch.long),
            max_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop,
            custom_generate=DecodingLoop(loop_hook, continuation, answers_only=True),
        )
        assert ours == theirs != plain


def test_draft_changes_the_corrected_tokens_only(lm, prompt):
    plain = run(lm, prompt, do_sample=False)
    old = common_token(plain)
    new = next(token for token in range(40) if all(token not in row for row in plain))
    found = run(lm, prompt, Hook(old, new), continuation="draft", do_sample=False)
    assert found == [[new if token == old else token for token in row] for row in plain] != plain


def test_the_hook_hears_what_the_model_would_say_next(lm, prompt):
    stop = run(lm, prompt, do_sample=False)[0][4]
    plain = run(lm, prompt, do_sample=False, eos=stop)
    hook = Hook()
    assert run(lm, prompt, hook, continuation="draft", do_sample=False, eos=stop) == plain
    assert {len(row) for row in plain} != {STEPS}
    assert len(hook.ahead) == len(hook.seen) == max(len(row) for row in plain)
    for step, upcoming in enumerate(hook.ahead):
        for row, text in enumerate(plain):
            if step < len(text):  # the last token of an answer has none after it
                assert upcoming[row] == (text[step + 1] if step + 1 < len(text) else -1)


def test_emitted_is_ordinary_decoding(lm, prompt):
    # Row by row, without a cache: the whole text so far, corrections included, is read anew at each step.
    old = common_token(run(lm, prompt, do_sample=False))
    hook = Hook(old, 20)
    found = run(lm, prompt, hook, do_sample=False)
    assert hook.ahead == []
    for row, text in enumerate(found):
        for position, token in enumerate(text):
            so_far = torch.cat([prompt[row], torch.tensor(text[:position], dtype=torch.long)])[None]
            with torch.no_grad():
                greedy = int(lm(input_ids=so_far).logits[0, -1].argmax())
            assert token == (20 if greedy == old else greedy)


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_the_hook_sees_the_prompt_and_what_was_emitted(lm, prompt, continuation):
    old = common_token(run(lm, prompt, do_sample=False))
    hook = Hook(old, 20)
    found = run(lm, prompt, hook, continuation=continuation, do_sample=False)
    for position, (ids, _) in enumerate(hook.seen):
        assert ids.tolist() == [before + row[:position] for before, row in zip(prompt.tolist(), found, strict=True)]


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_an_ended_row_triggers_nothing(lm, prompt, continuation):
    stop = run(lm, prompt, do_sample=False)[0][2]
    hook = Hook()
    found = run(lm, prompt, hook, continuation=continuation, do_sample=False, eos=stop, pad_token_id=stop)
    over = 0
    for position, (_, scores) in enumerate(hook.seen):
        for row, text in enumerate(found):
            if position >= len(text):
                assert (scores[row] > -torch.inf).nonzero()[:, 0].tolist() == [stop]
                over += 1
    assert over


def test_the_hook_comes_behind_repetition_penalty_and_before_temperature(lm, prompt):
    hook, raw = Hook(), Hook()
    run(lm, prompt, raw, length=1, do_sample=False)
    sampled = {"do_sample": True, "temperature": 0.5, "top_k": 3}
    run(lm, prompt, hook, length=1, repetition_penalty=1.7, seeds=range(4), **sampled)
    # By the definition (Keskar et al. 2019): a seen token's score is divided by the penalty, or multiplied if negative.
    expected = raw.seen[0][1].clone()
    for row in range(4):
        for token in set(prompt[row].tolist()):
            value = expected[row, token]
            expected[row, token] = value / 1.7 if value > 0 else value * 1.7
    torch.testing.assert_close(hook.seen[0][1], expected)


def test_a_users_processor_comes_before_the_hook(lm, prompt):
    class Forbid(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores.index_fill(1, torch.tensor([9]), -torch.inf)

    hook = Hook()
    run(lm, prompt, hook, length=2, do_sample=False, logits_processor=LogitsProcessorList([Forbid()]))
    assert bool((hook.seen[0][1][:, 9] == -torch.inf).all())


def test_draws_follow_the_distribution(lm):
    # 4,000 rows, one step: every token's share lies within 4 standard errors of softmax(z / T) cut at top-p.
    rows, temperature, share = 4000, 4.0, 0.8
    prompt = torch.tensor([[5, 6, 7]]).expand(rows, 3)
    options = {"do_sample": True, "temperature": temperature, "top_p": share, "top_k": 0}
    drawn = [row[0] for row in run(lm, prompt, length=1, seeds=range(rows), **options)]
    with torch.no_grad():
        chances = (lm(input_ids=prompt[:1]).logits[0, -1] / temperature).softmax(dim=0).double()
    order = chances.argsort(descending=True)
    kept = order[: int((chances[order].cumsum(0) < share).sum()) + 1]
    expected = torch.zeros_like(chances)
    expected[kept] = chances[kept] / chances[kept].sum()
    found = torch.bincount(torch.tensor(drawn), minlength=40) / rows
    error = (expected * (1 - expected) / rows).sqrt()
    assert bool(((found - expected).abs() <= 4 * error + 1e-9).all())
    assert len(set(drawn)) > 2


def test_a_correction_keeps_the_draw_as_often_as_can_be(lm):
    # p: the model's distribution at temperature 4; q: the same with 8 nats more on one token before the temperature. A
    # maximal coupling differs from the draft with probability TV(p, q) = sum of max(0, q - p); its outcome follows q.
    rows, token = 4000, 9
    prompt = torch.tensor([[5, 6, 7]]).expand(rows, 3)
    options = {"do_sample": True, "temperature": 4.0, "top_k": 0, "top_p": 1.0}
    with torch.no_grad():
        p = lm(input_ids=prompt[:1]).logits[0, -1].double()
    q = p.clone()
    q[token] += 8
    p, q = (p / 4).softmax(0), (q / 4).softmax(0)
    plain = [row[0] for row in run(lm, prompt, length=1, seeds=range(rows), **options)]
    moved = [row[0] for row in run(lm, prompt, Raise(token, 8.0), length=1, seeds=range(rows), **options)]
    found = torch.bincount(torch.tensor(moved), minlength=40) / rows
    assert bool(((found - q).abs() <= 4 * (q * (1 - q) / rows).sqrt() + 1e-9).all())
    changed = sum(a != b for a, b in zip(plain, moved, strict=True)) / rows
    distance = float((q - p).clamp(min=0).sum())
    assert distance > 0.02
    assert abs(changed - distance) <= 4 * (distance * (1 - distance) / rows) ** 0.5
    assert {b for a, b in zip(plain, moved, strict=True) if a != b} == {token}  # nothing else gains


def test_draft_sampling_goes_on_as_the_model_alone_would(lm, prompt):
    options = {"do_sample": True, "temperature": 4.0, "top_k": 0, "seeds": [3, 4, 5, 6]}
    plain = run(lm, prompt, **options)
    token = 20
    found = run(lm, prompt, Raise(token, 8.0), continuation="draft", **options)
    pairs = [pair for rows in zip(plain, found, strict=True) for pair in zip(*rows, strict=True)]
    differs = [pair for pair in pairs if pair[0] != pair[1]]
    assert differs
    assert {after for _, after in differs} == {token}


def test_a_seed_gives_one_text_and_a_longer_answer_begins_with_it(lm, prompt):
    options = {"do_sample": True, "temperature": 4.0, "top_k": 0}
    long = run(lm, prompt, seeds=[3, 3, 4, 5], **options)
    assert run(lm, prompt, seeds=[3, 3, 4, 5], length=5, **options) == [row[:5] for row in long]
    other = run(lm, prompt, seeds=[13, 3, 4, 5], **options)
    assert other[0] != long[0]
    assert other[1:] == long[1:]


def test_without_seeds_the_global_generator_decides(lm, prompt):
    options = {"do_sample": True, "temperature": 4.0, "top_k": 0}
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        texts.append(run(lm, prompt, **options))
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_the_hidden_state_belongs_to_the_step_the_hook_is_asked_about(lm, prompt, continuation):
    hidden = LastHidden(lm)
    off = []

    class Read(Hook):
        def __call__(self, input_ids, scores):
            off.append(float((lm.lm_head(hidden()) - scores).detach().abs().max()))
            return super().__call__(input_ids, scores)

    loop = DecodingLoop(Read(), continuation, hidden=hidden)
    with hidden:
        lm.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False, custom_generate=loop
        )
    assert len(off) == 5
    assert max(off) < 1e-4
    assert not lm.lm_head._forward_pre_hooks  # nothing stays behind


def test_every_kind_has_a_language_head(loaded, kind):
    model, _ = loaded[kind]
    assert language_head(model).weight.shape[0] >= 100


def test_scores_and_logits_are_returned_as_transformers_does(lm, prompt):
    lm.generation_config.eos_token_id = None
    call = {
        "attention_mask": torch.ones_like(prompt),
        "max_new_tokens": 4,
        "do_sample": False,
        "repetition_penalty": 1.3,
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
    }
    theirs, ours = lm.generate(prompt, **call), lm.generate(prompt, **call, custom_generate=DecodingLoop())
    assert torch.equal(ours.sequences, theirs.sequences)
    for name in ("scores", "logits"):
        torch.testing.assert_close(torch.stack(ours[name]), torch.stack(theirs[name]))


def test_a_streamer_gets_every_token(lm, prompt):
    class Keep:
        def __init__(self):
            self.got, self.over = [], False

        def put(self, tokens):
            self.got.append(tokens.tolist())

        def end(self):
            self.over = True

    keep = Keep()
    loop = DecodingLoop(Hook(), "draft", streamer=keep, answers_only=True)
    lm.generation_config.eos_token_id = None
    ids = lm.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False, custom_generate=loop
    )
    assert [list(step) for step in zip(*ids, strict=True)] == keep.got
    assert keep.over


def test_without_a_cache_the_same_text(lm, prompt):
    assert run(lm, prompt, do_sample=False, use_cache=False) == run(lm, prompt, do_sample=False)


def test_refusals(lm, prompt):
    with pytest.raises(BadInputError, match="seeds: got 2 for 4 rows"):
        run(lm, prompt, seeds=[1, 2], do_sample=True)
    with pytest.raises(BadInputError, match="beams"):
        run(lm, prompt, num_beams=2)
    with pytest.raises(BadInputError, match="hidden states"):
        run(lm, prompt, do_sample=False, return_dict_in_generate=True, output_hidden_states=True)
    with pytest.raises(BadInputError, match="output head"):
        LastHidden(lm.model)
    with pytest.raises(BadInputError, match="no step"):
        LastHidden(lm)()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_device():
    lm = text_model(vocabulary=40, seed=3).cuda()
    prompt = torch.tensor([[5, 6, 7]], device="cuda")
    run(lm, prompt, Hook(), continuation="draft", length=2, do_sample=False)
    assert run(lm, prompt, length=20, do_sample=False) == run(lm.cpu(), prompt.cpu(), length=20, do_sample=False)
