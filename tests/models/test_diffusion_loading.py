"""Loading pipelines of diffusers: what is revised, what is refused, and that nothing of a model's is run."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

import tiny_diffusion
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from evenhand.errors import ArtefactError, BadInputError, MissingExtraError
from evenhand.models.diffusion import load_diffusers_model
from evenhand.records import Prompt

NURSE, DOG = "a photo of the face of a nurse, a person", "a tall dog"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_diffusion.save(tiny_diffusion.pipeline(), tmp_path_factory.mktemp("tiny-sd"))


@pytest.fixture
def own(folder, tmp_path):
    """A copy that may be spoiled."""
    for path in folder.rglob("*"):
        if path.is_file():
            copied = tmp_path / path.relative_to(folder)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def model(folder):
    return load_diffusers_model(str(folder), steps=3, batch_size=8)


def prompts(texts):
    return [Prompt(f"p{i}", "x", text, None) for i, text in enumerate(texts)]


def test_revision_and_settings(folder, own):
    model = load_diffusers_model(str(folder), steps=3)
    assert model.name == folder.name
    assert model.settings["pipeline"] == "StableDiffusionPipeline"
    assert model.settings["scheduler"] == "DDIMScheduler"
    assert (model.settings["steps"], model.settings["guidance"], model.settings["dtype"]) == (3, 7.5, "float32")
    json.dumps(model.settings)
    same = load_diffusers_model(str(own), steps=3)
    assert same.revision == model.revision
    assert load_diffusers_model(str(own), steps=4).revision != model.revision
    path = own / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert load_diffusers_model(str(own), steps=3).revision != model.revision


def test_dtypes(own):
    assert load_diffusers_model(str(own), dtype="bfloat16", steps=2).pipeline.unet.dtype == torch.bfloat16
    for path in own.glob("*/*.safetensors"):
        save_file({name: one.bfloat16() for name, one in load_file(path).items()}, path, metadata={"format": "pt"})
    model = load_diffusers_model(str(own), steps=2)
    assert model.settings["dtype"] == "bfloat16"
    assert {part.dtype for part in (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)} == {
        torch.bfloat16
    }
    assert model.draw(prompts([NURSE]), seeds=[1])[0].error is None


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model"])
def test_a_pickle_is_never_read(own, part):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(own / "opened"),)

    path = own / f"{part}.safetensors"
    name = "pytorch_model.bin" if part.startswith("text") else "diffusion_pytorch_model.bin"
    torch.save({"weights": load_file(path), "evil": Evil()}, path.with_name(name))
    path.unlink()
    with pytest.raises(ArtefactError, match="safetensors"):
        load_diffusers_model(str(own))
    assert not (own / "opened").exists()


def test_code_that_comes_with_a_model_is_never_run(own):
    index = json.loads((own / "model_index.json").read_text())
    for spoiled in (
        index | {"unet": ["own_code", "UNet"]},
        index | {"unet": ["os", "system"]},
        index | {"_class_name": ["pipeline", "MyPipeline"]},
    ):
        for place in ("pipeline.py", "own_code.py", "unet/own_code.py"):
            (own / place).write_text(f"open({str(own / 'opened')!r}, 'w')\nclass UNet: pass\nclass MyPipeline: pass\n")
        (own / "model_index.json").write_text(json.dumps(spoiled))
        with pytest.raises(ArtefactError, match="never run"):
            load_diffusers_model(str(own))
    assert not (own / "opened").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "mid_block.resnets.0.conv1.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.weight"),
        ("text_encoder/model.safetensors", "mlp.fc1.weight"),
    ],
)
@pytest.mark.parametrize("spoil", ["drop", "nan", "shape"])
def test_weights_that_are_not_all_there(own, file, name, spoil):
    weights = load_file(own / file)
    (full, *_) = [one for one in sorted(weights) if one.endswith(name)]
    if spoil == "drop":
        del weights[full]
    else:
        weights[full] = weights[full] * float("nan") if spoil == "nan" else weights[full][..., :1].contiguous()
    save_file(weights, own / file, metadata={"format": "pt"})
    with pytest.raises(ArtefactError) as caught:
        load_diffusers_model(str(own))
    assert Path(file).parent.name in str(caught.value)


def test_what_is_no_text_to_image_pipeline(own, tmp_path_factory):
    with pytest.raises(BadInputError, match="which model"):
        load_diffusers_model(None)
    with pytest.raises(ArtefactError, match="one file"):
        load_diffusers_model(str(own / "model_index.json"))
    with pytest.raises(ArtefactError, match=r"no model_index\.json"):
        load_diffusers_model(str(own / "unet"))
    with pytest.raises(ArtefactError, match="hub id"):
        load_diffusers_model("nobody/has-this")
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
    )
    other = tmp_path_factory.mktemp("unconditional")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(other)
    with pytest.raises(ArtefactError, match="does not draw from text"):
        load_diffusers_model(str(other))
    (own / "model_index.json").write_text("{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_diffusers_model(str(own))


def test_loading_and_drawing_print_nothing(folder, capfd):
    load_diffusers_model(str(folder), steps=2).draw(prompts([NURSE, DOG]), seeds=[1, 2])
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"evenhand\[diffusion\]"):
        load_diffusers_model(str(folder))
