"""Mitigation attached to a model's own ``generate``: greedy, sampling, beams, assisted, guided, without pictures."""

import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

sys.path.append(str(Path(__file__).parents[2] / "models"))

from tiny_vlm import KINDS, picture, prefer, save, text_model, text_tokenizer

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.attach import Attached, attach
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.presets import align, neutral
from evenhand.models.transformers_load import load_vision_language
from evenhand.models.transformers_loop import generate_text
from evenhand.models.transformers_prompt import PromptEncoder, form_for
from evenhand.records import Claim, Edit

STEPS = 10
QUESTIONS = ("What is the person doing?", "man", "A boy and a girl are playing with a ball near their mother.")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
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


@pytest.fixture(scope="module")
def tokenizer():
    found = text_tokenizer()
    found.padding_side = "left"
    return found


@pytest.fixture(scope="module")
def lm(tokenizer):
    """A text model that says ``man`` early in its answer to ``the person is``."""
    model = text_model(vocabulary=len(tokenizer), seed=5)
    prompt = tokenizer("the person is", return_tensors="pt")
    said = int(model.generate(**prompt, max_new_tokens=2, do_sample=False)[0, -1])
    prefer(model.lm_head, tokenizer.convert_tokens_to_ids("▁man"), said)
    return model


@pytest.fixture(scope="module")
def text(tokenizer):
    return tokenizer(["the person is", "they are looking at the picture of", "she"], padding=True, return_tensors="pt")


class Recorder:
    """An intervention that changes nothing by itself and remembers all it is given."""

    name, settings = "recorder", {}

    def __init__(self, *, continuation="emitted", token=None, nats=0.0, wants_hidden=False, signal=None):
        self.continuation, self.token, self.nats, self.wants_hidden = continuation, token, nats, wants_hidden
        self.signal, self.options, self.calls, self.emitted = signal, None, [], None

    def start(self, pictures, tokenizer, **options):
        self.pictures, self.options, self.calls, self.read = pictures, options, [], []
        return self

    def __call__(self, input_ids, scores):
        self.calls.append((input_ids.clone(), scores.clone()))
        if "hidden" in self.options:
            self.read.append(self.options["hidden"]())
        if self.token is None:
            return scores
        moved = scores.clone()
        moved[:, self.token] += self.nats
        return moved

    def foresee(self, upcoming):
        pass

    def drafted(self):
        return None

    def claims(self):
        return (Claim(None, "neutral"),) * len(self.pictures)

    def edits(self, emitted):
        self.emitted = [list(ids) for ids in emitted]
        return tuple((Edit(len(ids), 0, 1, "a", "b", 0.0, 0.0, 0.0, 0.0),) for ids in emitted)

    def passed(self, emitted):
        return ((),) * len(emitted)


def inputs_of(encoder):
    questions = QUESTIONS if encoder.form.pads else ("a picture of", "the woman and", "he is riding")
    shown = [picture(i + 1, side=56) for i in range(3)]
    return encoder.encode(questions, shown), shown


def test_three_lines_on_every_kind(loaded, kind):
    model, encoder = loaded[kind]
    inputs, shown = inputs_of(encoder)
    attached = attach(model, Recorder(), encoder.processor)
    ids = attached.generate(**inputs, pictures=shown, max_new_tokens=STEPS, do_sample=False)
    plain = generate_text(model, **inputs, max_new_tokens=STEPS, do_sample=False)
    assert ids.tolist() == plain.tolist()
    hook = attached.ala
    assert len(hook.calls) > 0  # Janus' own generate would never call it
    prompt = hook.calls[0][0].shape[1]
    # An answer is handed to the trace without its prompt and without what stands behind its end.
    for answer, row in zip(hook.emitted, plain[:, prompt:].tolist(), strict=True):
        assert answer == row[: len(answer)]
        assert len(answer) == STEPS or len(set(row[len(answer) :])) <= 1
    assert [edits[0].position for edits in attached.edits] == [len(answer) for answer in hook.emitted]
    assert attached.claims == (Claim(None, "neutral"),) * 3
    assert hook.options == {"in_place": False}


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_the_real_mitigation_on_a_text_model_without_pictures(lm, tokenizer, text, continuation):
    plain = lm.generate(**text, max_new_tokens=STEPS, do_sample=False)
    said = tokenizer.batch_decode(plain[:, text["input_ids"].shape[1] :], skip_special_tokens=True)
    assert any(re.search(r"\b(man|he)\b", answer) for answer in said)
    for ala in (neutral(continuation=continuation), align(signal=GivenSignal(-1.0), continuation=continuation)):
        attached = attach(lm, ala, tokenizer)
        ids = attached.generate(**text, max_new_tokens=STEPS, do_sample=False)
        assert ids[:, : text["input_ids"].shape[1]].tolist() == text["input_ids"].tolist()
        edits = [edit for answer in attached.edits for edit in answer]
        assert edits
        if ala.name == "align":  # what is moved contradicts the given target
            assert {edit.drafted.strip() for edit in edits} <= {"man", "he", "his", "boy", "king", "father", "himself"}
        for row, answer in zip(ids[:, text["input_ids"].shape[1] :].tolist(), attached.edits, strict=True):
            for edit in answer:
                assert tokenizer.decode([row[edit.position]]).strip() == edit.emitted.strip()


def test_prompt_tokens_do_not_reach_the_scorer(lm, tokenizer, text):
    from evenhand.mitigate.ala.text.lexicon import WordScorer

    written = []

    class Listen:
        def __init__(self, inner):
            self.inner, self.settings, self.by_token = inner, inner.settings, None

        def start(self, weights, tokenizer):
            self.state = self.inner.start(weights, tokenizer)
            return self

        def shares(self, ids, candidates, hidden=None):
            written.append(ids.tolist())
            return self.state.shares(ids, candidates, hidden)

    ala = align(signal=GivenSignal(-1.0), scorer=Listen(WordScorer(decay=1.0)), continuation="emitted")
    attached = attach(lm, ala, tokenizer)
    ids = attached.generate(**text, max_new_tokens=STEPS, do_sample=False)[:, text["input_ids"].shape[1] :].tolist()
    assert written
    for rows in written:  # of the rows that are looked at
        beginnings = [row[: len(rows[0])] for row in ids]
        assert all(row in beginnings for row in rows)


def test_a_batch_is_its_single_runs_on_every_kind(loaded, kind):
    model, encoder = loaded[kind]
    inputs, shown = inputs_of(encoder)
    hook = Recorder(token=40, nats=4.0)  # moves every step's scores
    attached = attach(model, hook, encoder.processor)
    call = {"max_new_tokens": STEPS, "do_sample": False}
    attached.generate(**inputs, pictures=shown, **call)
    together = hook.emitted
    questions = QUESTIONS if encoder.form.pads else ("a picture of", "the woman and", "he is riding")
    for i, question in enumerate(questions):
        attached.generate(**encoder.encode([question], [shown[i]]), pictures=[shown[i]], **call)
        assert hook.emitted == [together[i]]


def test_beams_are_told_and_reordering_changes_no_alpha(lm, tokenizer, text):
    hook = Recorder()
    beams, returned = 4, 2
    attached = attach(lm, hook, tokenizer)
    call = {"max_new_tokens": STEPS, "num_beams": beams, "num_return_sequences": returned, "do_sample": False}
    ids = attached.generate(**text, **call)
    assert ids.tolist() == lm.generate(**text, **call).tolist()
    assert hook.options["decoding"] == "beams"
    assert hook.options["owners"] == [0] * 4 + [1] * 4 + [2] * 4
    assert len(attached.edits) == 3 * returned
    for _, scores in hook.calls:  # beams have log-probabilities
        torch.testing.assert_close(scores.logsumexp(dim=1), torch.zeros(12), atol=1e-4, rtol=0)
    # Rows are reordered between steps: some row does not continue the row that stood there before.
    moved = [
        bool((now[:, :-1] != before).any()) for (before, _), (now, _) in zip(hook.calls, hook.calls[1:], strict=False)
    ]
    assert any(moved)


def test_beams_with_the_real_mitigation_trace_what_was_returned(lm, tokenizer, text):
    attached = attach(lm, align(signal=GivenSignal(-1.0)), tokenizer)
    ids = attached.generate(**text, max_new_tokens=STEPS, num_beams=3, num_return_sequences=2, do_sample=False)
    assert len(attached.edits) == len(ids) == 6
    for row, answer in zip(ids[:, text["input_ids"].shape[1] :].tolist(), attached.edits, strict=True):
        for edit in answer:
            assert tokenizer.decode([row[edit.position]]).strip() == edit.emitted.strip()
    # Each prompt alone, where its beams stand in other rows: the same words, the same alpha.
    together = attached.edits
    for row, prompt in enumerate(["the person is", "they are looking at the picture of", "she"]):
        inputs = tokenizer(prompt, return_tensors="pt")
        attached.generate(**inputs, max_new_tokens=STEPS, num_beams=3, num_return_sequences=2, do_sample=False)
        for alone, before in zip(attached.edits, together[2 * row : 2 * row + 2], strict=True):
            assert [(e.position, e.drafted, e.emitted, e.alpha) for e in alone] == [
                (e.position, e.drafted, e.emitted, e.alpha) for e in before
            ]
    assert any(together)


def test_samples_of_a_prompt_share_its_picture(lm, tokenizer, text):
    hook = Recorder()
    torch.manual_seed(0)
    attached = attach(lm, hook, tokenizer)
    ids = attached.generate(**text, max_new_tokens=4, do_sample=True, temperature=3.0, num_return_sequences=3)
    assert len(ids) == 9
    assert hook.options["owners"] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert hook.options["decoding"] == "sampling"
    assert len(attached.edits) == 9
    assert attached.edits[8][0].position == len([t for t in ids[8, text["input_ids"].shape[1] :] if t not in (2, 3)])


def test_seeds_make_a_draw_independent_of_the_batch(lm, tokenizer, text):
    attached = attach(lm, neutral(), tokenizer)
    call = {"max_new_tokens": STEPS, "do_sample": True, "temperature": 3.0, "top_k": 0}
    together = attached.generate(**text, seeds=[4, 5, 6], **call)
    alone = attached.generate(**tokenizer("she", return_tensors="pt"), seeds=[6], **call)
    length = text["input_ids"].shape[1]
    answer = alone[0, 2:].tolist()
    assert together[2, length : length + len(answer)].tolist() == answer
    with pytest.raises(BadInputError, match="seeds"):
        attached.generate(**text, seeds=[4, 5, 6], max_new_tokens=2, num_beams=2)
    with pytest.raises(BadInputError, match="seeds"):
        attached.generate(**text, seeds=[4, 5, 6], max_new_tokens=2, do_sample=False)


def single(text):
    return {key: value[1:2] for key, value in text.items()}


@pytest.mark.parametrize("prompt", ["the person is", "people are looking at", "a doctor and a nurse", "a king is"])
def test_assisted_decoding_gives_the_same_text_as_greedy(lm, tokenizer, prompt):
    inputs = tokenizer(prompt, return_tensors="pt")
    call = {"max_new_tokens": STEPS, "do_sample": False}
    ala = align(signal=GivenSignal(-1.0), continuation="emitted")
    attached = attach(lm, ala, tokenizer)
    greedy = attached.generate(**inputs, **call)
    edits = attached.edits
    assert edits[0] or prompt != "the person is"
    assistant = text_model(vocabulary=len(tokenizer), seed=6)
    assert attached.generate(**inputs, **call, assistant_model=assistant).tolist() == greedy.tolist()
    assert _places(attached.edits) == _places(edits)
    assert not assistant._forward_pre_hooks
    assert not lm._forward_pre_hooks
    assert attached.generate(**inputs, **call, assistant_model=lm).tolist() == greedy.tolist()
    assert attached.generate(**inputs, **call, prompt_lookup_num_tokens=3).tolist() == greedy.tolist()
    assert _places(attached.edits) == _places(edits)


def _places(edits):
    return [[(edit.position, edit.drafted, edit.emitted) for edit in answer] for answer in edits]


def test_an_assistants_drafts_are_not_corrected(lm, tokenizer, text):
    inputs = single(text)
    hook = Recorder()
    assistant = text_model(vocabulary=len(tokenizer), seed=6)
    attached = attach(lm, hook, tokenizer)
    ids = attached.generate(**inputs, max_new_tokens=STEPS, do_sample=False, assistant_model=assistant)
    for seen, scores in hook.calls:  # every call's scores are the model's own for its ids
        with torch.no_grad():
            torch.testing.assert_close(lm(input_ids=seen).logits[:, -1], scores, atol=1e-4, rtol=1e-4)
    assert len(ids) == 1


def test_inputs_embeds_have_no_prompt_ids(lm, tokenizer, text):
    hook = Recorder()
    embeds = lm.get_input_embeddings()(text["input_ids"])
    attached = attach(lm, hook, tokenizer)
    call = {"attention_mask": text["attention_mask"], "max_new_tokens": STEPS, "do_sample": False}
    ids = attached.generate(inputs_embeds=embeds, **call)
    assert [seen.shape[1] for seen, _ in hook.calls] == list(range(len(hook.calls)))
    assert ids.tolist() == lm.generate(inputs_embeds=embeds, **call).tolist()
    same = attach(lm, Recorder(continuation="draft"), tokenizer).generate(inputs_embeds=embeds, **call)
    assert same.tolist() == ids.tolist()


def test_guidance_comes_before_the_hook_and_keeps_the_rows(lm, tokenizer, text):
    inputs = single(text)
    plain, guided = Recorder(), Recorder()
    call = {"max_new_tokens": 1, "do_sample": False}
    attach(lm, plain, tokenizer).generate(**inputs, **call)
    attach(lm, guided, tokenizer).generate(**inputs, **call, guidance_scale=2.0)
    scores, before = guided.calls[0][1], plain.calls[0][1]
    assert scores.shape == before.shape
    # Without a negative prompt the unconditional run has the last token alone: u + 2 (z - u) on log-probabilities.
    with torch.no_grad():
        alone = lm(input_ids=inputs["input_ids"][:, -1:]).logits[:, -1].log_softmax(-1)
    expected = alone + 2.0 * (before.log_softmax(-1) - alone)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_order_behind_repetition_penalty_and_the_users_own(lm, tokenizer, text, continuation):
    class Forbid(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores.index_fill(1, torch.tensor([50]), -torch.inf)

    hook, plain = Recorder(continuation=continuation), Recorder()
    call = {"max_new_tokens": 1, "do_sample": True}
    attach(lm, plain, tokenizer).generate(**text, max_new_tokens=1, do_sample=False)
    attached = attach(lm, hook, tokenizer)
    own = LogitsProcessorList([Forbid()])
    attached.generate(**text, **call, repetition_penalty=1.5, temperature=0.3, top_k=2, logits_processor=own)
    scores, raw = hook.calls[0][1], plain.calls[0][1]
    assert bool((scores[:, 50] == -torch.inf).all())
    seen = int(text["input_ids"][0, -1])
    value = float(raw[0, seen])
    assert float(scores[0, seen]) == pytest.approx(value / 1.5 if value > 0 else value * 1.5, rel=1e-5)
    unseen = next(token for token in range(60, 90) if token not in text["input_ids"])
    assert float(scores[0, unseen]) == pytest.approx(float(raw[0, unseen]), rel=1e-5)  # no temperature yet
    assert len(own) == 1  # the user's list is not changed


def test_rows_that_ended_trigger_nothing(lm, tokenizer, text):
    plain = lm.generate(**text, max_new_tokens=STEPS, do_sample=False)
    stop = int(plain[0, text["input_ids"].shape[1] + 2])
    hook = Recorder()
    ids = attach(lm, hook, tokenizer).generate(**text, max_new_tokens=STEPS, do_sample=False, eos_token_id=stop)
    over = 0
    for seen, scores in hook.calls:
        for row in range(3):
            if stop in seen[row, text["input_ids"].shape[1] :].tolist():
                assert int((scores[row] > -torch.inf).sum()) == 1
                over += 1
    assert over
    assert all(answer.count(stop) <= 1 for answer in hook.emitted)
    assert len(ids) == 3


@pytest.mark.parametrize("kind", ["llava", "paligemma", "qwen2_5_vl"])  # Janus' processor pads on the left only
def test_right_padding_is_refused(loaded, kind):
    model, encoder = loaded[kind]
    encoder.tokenizer.padding_side = "right"
    try:
        inputs, shown = inputs_of(encoder)
    finally:
        encoder.tokenizer.padding_side = "left"
    attached = attach(model, Recorder(), encoder.processor)
    with pytest.raises(BadInputError, match="padding_side = 'left'"):
        attached.generate(**inputs, pictures=shown, max_new_tokens=2)
    without = {key: value for key, value in inputs.items() if key != "attention_mask"}
    with pytest.raises(BadInputError, match="padded on the right"):
        attached.generate(**without, pictures=shown, max_new_tokens=2)


def test_pictures_that_are_needed_must_be_there(lm, tokenizer, text):
    class Signal:
        def __init__(self):
            self.settings = {}

        def claim(self, picture):
            picture()
            return Claim(-1.0, "given")

    with pytest.raises(BadInputError, match="align looks at pictures"):
        attach(lm, align(signal=Signal()), tokenizer).generate(**text, max_new_tokens=2)
    with pytest.raises(BadInputError, match="pictures: got 1 for 3"):
        attach(lm, align(signal=Signal()), tokenizer).generate(**text, pictures=[picture(1)], max_new_tokens=2)
    # A mitigation that does not say so up front finds out when it opens one.
    hook = Recorder()
    attach(lm, hook, tokenizer).generate(**text, max_new_tokens=1)
    with pytest.raises(BadInputError, match="recorder looks at pictures"):
        hook.pictures[0]()


def test_pictures_may_be_files_or_functions(lm, tokenizer, text, tmp_path):
    picture(2).save(tmp_path / "a.png")
    hook = Recorder()
    shown = [picture(1), str(tmp_path / "a.png"), lambda: picture(3)]
    attach(lm, hook, tokenizer).generate(**text, pictures=shown, max_new_tokens=1)
    assert [opener().tobytes() for opener in hook.pictures] == [picture(i).tobytes() for i in (1, 2, 3)]


def test_what_was_asked_is_handed_on(lm, tokenizer, text):
    hook = Recorder()
    attached = attach(lm, hook, tokenizer)
    attached.generate(**text, asked=["is he", "", ""], max_new_tokens=1)
    assert hook.options["asked"] == ["is he", "", ""]
    with pytest.raises(BadInputError, match="asked: got 1"):
        attached.generate(**text, asked=["is he"], max_new_tokens=1)


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_the_hidden_state_is_the_steps_own_and_only_read_when_wanted(lm, tokenizer, text, continuation):
    hook = Recorder(wants_hidden=True, continuation=continuation)
    attached = attach(lm, hook, tokenizer)
    attached.generate(**text, max_new_tokens=4, do_sample=False)
    assert len(hook.read) == 4
    for hidden, (_, scores) in zip(hook.read, hook.calls, strict=True):
        torch.testing.assert_close(lm.lm_head(hidden).detach(), scores, atol=1e-4, rtol=1e-4)
    assert not lm.lm_head._forward_pre_hooks
    attached.generate(**text, max_new_tokens=2, num_beams=2, do_sample=False)
    for hidden, (_, scores) in zip(hook.read, hook.calls, strict=True):
        torch.testing.assert_close(lm.lm_head(hidden).detach().log_softmax(-1), scores, atol=1e-4, rtol=1e-4)
    with pytest.raises(BadInputError, match="assisted"):
        attached.generate(**single(text), max_new_tokens=2, prompt_lookup_num_tokens=2)
    with pytest.raises(BadInputError, match="guidance"):
        attached.generate(**text, max_new_tokens=2, guidance_scale=2.0)


def test_blips_hidden_state_is_its_text_decoders(loaded):
    model, encoder = loaded["blip"]
    inputs, shown = inputs_of(encoder)
    hook = Recorder(wants_hidden=True)
    attach(model, hook, encoder.processor).generate(**inputs, pictures=shown, max_new_tokens=2, do_sample=False)
    head = model.text_decoder.get_output_embeddings()
    for hidden, (_, scores) in zip(hook.read, hook.calls, strict=True):
        torch.testing.assert_close(head(hidden).detach(), scores, atol=1e-4, rtol=1e-4)


def test_janus_keeps_beams_and_the_users_config(loaded):
    model, encoder = loaded["janus"]
    inputs, shown = inputs_of(encoder)
    hook = Recorder()
    attached = attach(model, hook, encoder.processor)
    attached.generate(**inputs, pictures=shown, max_new_tokens=3, num_beams=2, do_sample=False)
    assert hook.options["owners"] == [0, 0, 1, 1, 2, 2]
    assert hook.calls
    with pytest.raises(BadInputError, match="generation_mode"):
        attached.generate(**inputs, pictures=shown, max_new_tokens=3, generation_mode="image")


def test_a_generate_that_drops_the_mitigation_is_found_out(lm, tokenizer, text):
    class Deaf(type(lm)):
        def generate(self, *args, logits_processor=None, **call):
            return super().generate(*args, **call)

    deaf = Deaf(lm.config)
    with pytest.raises(BadInputError, match="took no notice"):
        attach(deaf, Recorder(), tokenizer).generate(**text, max_new_tokens=2)


def test_a_dictionary_is_returned_where_it_is_asked_for(lm, tokenizer, text):
    for continuation in ("draft", "emitted"):
        attached = attach(lm, neutral(continuation=continuation), tokenizer)
        made = attached.generate(**text, max_new_tokens=3, do_sample=False, return_dict_in_generate=True)
        assert made.sequences.shape[0] == 3
        assert len(attached.edits) == 3


def test_attached_says_nothing_before_it_is_used(lm, tokenizer):
    attached = attach(lm, neutral(), tokenizer)
    assert isinstance(attached, Attached)
    assert (attached.edits, attached.passed, attached.claims) == ((), (), ())


def test_the_page_runs(loaded, tmp_path, capsys):
    """Every code block of docs/transformers.md, in order, on a tiny LLaVA."""
    page = (Path(__file__).parents[3] / "docs" / "transformers.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 3
    folder = save("llava", tmp_path / "llava")
    picture(1, side=56).save(tmp_path / "photo.jpg")
    names = {}
    for block in blocks:
        code = block.replace("llava-hf/llava-1.5-7b-hf", str(folder)).replace("photo.jpg", str(tmp_path / "photo.jpg"))
        exec(compile(code, "docs/transformers.md", "exec"), names)  # noqa: S102
    assert capsys.readouterr().out
