"""Vision features on tiny models of the real classes: what is taken from each, checked against the tower itself."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from evenhand.classify.pictures.encoder import FeatureEncoder
from evenhand.errors import BadInputError
from evenhand.models.vision_features import load_vision_features, vision_features

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed (extra `hf`)")

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 14,
}
SMALL = {"image_size": 28, **VISION}
SIZE = {"height": 28, "width": 28}
# Token ids of the big models' configs do not fit a vocabulary of 100.
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def pictures(sizes=((28, 28), (40, 28), (28, 56))):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def clip():
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    config = CLIPConfig(text_config=TEXT | IDS, vision_config=SMALL, projection_dim=16)
    return CLIPModel(config), CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SIZE)


def siglip():
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    config = SiglipConfig(text_config=TEXT | IDS | {"max_position_embeddings": 16}, vision_config=SMALL)
    return SiglipModel(config), SiglipImageProcessorPil(size=SIZE)


def llava():
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    text = {"model_type": "llama", "num_key_value_heads": 2} | TEXT
    config = LlavaConfig(vision_config=CLIPVisionConfig(**SMALL).to_dict(), text_config=text, image_token_index=99)
    return LlavaForConditionalGeneration(config), clip()[1]


def paligemma():
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionConfig

    vision = SiglipVisionConfig(vision_use_head=False, **SMALL).to_dict() | {"projection_dim": 32}
    text = {"model_type": "gemma", "num_key_value_heads": 1, "head_dim": 16} | TEXT
    config = PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=99, projection_dim=32)
    return PaliGemmaForConditionalGeneration(config), siglip()[1]


def blip():
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    text = TEXT | IDS | {"encoder_hidden_size": 32, "sep_token_id": 2}
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=SMALL)), BlipImageProcessorPil(
        size=SIZE
    )


def janus():
    from transformers import JanusConfig, JanusForConditionalGeneration

    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = JanusConfig(
        text_config={"model_type": "llama", "num_key_value_heads": 2} | TEXT,
        vision_config=vision | {"projection_dim": 32, "mlp_ratio": 2.0},
        vq_config={
            **{
                "embed_dim": 4,
                "num_embeddings": 8,
                "base_channels": 32,
                "channel_multiplier": [1],
                "num_res_blocks": 1,
            },
            **{"num_patches": 4, "projection_dim": 8, "out_channels": 3, "latent_channels": 8},
        },
    )
    return JanusForConditionalGeneration(config), siglip()[1]


def qwen():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(
        text_config=TEXT | IDS | {"num_key_value_heads": 2, "rope_parameters": rope},
        vision_config=vision
        | {"patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [1]},
    )
    processor = Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, size={"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def pixels(processor, shown):
    return processor(images=shown, return_tensors="pt")["pixel_values"]


@torch.inference_mode()
def expected(kind, model, processor, shown):
    """Straight from each class's own tower, picture by picture."""
    if kind == "qwen":
        rows = []
        for one in shown:
            inputs = processor(images=[one], return_tensors="pt")
            out = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
            rows.append(out.pooler_output.mean(0))
        return torch.stack(rows)
    values = pixels(processor, shown)
    if kind in ("clip", "siglip"):
        return model.get_image_features(pixel_values=values).pooler_output
    tower = {"llava": lambda: model.model.vision_tower, "paligemma": lambda: model.model.vision_tower,
             "blip": lambda: model.vision_model, "janus": lambda: model.model.vision_model}[kind]()  # fmt: skip
    out = tower(values)
    return out.last_hidden_state.mean(1) if kind == "paligemma" else out.pooler_output


@pytest.mark.parametrize(
    ("kind", "dim"),
    [("clip", 16), ("siglip", 32), ("llava", 32), ("paligemma", 32), ("blip", 32), ("janus", 32), ("qwen", 32)],
)
def test_features_are_the_towers_own(kind, dim):
    torch.manual_seed(0)
    model, processor = globals()[kind]()
    for weights in model.eval().parameters():  # BLIP starts so near zero that it sees nothing
        weights.data += 0.05 * torch.randn_like(weights)
    encoder = vision_features(model, processor)
    shown = pictures()
    features = encoder.encode(shown)
    assert isinstance(encoder, FeatureEncoder)
    assert encoder.feature_dim == dim
    assert features.shape == (3, dim)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected(kind, model, processor, shown), atol=1e-5, rtol=1e-4)
    assert (features[0] - features[1]).abs().max() > 1e-6  # it sees the pictures
    torch.testing.assert_close(encoder.encode(shown[::-1]), features.flip(0), atol=1e-5, rtol=1e-4)
    assert encoder.encode([]).shape == (0, dim)


def test_another_models_weights_have_another_name():
    torch.manual_seed(0)
    first, processor = clip()
    second, _ = clip()
    names = [vision_features(model, processor).name for model in (first, first, second)]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("CLIPModel/")
    assert vision_features(first, processor, name="mine").name == "mine"


def test_a_models_folder_gives_the_same_features(tmp_path):
    torch.manual_seed(0)
    model, processor = llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, made = load_vision_features(str(tmp_path)), vision_features(model, processor)
    assert loaded.name == made.name
    torch.testing.assert_close(loaded.encode(pictures()), made.encode(pictures()))


def test_a_model_without_eyes_is_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    with pytest.raises(BadInputError, match="no vision tower"):
        vision_features(LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **TEXT)), clip()[1])
    with pytest.raises(BadInputError, match="takes no pictures"):
        vision_features(clip()[0], object())
