"""The adapter: checkpoints, samples, answers, and what bad input gets."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_unified import CODES, LONG, SEEDS, SEVEN, SHORT, made, own_options, picture, tiny

from evenhand.errors import ArtefactError, BadInputError, PictureError
from evenhand.models.unified.load import family_of
from evenhand.models.unified.model import UnifiedModel
from evenhand.models.unified.named import open_unified
from evenhand.records import Prompt


def test_a_checkpoint_draws_the_same(folders, model, kind):
    loaded = UnifiedModel.from_pretrained(str(folders[kind]), **own_options(kind))
    assert torch.equal(loaded.generate(SEVEN, seeds=SEEDS), model.generate(SEVEN, seeds=SEEDS))
    assert loaded.name == folders[kind].name
    other = UnifiedModel.from_pretrained(str(folders[kind]), guidance=2.0, **own_options(kind))
    again = UnifiedModel.from_pretrained(str(folders[kind]), **own_options(kind))
    assert other.revision != loaded.revision == again.revision


def test_bfloat16_runs(folders, kind):
    model = UnifiedModel.from_pretrained(str(folders[kind]), dtype="bfloat16", **own_options(kind))
    assert model.model.dtype == torch.bfloat16
    codes = model.generate(SEVEN, seeds=SEEDS)
    assert torch.equal(codes, model.generate(SEVEN, seeds=SEEDS))
    scores = model.log_prob(SEVEN, codes)
    assert scores.dtype == torch.float32
    assert bool(scores.isfinite().all())
    pixels = model.decode(codes)
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
    assert model.encode([picture(1)]).shape == codes[:1].shape
    assert model.features([picture(1)], where="encoder").dtype == torch.float32
    assert len(model.answer_about(["Who?"], [picture(1)], seeds=[1])) == 1


def test_encode_crops_at_the_centre_and_decode_is_a_picture(model):
    high, wide = model.decode(torch.zeros(1, model.code_shape[0] * model.code_shape[1], dtype=torch.long)).shape[2:]
    inner = picture(5, width=wide * 3, height=high * 3)
    framed = Image.new("RGB", (wide * 3 + 40, high * 3), "red")
    framed.paste(inner, (20, 0))
    # A red margin on each side, cut off: the picture is the inner one.
    assert torch.equal(model.encode([framed]), model.encode([inner]))
    codes = model.encode([picture(1), picture(2)])
    pixels = model.decode(codes)
    assert pixels.shape == (2, 3, high, wide)
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
    assert torch.equal(model.decode(codes[1:])[0], pixels[1])


def test_draw_makes_samples(model):
    prompts = [Prompt(str(i), "p", text, None) for i, text in enumerate(SEVEN)]
    samples = model.draw(prompts, seeds=SEEDS)
    codes = model.generate(SEVEN, seeds=SEEDS)  # Emu3's top-k of 2,048 keeps all 16 codes
    pixels = model.decode(codes)
    for i, sample in enumerate(samples):
        assert (sample.prompt_id, sample.k, sample.seed, sample.text, sample.error) == (str(i), 0, SEEDS[i], None, None)
        assert sample.codes == tuple(codes[i].tolist())
        with Image.open(io.BytesIO(sample.image)) as shown:
            assert shown.format == "PNG"
            assert shown.mode == "RGB"
            levels = torch.from_numpy(np.array(shown)).permute(2, 0, 1)
        assert float((levels - pixels[i] * 255).abs().max()) <= 0.5 + 1e-3
    assert model.draw(prompts[2:3], seeds=SEEDS[2:3]) == samples[2:3]


def test_one_bad_prompt_does_not_lose_the_batch(model):
    forbidden = model.processor.image_token
    prompts = [
        Prompt("0", "p", SHORT, None),
        Prompt("1", "p", f"a {forbidden} picture", None),
        Prompt("2", "p", LONG * 30, None),
        Prompt("3", "p", LONG, None),
    ]
    samples = model.draw(prompts, seeds=[1, 2, 3, 4])
    assert [sample.error is None for sample in samples] == [True, False, False, True]
    assert samples[1].error.startswith(f"BadInputError: a prompt holds {forbidden!r}")
    assert "256 positions" in samples[2].error
    assert samples[1].image is None
    assert samples[1].codes is None
    assert samples[3].image is not None
    assert model.draw([], seeds=[]) == ()


def test_logits_that_are_not_finite_are_one_samples_error(kind):
    model = made(kind)
    broken = max(set(model.family.prefix(LONG)) - set(model.family.prefix(SHORT)))
    with torch.no_grad():
        model.model.get_input_embeddings().weight[broken] = torch.nan
    samples = model.draw([Prompt("0", "p", SHORT, None), Prompt("1", "p", LONG, None)], seeds=[1, 2])
    assert samples[0].error is None
    assert "not finite" in samples[1].error
    with pytest.raises(ArtefactError, match="not finite"):
        model.generate([LONG], seeds=[1])


def test_answers_about_pictures(model):
    questions = ["what is the gender of the person?", "who?", "a dog or a cat on the table?"]
    pictures = [picture(1), picture(2, width=60, height=20), picture(3)]
    drawn = model.answer_about(questions, pictures, seeds=[1, 2, 3], temperature=1.0, max_tokens=6)
    for i in range(3):
        alone = model.answer_about(questions[i : i + 1], pictures[i : i + 1], seeds=[i + 1], max_tokens=6)
        assert alone == drawn[i : i + 1]
    greedy = model.answer_about(questions, pictures, seeds=[1, 2, 3], temperature=0, max_tokens=6)
    assert greedy == model.answer_about(questions, pictures, seeds=[4, 5, 6], temperature=0, max_tokens=6)
    assert drawn != model.answer_about(questions, pictures, seeds=[7, 8, 9], max_tokens=6)
    swapped = model.answer_about(questions[:1], pictures[1:2], seeds=[1], temperature=0, max_tokens=6)
    assert swapped != greedy[:1]  # the picture is seen


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.generate([], seeds=[]), "texts: got none"),
        (lambda model: model.generate(["a"], seeds=[1, 2]), "seeds: got 2 for 1"),
        (lambda model: model.generate(["a"], seeds=[1], guidance=float("nan")), "guidance: got nan"),
        (lambda model: model.generate(["a"], seeds=[1], guidance=float("inf")), "guidance: got inf"),
        (lambda model: model.generate(["a"], seeds=[1], temperature=-1.0), "temperature: got -1"),
        (lambda model: model.generate(["a"], seeds=[1], temperature=float("nan")), "temperature: got nan"),
        (lambda model: model.generate(["a"], seeds=[1], top_k=-1), "top_k: got -1"),
        (lambda model: model.generate([LONG * 30], seeds=[1]), "256 positions"),
        (lambda model: model.decode(_codes(model, CODES)), "allowed: whole numbers, 0 to 15"),
        (lambda model: model.decode(_codes(model, -1)), "allowed: whole numbers, 0 to 15"),
        (lambda model: model.decode(_codes(model, 0)[:, :-1]), r"allowed: \(pictures, "),
        (lambda model: model.log_prob(["a"], _codes(model, CODES)), "allowed: whole numbers"),
        (lambda model: model.log_prob(["a", "b"], _codes(model, 0)), "codes: got 1 for 2"),
        (lambda model: model.log_prob(["a"], _codes(model, 0), guidance=float("nan")), "guidance: got nan"),
        (lambda model: model.encode([]), "pictures: got none"),
        (lambda model: model.features([picture(1)], where="layer 3"), "allowed: encoder, (latents, )?codes, projected"),
        (lambda model: model.answer_about([], [], seeds=[]), "got 0 questions"),
        (lambda model: model.answer_about(["a"], [], seeds=[1]), "pictures: got 0 for 1"),
        (lambda model: model.answer_about(["a"], [picture(1)], seeds=[1], max_tokens=0), "max_tokens 0"),
    ],
)
def test_bad_input(model, call, message):
    with pytest.raises(BadInputError, match=message):
        call(model)


def _codes(model, code):
    return torch.full((1, model.code_shape[0] * model.code_shape[1]), code)


def test_a_picture_that_cannot_be_read(model, tmp_path):
    path = tmp_path / "cut.png"
    picture(1, width=200, height=200).resize((400, 400), Image.Resampling.BICUBIC).save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with Image.open(path) as cut, pytest.raises(PictureError, match="picture 1 cannot be decoded"):
        model.encode([picture(1), cut])
    with Image.open(path) as cut, pytest.raises(PictureError, match="picture 0 cannot be decoded"):
        model.answer_about(["who?"], [cut], seeds=[1])


def test_what_is_not_a_unified_model_is_refused(tmp_path, folders):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
    llama.save_pretrained(tmp_path / "llama")
    with pytest.raises(ArtefactError, match="type 'llama', which draws no pictures"):
        UnifiedModel.from_pretrained(str(tmp_path / "llama"))
    with pytest.raises(ArtefactError, match="LlamaForCausalLM draws no pictures"):
        family_of(llama, None)
    with pytest.raises(ArtefactError, match="no model in"):
        UnifiedModel.from_pretrained(str(tmp_path / "nowhere"))
    model, processor = tiny("janus")
    with pytest.raises(ArtefactError, match="got a JanusModel; allowed: JanusForConditionalGeneration"):
        family_of(model.model, processor)
    with pytest.raises(BadInputError, match="which model"):
        open_unified()
    with pytest.raises(BadInputError, match="Janus has one picture size"):
        UnifiedModel.from_pretrained(str(folders["janus"]), picture_size=(8, 8))
    with pytest.raises(BadInputError, match="got 'size'; allowed, for Emu3: picture_size"):
        UnifiedModel.from_pretrained(str(folders["emu3"]), size=(8, 8))
    with pytest.raises(BadInputError, match="multiples of 8"):
        UnifiedModel.from_pretrained(str(folders["emu3"]), picture_size=(8, 12))
    with pytest.raises(BadInputError, match="batch_size: got 0"):
        made("janus", batch_size=0)
    with pytest.raises(BadInputError, match="guidance: got nan"):
        made("janus", guidance=float("nan"))


def test_missing_weights_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in Path(folders["janus"]).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "generation_head" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match="generation_head"):
        UnifiedModel.from_pretrained(str(tmp_path))
