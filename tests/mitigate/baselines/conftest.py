"""Tiny real models of random weights."""

# ruff: noqa: S106  (special tokens are not passwords)

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

PICTURE, PATCHES, VOCAB = 98, 16, 99


def random_weights(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def llava() -> torch.nn.Module:
    """LLaVA: 16 vision tokens of 24 features (from an inner layer of its tower), 6 decoder layers of width 32."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=PICTURE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = random_weights(LlavaForConditionalGeneration(config), 5)
    with torch.no_grad():
        model.lm_head.weight[PICTURE] = 0  # a text never holds a picture token
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


@pytest.fixture
def question() -> dict[str, Tensor]:
    """Two prompts of one length, each with a picture."""
    picture = [PICTURE] * PATCHES
    ids = torch.tensor([[1, *picture, 5, 6, 7], [1, *picture, 8, 9, 10]])
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


@pytest.fixture
def tiny_qwen() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Qwen2.5-VL, whose rotary positions run ahead of its tokens; one picture of 4 x 4 patches, merged to 4 tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}}
    vision = {"hidden_size": 16, "intermediate_size": 16, "depth": 2, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 4, "spatial_merge_size": 2, "fullatt_block_indexes": [1], "window_size": 16}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=50, vision_start_token_id=52, vision_end_token_id=53
    )
    model = random_weights(Qwen2_5_VLForConditionalGeneration(config), 6)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = torch.tensor([[1, 52, 50, 50, 50, 50, 53, 7, 8]])
    patches = torch.randn(16, 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(8))
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == 50).int(),
        "pixel_values": patches,
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
    }
    return model, inputs


class Brightness:
    """An encoder: the mean of each channel, three times."""

    name, feature_dim = "brightness", 9

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        means = [np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)) / 255 for picture in pictures]
        return torch.from_numpy(np.stack(means)).repeat(1, 3)


@pytest.fixture
def brightness() -> Brightness:
    return Brightness()


@pytest.fixture(scope="session")
def clipcap() -> object:
    """A CLIP-CAP captioner over a GPT-2 with a start token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from evenhand.models.clipcap import ClipCap, Decoding
    from evenhand.models.mapper import MlpMapper

    words = ["<unk>", "</s>", "<s>", "a", "man", "woman", "person", "rides", "reads", "horse", "book", "."]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    config = GPT2Config(vocab_size=12, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=1)
    return ClipCap(
        Brightness(),
        random_weights(MlpMapper(9, 16, 2), 1),
        random_weights(GPT2LMHeadModel(config), 2),
        tokenizer,
        decoding=Decoding(bos=True, stop=".", max_new_tokens=8),
        name="tiny",
        revision="r1",
    )
