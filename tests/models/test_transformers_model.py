"""The adapter for transformers' vision-language models, on a tiny model of each real class, loaded from its folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vlm import KINDS, picture, prefer, save

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.hidden import wants_hidden
from evenhand.models.protocol import TextModel
from evenhand.models.transformers_model import TransformersModel, load_transformers_model
from evenhand.records import Claim, Edit, Prompt

STEPS = 10
TEXTS = ("What is the person doing?", "", "A boy and a girl are playing with a ball near their mother.")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def models(folders):
    return {kind: TransformersModel.from_pretrained(str(folders[kind]), max_new_tokens=STEPS) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for i, text in enumerate(TEXTS):
        path = folder / f"{i}.png"
        picture(i + 1, side=56 + 28 * i).save(path)
        made.append(Prompt(f"{i}.png", "test", text, str(path)))
    return made


class Recorder:
    """An intervention that adds nats to one token and remembers how it was started."""

    name, settings = "recorder", {}

    def __init__(self, token=None, *, continuation="emitted", wants_hidden=False):
        self.token, self.continuation, self.wants_hidden, self.started = token, continuation, wants_hidden, []

    def start(self, pictures, tokenizer, **options):
        self.started.append(([opener().size for opener in pictures], options))
        self.seen = []
        return self

    def __call__(self, input_ids, scores):
        self.seen.append(input_ids.shape[1])
        if self.token is None:
            return scores
        moved = scores.clone()
        moved[:, self.token] += 100
        return moved

    def foresee(self, upcoming):
        pass

    def drafted(self):
        return None

    def claims(self):
        return tuple(Claim(0.5, "given") for _ in self.started[-1][0])

    def edits(self, emitted):
        self.emitted = emitted
        return tuple((Edit(0, 0, 1, "a", "b", 0.0, 0.5, -1.0, 1.0),) for _ in emitted)

    def passed(self, emitted):
        return tuple((Edit(len(ids) - 1, 0, 1, "a", "a", 0.0, 0.5, 0.0, 0.0, why="agrees"),) for ids in emitted)


def test_every_kind_answers(models, kind, prompts):
    model = models[kind]
    assert isinstance(model, TextModel)
    samples = model.answer(prompts, seeds=[1, 2, 3])
    assert [sample.prompt_id for sample in samples] == ["0.png", "1.png", "2.png"]
    assert all(sample.error is None and sample.text is not None and 1 <= sample.tokens <= STEPS for sample in samples)
    assert len({sample.text for sample in samples}) == 3


def test_a_batch_is_its_single_answers(models, kind, prompts):
    together = models[kind].answer(prompts, seeds=[1, 2, 3])
    for i, prompt in enumerate(prompts):
        assert models[kind].answer([prompt], seeds=[i + 1]) == (together[i],)


def test_the_same_prompt_and_seed_give_the_same_draw_in_any_batch(folders, prompts):
    model = TransformersModel.from_pretrained(
        str(folders["qwen2_5_vl"]), max_new_tokens=STEPS, temperature=2.0, top_p=0.95
    )
    together = model.answer(prompts, seeds=[1, 2, 3])
    assert model.answer(prompts[::-1], seeds=[3, 2, 1])[::-1] == together
    assert model.answer(prompts[1:2], seeds=[2]) == together[1:2]
    assert model.answer(prompts[1:2], seeds=[9])[0].text != together[1].text


def test_what_is_asked_follows_the_model_family(models):
    def written(kind, text):
        return models[kind].prompts._written(text)

    assert written("llava", "Who?") == "USER: <image>\nWho? ASSISTANT:"
    assert written("llava", "") == "USER: <image>\nDescribe the photo in detail. ASSISTANT:"
    assert written("paligemma", "") == "<image>caption en"
    assert written("blip", "") == ""
    assert written("blip", "a picture of") == "a picture of"
    # chat templates of the checkpoint
    assert written("janus", "Who?") == "<|User|>: <image_placeholder>\nWho?\n<|Assistant|>:"
    assert written("qwen2_5_vl", "Who?") == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Who?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_tokenizer_alone_may_have_the_chat_template(models):
    prompts = models["janus"].prompts
    kept = prompts.processor.chat_template, prompts.tokenizer.chat_template
    try:
        prompts.processor.chat_template = None
        prompts.tokenizer.chat_template = "{{ messages[0]['role'] }}: {{ messages[0]['content'] }}"
        assert prompts._written("Who?") == "user: <image_placeholder>\nWho?"
        prompts.tokenizer.chat_template = None
        assert prompts._written("Who?") == "<image_placeholder>\nWho?"  # the general form
    finally:
        prompts.processor.chat_template, prompts.tokenizer.chat_template = kept


def test_no_start_token_is_written_twice(models):
    prompts = models["janus"].prompts
    kept = prompts.processor.chat_template
    bos = prompts.tokenizer.bos_token_id
    try:
        prompts.processor.chat_template = "{{ '<s>' }}<image_placeholder>who"
        ids = prompts.encode(["x"], [picture(1)])["input_ids"][0].tolist()
    finally:
        prompts.processor.chat_template = kept
    assert ids.count(bos) == 1
    assert prompts.encode(["x"], [picture(1)])["input_ids"][0].tolist().count(bos) == 1


def test_a_question_of_ones_own(folders, prompts):
    model = TransformersModel.from_pretrained(str(folders["llava"]), max_new_tokens=STEPS, question=TEXTS[0])
    empty, asked = Prompt("e", "test", "", prompts[0].image), prompts[0]
    first, second = model.answer([empty, asked], seeds=[1, 1])
    assert first.text == second.text


def test_what_cannot_be_read_becomes_an_error(models, kind, prompts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    asked = [Prompt("b", "test", "", str(broken)), prompts[0], Prompt("n", "test", "", None)]
    samples = models[kind].answer(asked, seeds=[5, 1, 6])
    assert [sample.error is None for sample in samples] == [False, True, False]
    assert samples[0].error.startswith("PictureError: ")
    assert samples[0].seed == 5
    assert samples[0].text is None
    assert samples[1] == models[kind].answer(prompts[:1], seeds=[1])[0]


def test_a_picture_the_processor_refuses_costs_no_other_its_answer(models, prompts, tmp_path):
    # Qwen2.5-VL takes pictures up to 200 times as long as wide.
    picture(1).resize((900, 3)).save(tmp_path / "long.png")
    asked = [Prompt("l", "test", "", str(tmp_path / "long.png")), prompts[0]]
    samples = models["qwen2_5_vl"].answer(asked, seeds=[1, 1])
    assert "refuses it" in samples[0].error
    assert samples[1] == models["qwen2_5_vl"].answer(prompts[:1], seeds=[1])[0]


def test_seeds_must_fit(models, prompts):
    with pytest.raises(BadInputError, match="seeds: got 1 for 3"):
        models["llava"].answer(prompts, seeds=[1])


def test_an_intervention_fills_the_sample(models, kind, prompts):
    model = models[kind]
    token = model.tokenizer.convert_tokens_to_ids("man" if kind == "blip" else "Ġman" if "qwen" in kind else "▁man")
    hook = Recorder(token)
    samples = model.answer(prompts, seeds=[1, 2, 3], intervention=hook)
    assert {sample.text for sample in samples} == {" ".join(["man"] * STEPS)}
    assert all(sample.tokens == STEPS and sample.claim == Claim(0.5, "given") for sample in samples)
    assert all(len(sample.edits) == 1 and sample.passed[0].position == STEPS - 1 for sample in samples)
    assert len(hook.started) == (3 if kind == "blip" else 1)  # BLIP is asked questions of one length at a time
    assert len(hook.seen) == STEPS


def test_the_hook_is_told_what_it_has_a_use_for(models, folders, prompts):
    hook = Recorder()
    models["llava"].answer(prompts[1:2], seeds=[1], intervention=hook)
    assert hook.started == [([(84, 84)], {"in_place": True})]
    facts = {"context": "The nurse said she was late."}
    asked = Prompt("c", "rag", "Context: The nurse said she was late. Who is he?", prompts[0].image, facts)
    models["llava"].answer([asked, prompts[1]], seeds=[1, 1], intervention=hook)
    assert hook.started[-1][1] == {"in_place": True, "asked": ["Context:  Who is he?", ""]}
    hidden = Recorder(wants_hidden=True)
    drawn = TransformersModel.from_pretrained(str(folders["llava"]), max_new_tokens=2, temperature=1.0)
    drawn.answer(prompts[1:2], seeds=[1], intervention=hidden)
    options = hidden.started[-1][1]
    assert options["decoding"] == "sampling"
    assert options["hidden"]().shape == (1, 32)


def test_wants_hidden_is_asked_of_the_intervention_and_its_scorer():
    class Scorer:
        wants_hidden = True

    class Mode:
        scorer = Scorer()

    assert wants_hidden(Mode())
    assert wants_hidden(Recorder(wants_hidden=True))
    assert not wants_hidden(Recorder())


def test_the_real_mitigation_corrects_words_and_nothing_else(models, prompts):
    presets = pytest.importorskip("evenhand.mitigate.ala.presets")
    from evenhand.mitigate.ala.picture.given import GivenSignal

    model = models["llava"]
    man = model.tokenizer.convert_tokens_to_ids("▁man")
    listener = Recorder()
    model.answer(prompts, seeds=[1, 2, 3], intervention=listener)
    said = listener.emitted[2][0]
    prefer(model.model.lm_head, man, said)
    try:
        plain = model.answer(prompts, seeds=[1, 2, 3])
        ala = presets.align(signal=GivenSignal(-1.0), guarded=False)
        samples = model.answer(prompts, seeds=[1, 2, 3], intervention=ala)
    finally:
        prefer(model.model.lm_head, man, said)
    assert plain[2].text.startswith("man")
    assert samples[2].text.startswith("woman")
    edits = [edit for sample in samples for edit in sample.edits]
    assert ("man", "woman") in {(edit.drafted.strip(), edit.emitted.strip()) for edit in edits}
    for before, after in zip(plain, samples, strict=True):
        assert "man" not in after.text.split()
        assert before.tokens == after.tokens
        assert after.claim == (Claim(-1.0, "given") if after.edits + after.passed else None)
        moved = "".join(" " if i in _spans(after) else letter for i, letter in enumerate(after.text))
        assert moved.split() == _without(before.text, after).split()


def _spans(sample):
    return {i for edit in sample.edits for i in range(edit.start, edit.end)}


def _without(text, sample):
    """The plain text with each drafted word taken out, in the order of the edits."""
    at = 0
    for edit in sample.edits:
        word = edit.drafted.strip()
        found = text.index(word, at)
        text, at = text[:found] + " " + text[found + len(word) :], found
    return text


def test_revision_says_what_may_change_an_answer(folders, tmp_path):
    def revision(folder, **options):
        return TransformersModel.from_pretrained(str(folder), **options).revision

    plain = revision(folders["blip"])
    assert plain == revision(folders["blip"])
    assert len({plain, revision(folders["blip"], max_new_tokens=9), revision(folders["blip"], question="a man")}) == 3
    assert (
        len({plain, revision(folders["blip"], temperature=1.0), revision(folders["blip"], dtype=torch.bfloat16)}) == 3
    )
    other = Path(shutil.copytree(folders["blip"], tmp_path / "other"))
    assert revision(other) == plain
    tensors = load_file(other / "model.safetensors")
    key = next(name for name in tensors if name.endswith("bias"))
    save_file({**tensors, key: tensors[key] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    assert revision(other) != plain


@pytest.fixture
def copied(folders, tmp_path):
    return Path(shutil.copytree(folders["llava"], tmp_path / "llava"))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_nan_weights_are_refused(copied):
    def spoil(tensors):
        name = sorted(tensors)[0]
        tensors[name].view(-1)[0] = float("nan")
        return tensors

    change_weights(copied, spoil)
    with pytest.raises(ArtefactError, match="NaN or infinity"):
        TransformersModel.from_pretrained(str(copied))


def test_a_model_without_its_language_head_is_refused(copied):
    change_weights(copied, lambda tensors: {k: v for k, v in tensors.items() if "lm_head" not in k})
    with pytest.raises(ArtefactError, match=r"lack.*lm_head.*random"):
        TransformersModel.from_pretrained(str(copied))


def test_a_model_that_writes_no_text_is_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config["vision_config"], "architectures": ["CLIPVisionModel"]}))
    with pytest.raises(ArtefactError, match="no vision-language model"):
        TransformersModel.from_pretrained(str(copied))


def test_an_absent_processor_is_refused(copied):
    (copied / "processor_config.json").unlink()
    with pytest.raises(ArtefactError, match="processor"):
        TransformersModel.from_pretrained(str(copied))


def test_a_pickle_is_never_read(copied):
    torch.save({"lm_head.weight": torch.zeros(1)}, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match="safetensors"):
        TransformersModel.from_pretrained(str(copied))


def test_code_beside_the_weights_is_not_run(copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "their_own", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ArtefactError):
        TransformersModel.from_pretrained(str(copied))
    assert not (tmp_path / "ran").exists()


def test_a_source_is_needed():
    with pytest.raises(BadInputError, match="hub id"):
        load_transformers_model()


@pytest.mark.parametrize(
    "options",
    [{"max_new_tokens": 0}, {"batch_size": 0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"top_p": 0}],
)
def test_numbers_out_of_range_are_refused_before_anything_is_read(options):
    with pytest.raises(BadInputError, match="allowed"):
        TransformersModel.from_pretrained("nowhere", **options)
