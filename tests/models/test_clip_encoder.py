"""The CLIP encoder on a tiny CLIP of the real classes, saved and loaded back, offline."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
)

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.clip_encoder import ClipImageEncoder

SIDE, FEATURES = 8, 12
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 4}


def tiny_clip() -> CLIPModel:
    text = {**TOWER, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=FEATURES)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return tiny_clip()


@pytest.fixture
def folder(clip: CLIPModel, tmp_path: Path) -> Path:
    clip.save_pretrained(tmp_path)
    size = {"shortest_edge": SIDE}
    CLIPImageProcessor(size=size, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    return tmp_path


def pictures(count: int) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(5)
    values = torch.randint(0, 256, (count, 9, 13, 3), dtype=torch.uint8, generator=generator)
    return [Image.fromarray(value.numpy()) for value in values]


def test_one_colour_by_hand(clip, folder):
    # Resizing and cropping leave one colour as it is: each pixel is (c / 255 - mean) / std, CLIP's constants.
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    colour = (255, 51, 0)
    channels = [(c / 255 - m) / s for c, m, s in zip(colour, mean, std, strict=True)]
    pixels = torch.tensor(channels)[None, :, None, None].expand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        hidden = clip.vision_model(pixel_values=pixels).pooler_output
        expected = hidden @ clip.visual_projection.weight.T
    encoder = ClipImageEncoder.from_pretrained(folder)
    found = encoder.encode([Image.new("RGB", (20, 11), colour)])
    assert found.shape == (1, encoder.feature_dim) == (1, FEATURES)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found.norm(dim=1), torch.ones(1), atol=0.05)  # raw, not of unit length


def test_resize_and_crop_are_pillows(clip, folder):
    # 13 x 9 pixels: the short side to 8 gives 11 x 8 (8 * 13 / 9 = 11.6, cut), bicubic; the middle 8 columns
    # start at 11 // 2 - 8 // 2 = 1.
    (picture,) = pictures(1)
    cut = picture.resize((11, SIDE), Image.Resampling.BICUBIC).crop((1, 0, 9, SIDE))
    encoder = ClipImageEncoder.from_pretrained(folder)
    assert torch.allclose(encoder.encode([picture]), encoder.encode([cut]), atol=1e-6)


def test_unit_length_where_asked(folder):
    raw = ClipImageEncoder.from_pretrained(folder).encode(pictures(3))
    unit = ClipImageEncoder.from_pretrained(folder, normalise=True).encode(pictures(3))
    assert torch.allclose(unit.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(unit * raw.norm(dim=1, keepdim=True), raw, atol=1e-5)


def test_rows_do_not_depend_on_batch_or_order(folder):
    encoder = ClipImageEncoder.from_pretrained(folder)
    many = pictures(35)  # more than are encoded at once
    whole = encoder.encode(many)
    assert torch.allclose(whole[[34, 0]], encoder.encode([many[34], many[0]]), atol=1e-5)
    assert encoder.encode([]).shape == (0, FEATURES)


def test_any_mode_is_read_as_rgb(folder):
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_convert_rgb": False}))
    encoder = ClipImageEncoder.from_pretrained(folder)
    grey = Image.new("L", (9, 9), 100)
    expected = encoder.encode([Image.new("RGB", (9, 9), (100, 100, 100))])
    for mode in ("L", "RGBA", "P"):
        assert torch.allclose(encoder.encode([grey.convert(mode)]), expected, atol=1e-6)


def test_vision_half_alone_gives_the_same(clip, folder, tmp_path):
    alone = tmp_path / "alone"
    half = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=FEATURES))
    half.load_state_dict({name: value for name, value in clip.state_dict().items() if "vis" in name})
    half.save_pretrained(alone)
    (alone / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    both = ClipImageEncoder.from_pretrained(folder).encode(pictures(2))
    assert torch.equal(ClipImageEncoder.from_pretrained(str(alone)).encode(pictures(2)), both)


def test_name_and_frozen(folder):
    encoder = ClipImageEncoder.from_pretrained(folder)
    assert encoder.name == str(folder)
    assert not encoder.encode(pictures(1)).requires_grad
    assert ClipImageEncoder.from_pretrained(folder, revision="main").name == f"{folder}@main"


def test_code_beside_the_weights_is_not_run(folder):
    sentinel = folder / "sentinel"
    (folder / "evil.py").write_text(f"open({str(sentinel)!r}, 'w')\nclass Evil: ...\n")
    for name, key in (("config.json", "AutoConfig"), ("preprocessor_config.json", "AutoImageProcessor")):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**config, "auto_map": {key: "evil.Evil"}}))
    assert ClipImageEncoder.from_pretrained(folder).encode(pictures(1)).shape == (1, FEATURES)
    assert not sentinel.exists()


def test_no_such_folder(tmp_path):
    with pytest.raises(BadInputError, match="no CLIP in"):
        ClipImageEncoder.from_pretrained(tmp_path / "absent")
    with pytest.raises(BadInputError, match="no CLIP in"):
        ClipImageEncoder.from_pretrained(tmp_path)


def test_another_model(folder):
    GPT2Config().save_pretrained(folder)
    with pytest.raises(ArtefactError, match="is a 'gpt2' model; allowed: clip, clip_vision_model"):
        ClipImageEncoder.from_pretrained(folder)


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ArtefactError, match="not a safetensors file"):
        ClipImageEncoder.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInputError, match="no CLIP in"):
        ClipImageEncoder.from_pretrained(folder)


def test_missing_or_misshapen_weights(folder):
    weights = load_file(folder / "model.safetensors")
    projection = weights.pop("visual_projection.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"lacks CLIP image weights.*visual_projection\.weight"):
        ClipImageEncoder.from_pretrained(folder)
    weights["visual_projection.weight"] = projection[:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"visual_projection\.weight"):
        ClipImageEncoder.from_pretrained(folder)
