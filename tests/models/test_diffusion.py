"""Pipelines of diffusers: the same picture for the same seed, and what bad input gets. Tiny, random, real classes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

import tiny_diffusion
from diffusers import DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler
from diffusers import StableDiffusionPipeline as StableDiffusion

from evenhand.errors import BadInputError
from evenhand.models.diffusion import DiffusionModel, load_diffusers_model
from evenhand.models.protocol import ImageModel
from evenhand.records import Prompt

NURSE, DOG, CAT = "a photo of the face of a nurse, a person", "a tall dog", "a small cat on the table"
SEVEN = (NURSE, DOG, NURSE, CAT, DOG, "a person", NURSE)
SEEDS = (3, 1, 4, 15, 9, 2**63 - 1, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_diffusion.save(tiny_diffusion.pipeline(), tmp_path_factory.mktemp("tiny-sd"))


@pytest.fixture(scope="module")
def model(folder):
    return load_diffusers_model(str(folder), steps=3, batch_size=8)


def prompts(texts):
    return [Prompt(f"p{i}", "x", text, None) for i, text in enumerate(texts)]


def around(pipeline, **options):
    return DiffusionModel(pipeline, name="tiny", revision="r", **({"steps": 3, "batch_size": 8} | options))


def pixels(sample):
    assert sample.error is None, sample.error
    return np.asarray(Image.open(io.BytesIO(sample.image)), dtype=int)


def alone(model, texts, seeds):
    return [model.draw(prompts([text]), seeds=[seed])[0].image for text, seed in zip(texts, seeds, strict=True)]


def test_samples(model):
    assert isinstance(model, ImageModel)
    assert model.replayable
    samples = model.draw(prompts(SEVEN), seeds=SEEDS)
    assert [(one.prompt_id, one.k, one.seed, one.text, one.error) for one in samples] == [
        (f"p{i}", 0, seed, None, None) for i, seed in enumerate(SEEDS)
    ]
    found = Image.open(io.BytesIO(samples[0].image))
    assert (found.format, found.mode, found.size) == ("PNG", "RGB", (16, 16))
    assert len({one.image_sha256 for one in samples}) == 7
    assert model.draw([], seeds=[]) == ()


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerAncestralDiscreteScheduler, DDPMScheduler])
def test_seven_together_are_seven_alone(kind):
    # Ancestral Euler and DDPM draw noise at every step: it must come from each picture's own generator. Seven rows take
    # other convolution kernels than one: levels in [0, 1] differ by 3e-6 at most (measured), so a value may now
    # and then be rounded to the next of 255 levels. Another noise moves 97 % of them by more, 36 levels on average.
    model = around(tiny_diffusion.pipeline(scheduler=kind(**tiny_diffusion.scheduling(kind))))
    together = model.draw(prompts(SEVEN), seeds=SEEDS)
    assert [one.image for one in model.draw(prompts(SEVEN), seeds=SEEDS)] == [one.image for one in together]
    singles = [model.draw(prompts([text]), seeds=[seed])[0] for text, seed in zip(SEVEN, SEEDS, strict=True)]
    backwards = model.draw(prompts(SEVEN[::-1]), seeds=SEEDS[::-1])[::-1]
    model.batch_size = 3
    threes = model.draw(prompts(SEVEN), seeds=SEEDS)
    expected = np.stack([pixels(one) for one in together])
    for other in (singles, backwards, threes):
        apart = np.abs(np.stack([pixels(one) for one in other]) - expected)
        assert apart.max() <= 1
        assert apart.mean() < 0.005
    assert len({one.image_sha256 for one in together}) == 7
    assert np.abs(expected[0] - expected[2]).mean() > 20  # the same prompt, another seed


def test_flux(tmp_path):
    model = load_diffusers_model(
        str(tiny_diffusion.save(tiny_diffusion.flux(), tmp_path)), steps=2, height=32, width=32
    )
    assert (model.settings["pipeline"], model.settings["guidance"]) == ("FluxPipeline", 3.5)
    long = " ".join("a" * 200)  # too long for CLIP, not for T5
    texts, seeds = [NURSE, DOG, long, DOG], [1, 2, 3, 4]
    together = model.draw(prompts(texts), seeds=seeds)
    for one, text, seed in zip(together, texts, seeds, strict=True):
        (single,) = model.draw(prompts([text]), seeds=[seed])
        assert np.abs(pixels(one) - pixels(single)).max() <= 1  # rounding, as above
    assert np.abs(pixels(together[1]) - pixels(together[3])).mean() > 5
    (cut,) = model.draw(prompts([" ".join("a" * 512)]), seeds=[1])
    assert "513 tokens; allowed: 512" in cut.error  # 512 and the end of the text


def test_seed_prompt_and_guidance_decide(model, folder):
    def draw(text, seed):
        return model.draw(prompts([text]), seeds=[seed])[0].image

    assert draw(NURSE, 1) == draw(NURSE, 1) != draw(NURSE, 2)
    assert draw(NURSE, 1) != draw(DOG, 1)
    other = load_diffusers_model(str(folder), steps=3, guidance=1.0)
    assert other.draw(prompts([NURSE]), seeds=[1])[0].image != draw(NURSE, 1)
    away = load_diffusers_model(str(folder), steps=3, negative_prompt=DOG)
    assert away.draw(prompts([NURSE, CAT]), seeds=[1, 2])[0].image != draw(NURSE, 1)
    wide = load_diffusers_model(str(folder), steps=3, width=24, height=16)
    assert pixels(wide.draw(prompts([NURSE]), seeds=[1])[0]).shape == (16, 24, 3)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_a_picture_by_hand(guidance):
    # The loop written out: eps = u + w (c - u), DDIM's step, the decoder. Within one level of rounding.
    pipeline = tiny_diffusion.pipeline()
    (sample,) = around(pipeline, guidance=guidance).draw(prompts([NURSE]), seeds=[5])
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(3)

    def read(text):
        padded = pipeline.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
        return pipeline.text_encoder(padded.input_ids)[0]

    with torch.no_grad():
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        asked, nothing = read(NURSE), read("")
        for step in scheduler.timesteps:
            u = pipeline.unet(latents, step, encoder_hidden_states=nothing).sample
            c = pipeline.unet(latents, step, encoder_hidden_states=asked).sample
            latents = scheduler.step(u + guidance * (c - u), step, latents).prev_sample
        drawn = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample[0]
    expected = ((drawn / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).int().numpy()
    assert np.abs(pixels(sample) - expected).max() <= 1


def test_the_callers_random_numbers_are_left_alone(model):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model.draw(prompts([NURSE, DOG]), seeds=[1, 2])
    assert torch.equal(torch.get_rng_state(), before)


class LeakyScheduler(DDIMScheduler):
    """Takes noise from the global generator, as DPMSolverSDEScheduler does."""

    def step(self, *args, **given):
        found = super().step(*args, **given)
        found = (found[0] + 0.5 * torch.randn_like(found[0]), *found[1:])
        return found


def test_noise_from_elsewhere_is_found_out():
    model = around(tiny_diffusion.pipeline(scheduler=LeakyScheduler(**tiny_diffusion.scheduling(DDIMScheduler))))
    torch.manual_seed(0)
    together = [one.image for one in model.draw(prompts(SEVEN), seeds=SEEDS)]
    torch.manual_seed(1)
    assert together == alone(model, SEVEN, SEEDS)
    assert together == [one.image for one in model.draw(prompts(SEVEN), seeds=SEEDS)]
    assert len(set(together)) == 7
    # The noise is another one for another seed.
    calm = around(tiny_diffusion.pipeline()).draw(prompts(SEVEN), seeds=SEEDS)
    assert not set(together) & {one.image for one in calm}


class OneByOne(StableDiffusion):
    """Takes one generator only, and no options."""

    def __call__(self, prompt, generator=None, output_type="pil"):
        if isinstance(generator, list):
            raise TypeError("one generator, please")
        if prompt == ["spoiled"]:
            raise ValueError("cannot draw this")
        if prompt == ["huge"]:
            raise torch.OutOfMemoryError("no room")
        return super().__call__(prompt, generator=generator, output_type=output_type, num_inference_steps=3)


def test_a_pipeline_without_lists_draws_one_by_one():
    pipeline = tiny_diffusion.pipeline()
    odd = OneByOne(**pipeline.components, requires_safety_checker=False)
    model, usual = DiffusionModel(odd, name="x", revision="r", batch_size=8), around(pipeline)
    assert alone(usual, SEVEN, SEEDS) == [one.image for one in model.draw(prompts(SEVEN), seeds=SEEDS)]
    samples = model.draw(prompts([NURSE, "spoiled", DOG]), seeds=[1, 2, 3])
    assert [one.error for one in samples] == [None, "ValueError: cannot draw this", None]
    with pytest.raises(BadInputError, match="batch_size: got 8"):
        model.draw(prompts(["huge"]), seeds=[1])
    with pytest.raises(BadInputError, match="OneByOne does not take it"):
        DiffusionModel(model.pipeline, name="x", revision="r", guidance=2.0)


def test_a_blanked_picture_is_an_error():
    blanking = around(tiny_diffusion.pipeline(checker=tiny_diffusion.checker(-2.0)))
    assert blanking.settings["safety_checker"] is True
    assert {one.error for one in blanking.draw(prompts([NURSE, DOG]), seeds=[1, 2])} == {
        "PictureError: the pipeline's safety checker blanked the picture."
    }
    watching = around(tiny_diffusion.pipeline(checker=tiny_diffusion.checker(2.0)))
    without = around(tiny_diffusion.pipeline())
    drawn = [one.image for one in watching.draw(prompts([NURSE, DOG]), seeds=[1, 2])]
    assert drawn == [one.image for one in without.draw(prompts([NURSE, DOG]), seeds=[1, 2])]
    assert None not in drawn


def test_a_prompt_that_would_be_cut_is_an_error(model):
    # "a" is one token; two more begin and end the text: 75 fit into 77, 76 do not.
    samples = model.draw(prompts([" ".join("a" * 75), " ".join("a" * 76), DOG]), seeds=[1, 2, 3])
    assert [one.error is None for one in samples] == [True, False, True]
    assert samples[1].error.startswith("BadInputError: the prompt has 78 tokens; allowed: 77")
    with pytest.raises(BadInputError, match="78 tokens"):
        around(model.pipeline, negative_prompt=" ".join("a" * 76))


class TwoEncoders(StableDiffusion):
    """A second text encoder with a longer reach, as T5 beside CLIP."""

    @property
    def components(self):
        wide = tiny_diffusion.tokenizer()
        wide.model_max_length = 100
        return super().components | {"tokenizer_2": wide, "text_encoder_2": self.second}


def test_a_prompt_that_one_encoder_reads_whole_is_whole():
    pipeline = TwoEncoders(**tiny_diffusion.pipeline().components, requires_safety_checker=False)
    pipeline.second = object()
    model = around(pipeline)
    assert model.draw(prompts([" ".join("a" * 98)]), seeds=[1])[0].error is None
    assert "99 tokens" not in (model.draw(prompts([" ".join("a" * 98)]), seeds=[1])[0].error or "")
    assert "101 tokens; allowed: 100" in model.draw(prompts([" ".join("a" * 99)]), seeds=[1])[0].error
    pipeline.second = None  # left out, as SD3 without T5: its tokenizer reads nothing
    assert "78 tokens; allowed: 77" in model.draw(prompts([" ".join("a" * 76)]), seeds=[1])[0].error


def test_a_picture_that_is_not_finite_is_an_error():
    pipeline = tiny_diffusion.pipeline()
    model = around(pipeline)
    spoil = pipeline.vae.decoder.register_forward_hook(
        lambda module, args, out: torch.cat([out[:1] * float("nan"), out[1:]])
    )
    try:
        samples = model.draw(prompts([NURSE, DOG]), seeds=[1, 2])
    finally:
        spoil.remove()
    assert samples[0].error.startswith("ArtefactError: the picture is not finite")
    assert samples[1].error is None


def test_options_no_picture_can_be_drawn_with(folder):
    with pytest.raises(BadInputError, match=r"draws nothing: ValueError: .*divisible by 8"):
        load_diffusers_model(str(folder), height=13, width=13).draw(prompts([NURSE, DOG]), seeds=[1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": float("nan")}, "guidance"),
        ({"steps": 0}, "steps"),
        ({"height": -8}, "height"),
        ({"batch_size": 0}, "batch_size"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_bad_numbers(folder, options, message):
    with pytest.raises(BadInputError, match=message):
        load_diffusers_model(str(folder), **options)


def test_a_seed_a_prompt(model):
    with pytest.raises(BadInputError, match="one per prompt"):
        model.draw(prompts([NURSE]), seeds=[])
