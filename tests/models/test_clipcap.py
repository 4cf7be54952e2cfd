"""A whole captioner of tiny real parts: CLIP, mapper, GPT-2 and tokenizer, in memory and in a folder."""

# ruff: noqa: S106  (special tokens are not passwords)

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.presets import align, neutral
from evenhand.mitigate.ala.rules import AlignRule
from evenhand.models.clip_encoder import ClipImageEncoder
from evenhand.models.clipcap import ClipCap, Decoding, load_clipcap, read_tensors, save_clipcap
from evenhand.models.mapper import MlpMapper
from evenhand.models.protocol import TextModel
from evenhand.records import Prompt

WORDS = ("<unk>", "</s>", "<s>", "▁a", "▁man", "▁woman", "▁person", "▁he", "▁she", "▁they", "▁rides", "▁reads", ".")
FEATURES, WIDTH, PREFIX, STEPS, SIDE = 6, 16, 2, 12, 8
DECODING = Decoding(bos=True, stop=".", max_new_tokens=STEPS)


def random_weights(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.6)
    return model.eval()


def tiny_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def tiny_lm() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        bos_token_id=2,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    return random_weights(GPT2LMHeadModel(config), 21)  # says many of the words, and stops now and then


def tiny_clip(folder: Path) -> ClipImageEncoder:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
        projection_dim=FEATURES,
    )
    random_weights(CLIPVisionModelWithProjection(config), 1).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return ClipImageEncoder.from_pretrained(folder)


class MeanColours:
    """Six numbers of a picture, without a network: the mean colours of its upper and lower half."""

    name = "mean colours"
    feature_dim = FEATURES

    def encode(self, pictures):
        rows = []
        for picture in pictures:
            pixels = torch.from_numpy(np.array(picture.resize((1, 2), Image.Resampling.BOX)))
            rows.append(pixels.flatten() / 64 - 2)
        return torch.stack(rows)


def assemble(encoder, **changed) -> ClipCap:
    parts = {
        "mapper": random_weights(MlpMapper(FEATURES, WIDTH, PREFIX), 3),
        "lm": tiny_lm(),
        "tokenizer": tiny_tokenizer(eos_token="</s>", bos_token="<s>"),
        "decoding": DECODING,
        "name": "tiny",
        "revision": "0",
        **changed,
    }
    return ClipCap(encoder, parts.pop("mapper"), parts.pop("lm"), parts.pop("tokenizer"), **parts)


@pytest.fixture(scope="module")
def captioner() -> ClipCap:
    return assemble(MeanColours())


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> tuple[Prompt, ...]:
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(5)
    made = []
    for i in range(5):
        pixels = torch.randint(0, 256, (2, 2, 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels).resize((20, 20), Image.Resampling.NEAREST).save(folder / f"{i}.png")
        made.append(Prompt(f"{i}.png", "captioning", "", str(folder / f"{i}.png")))
    return tuple(made)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[ClipCap, Path]:
    """A captioner in a folder that holds all of it: CLIP, mapper, language model and tokenizer."""
    folder = tmp_path_factory.mktemp("captioner")
    captioner = assemble(tiny_clip(folder / "clip"))
    scene = {"labels": torch.zeros(2, FEATURES), "memory": torch.zeros(2, FEATURES)}
    save_file(scene, folder / "scene.safetensors")  # read only where the settings name a scene encoder
    captioner.lm.save_pretrained(folder / "lm")
    captioner.tokenizer.save_pretrained(folder / "lm")
    save_clipcap(captioner, folder, lm="lm", tokenizer="lm", encoder={"kind": "clip", "model": "clip"})
    return captioner, folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(saved[1], tmp_path / "copy")


def texts(captioner: ClipCap, prompts, **options) -> list[str | None]:
    return [sample.text for sample in captioner.answer(prompts, seeds=range(len(prompts)), **options)]


# --- answers -------------------------------------------------------------------------------------------------


def test_a_captioner_is_a_text_model(captioner):
    assert isinstance(captioner, TextModel)


def test_captions_equal_generate(captioner, prompts):
    found = texts(captioner, prompts)
    encoder, lm, table = MeanColours(), captioner.lm, captioner.lm.get_input_embeddings()
    for prompt, text in zip(prompts, found, strict=True):
        features = encoder.encode([Image.open(prompt.image).convert("RGB")])
        with torch.inference_mode():  # start token, then the mapper's prefix
            embeds = torch.cat([table(torch.tensor([[2]])), captioner.mapper(features)], dim=1)
            ids = lm.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
                max_new_tokens=STEPS,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=[1, WORDS.index(".")],
            )
        assert text == captioner.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert len(set(found)) > 1


def test_samples_record_prompt_and_seed(captioner, prompts):
    samples = captioner.answer(prompts, seeds=[7, 8, 9, 10, 11])
    assert [(s.prompt_id, s.seed, s.error, s.claim, s.edits) for s in samples] == [
        (f"{i}.png", 7 + i, None, None, ()) for i in range(5)
    ]


def test_a_batch_is_single_runs(captioner, prompts):
    assert texts(captioner, prompts) == [texts(captioner, [prompt])[0] for prompt in prompts]
    assert texts(captioner, prompts[::-1]) == texts(captioner, prompts)[::-1]


def test_no_prompts_give_no_samples(captioner):
    assert captioner.answer([], seeds=[]) == ()


def test_a_seed_per_prompt(captioner, prompts):
    with pytest.raises(BadInputError, match="seeds"):
        captioner.answer(prompts, seeds=[1])


@pytest.mark.parametrize("intervention", [None, neutral()], ids=["plain", "neutral"])
def test_bad_pictures_become_errors_and_touch_no_other(captioner, prompts, tmp_path, intervention):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(prompts[0].image).read_bytes()[:60])
    bad = [replace(prompts[0], image=image) for image in (str(broken), str(tmp_path / "absent.png"), None)]
    mixed = [bad[0], prompts[0], bad[1], prompts[1], prompts[2], bad[2]]
    samples = captioner.answer(mixed, seeds=range(6), intervention=intervention)
    expected = captioner.answer(prompts[:3], seeds=[1, 3, 4], intervention=intervention)
    assert (samples[1], samples[3], samples[4]) == expected
    for place in (0, 2, 5):
        assert samples[place].text is None
        assert samples[place].error.startswith("PictureError: ")
    only_bad = captioner.answer(bad, seeds=range(3), intervention=intervention)
    assert [sample.text for sample in only_bad] == [None, None, None]


def test_stop_tokens_end_the_caption(captioner):
    for stop in (".", "▁rides"):
        text = stop.replace("▁", " ").strip()
        ending = assemble(MeanColours(), decoding=replace(DECODING, stop=text))
        assert ending._stop_ids >= {1}
    assert captioner._stop_ids == {1, WORDS.index(".")}


@pytest.mark.parametrize("continuation", ["draft", "emitted"])
def test_edits_point_at_the_words(captioner, prompts, continuation):
    plain = texts(captioner, prompts)
    mode = align(signal=GivenSignal(-1.0), rule=AlignRule(strength=100.0), continuation=continuation)
    samples = captioner.answer(prompts, seeds=range(5), intervention=mode)
    assert sum(len(sample.edits) for sample in samples)
    for sample, before in zip(samples, plain, strict=True):
        assert sample.claim is None or sample.claim.s == -1.0
        for edit in sample.edits:
            assert sample.text[edit.start : edit.end] == edit.emitted.strip()
            assert edit.drafted.strip() in ("man", "he")
            assert edit.emitted.strip() in ("woman", "she")
        assert "man" not in sample.text.split()
        if continuation == "draft":  # nothing but the corrected words differs
            at = [len(sample.text[: edit.start].split()) for edit in sample.edits]
            changed = zip(before.split(), sample.text.split(), strict=True)
            assert [i for i, (a, b) in enumerate(changed) if a != b] == at


def test_a_prompts_text_stands_before_its_picture(captioner, prompts):
    def said(*words: str) -> list[str]:
        asked = [replace(prompt, text=text) for prompt, text in zip(prompts, words, strict=True)]
        return texts(captioner, asked)

    plain = texts(captioner, prompts)
    assert said("", "", "", "", "") == plain
    # prompts of different lengths, one of them empty, in one batch: each is what it is alone
    mixed = ("a woman", "", "he rides", "a woman rides", "a")
    together = said(*mixed)
    alone = [texts(captioner, [replace(p, text=text)])[0] for p, text in zip(prompts, mixed, strict=True)]
    assert together == alone
    assert together[1] == plain[1]
    assert together != plain


def test_a_retrieved_passage_is_not_the_users_words(captioner, prompts):
    class Asked:
        name, continuation, settings = "asked", "emitted", {}

        def start(self, pictures, tokenizer, **given):
            self.given = given
            return neutral().start(pictures, tokenizer, **given)

    mode = Asked()
    asked = [
        replace(prompts[0], text="Context:\na man\n\nWho rides?", facts={**prompts[0].facts, "context": "a man"}),
        replace(prompts[1], text="Is it a woman?"),
    ]
    captioner.answer(asked, seeds=range(2), intervention=mode)
    assert mode.given["asked"] == ["Context:\n\n\nWho rides?", "Is it a woman?"]


# --- parts that do not join ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "width"), [(FEATURES + 1, WIDTH), (FEATURES, WIDTH + 2)])
def test_a_mapper_for_other_parts_is_refused(features, width):
    with pytest.raises(ArtefactError, match="does not join"):
        assemble(MeanColours(), mapper=MlpMapper(features, width, PREFIX))


def test_a_start_token_must_exist():
    with pytest.raises(ArtefactError, match="start token"):
        assemble(MeanColours(), tokenizer=tiny_tokenizer(eos_token="</s>"))


def test_something_must_end_a_caption():
    with pytest.raises(ArtefactError, match="end token"):
        assemble(MeanColours(), tokenizer=tiny_tokenizer(bos_token="<s>"), decoding=replace(DECODING, stop="!"))


# --- folders -------------------------------------------------------------------------------------------------


def test_a_loaded_captioner_says_the_same(saved, prompts):
    captioner, folder = saved
    loaded = load_clipcap(folder)
    assert texts(loaded, prompts) == texts(captioner, prompts)
    assert len(set(texts(loaded, prompts))) > 1
    assert loaded.name == folder.name
    assert load_clipcap(folder, name="mine").name == "mine"


@pytest.mark.parametrize("part", ["mapper.safetensors", "lm/model.safetensors", "clip/model.safetensors"])
def test_the_revision_changes_with_every_weight(saved, folder, part):
    before = load_clipcap(saved[1]).revision
    assert load_clipcap(folder).revision == before
    weights = load_file(folder / part)
    first = sorted(weights)[0]
    weights[first] = weights[first] + 0.01
    save_file(weights, folder / part, metadata={"format": "pt"})
    assert load_clipcap(folder).revision != before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_mapper_that_is_not_finite_is_refused(folder, value):
    weights = load_file(folder / "mapper.safetensors")
    weights["model.0.bias"][1] = value
    save_file(weights, folder / "mapper.safetensors")
    with pytest.raises(ArtefactError, match=r"model\.0\.bias"):
        load_clipcap(folder)


@pytest.mark.parametrize("missing", ["captioner.json", "mapper.safetensors", "lm", "lm/model.safetensors"])
def test_a_missing_part_is_refused(folder, missing):
    path = folder / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ArtefactError):
        load_clipcap(folder)


def test_a_missing_encoder_is_refused(folder):
    shutil.rmtree(folder / "clip")
    with pytest.raises((ArtefactError, BadInputError)):
        load_clipcap(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"captioner\.json"):
        load_clipcap(tmp_path / "absent")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"clipcap"', "\xff\xfe"])
def test_wrong_json_is_refused(folder, text):
    (folder / "captioner.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtefactError):
        load_clipcap(folder)


WRONG_SETTINGS = {
    "format": {"format": 2},
    "kind": {"kind": "blip"},
    "mapper is no mapping": {"mapper": [1]},
    "mapper kind": {"mapper": {"kind": "cnn"}},
    "mapper size": {"mapper": {"kind": "mlp", "feature_dim": FEATURES, "embedding_dim": 10**9, "prefix_length": 2,
                               "hidden_dim": 16}},
    "lm is no text": {"lm": 3},
    "tokenizer is no text": {"tokenizer": None},
    "encoder is no mapping": {"encoder": "clip"},
    "encoder kind": {"encoder": {"kind": "dino"}},
    "clip without a model": {"encoder": {"kind": "clip"}},
    "scene without a temperature": {"encoder": {"kind": "scene"}},
    "scene at no temperature": {"encoder": {"kind": "scene", "temperature": 0}},
    "prompt is no mapping": {"prompt": "bos"},
    "prompt lacks stop": {"prompt": {"bos": True}},
    "prompt has more": {"prompt": {"bos": True, "stop": ".", "top_p": 0.8}},
    "bos is no truth": {"prompt": {"bos": "yes", "stop": "."}},
    "stop is no text": {"prompt": {"bos": True, "stop": 4}},
    "no tokens": {"max_new_tokens": 0},
    "tokens are no number": {"max_new_tokens": "many"},
    "tokens are no whole number": {"max_new_tokens": 3.5},
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_SETTINGS)
def test_wrong_settings_are_refused(folder, what):
    path = folder / "captioner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **WRONG_SETTINGS[what]}))
    with pytest.raises(ArtefactError):
        load_clipcap(folder)


@pytest.mark.parametrize("left_out", ["mapper", "lm", "tokenizer", "encoder", "prompt", "max_new_tokens"])
def test_a_setting_left_out_is_refused(folder, left_out):
    path = folder / "captioner.json"
    settings = json.loads(path.read_text())
    del settings[left_out]
    path.write_text(json.dumps(settings))
    with pytest.raises(ArtefactError, match=left_out):
        load_clipcap(folder)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_a_pickled_mapper_is_refused_and_not_run(folder, tmp_path):
    (folder / "mapper.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(ArtefactError, match="pickle"):
        load_clipcap(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickled_language_model_is_refused(folder):
    weights = load_file(folder / "lm" / "model.safetensors")
    (folder / "lm" / "model.safetensors").unlink()
    torch.save(weights, folder / "lm" / "pytorch_model.bin")
    with pytest.raises(ArtefactError):
        load_clipcap(folder)


def test_read_tensors(tmp_path):
    save_file({"a": torch.tensor([1.5, 2.0]), "n": torch.tensor([3])}, tmp_path / "t.safetensors")
    found = read_tensors(tmp_path / "t.safetensors")
    assert found["a"].tolist() == [1.5, 2.0]
    assert found["n"].tolist() == [3]
