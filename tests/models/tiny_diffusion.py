"""A tiny random Stable Diffusion of diffusers' real classes. In: options. Out: a pipeline, also as a folder."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SENTENCES = ("a photo of the face of a nurse, a person", "a painting of a tall dog and a small cat on the table")
WIDTH = 32
SIDE = 16  # of a picture, in pixels


def pipeline(*, scheduler: Any = None, checker: Any = None, seed: int = 0) -> Any:
    """A pipeline in evaluation mode; random weights wide enough that the text shows in the picture."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=SIDE // 2,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
    )
    words = tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=len(words),
            projection_dim=WIDTH,
        )
    )
    with torch.no_grad():
        for weight in text.parameters():
            weight.mul_(20 if weight.dim() > 1 else 1)
        for weight in unet.parameters():
            weight.mul_(1.5)
    made = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler or DDIMScheduler(**scheduling(DDIMScheduler)),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}),
        requires_safety_checker=checker is not None,
    )
    return made


def scheduling(kind: Any) -> dict[str, Any]:
    """What Stable Diffusion's pipeline wants of a scheduler."""
    return {"steps_offset": 1} | ({} if kind is EulerAncestralDiscreteScheduler else {"clip_sample": False})


def flux() -> Any:
    """A Flux: a transformer, flow matching, CLIP beside a T5 that reads 512 tokens."""
    torch.manual_seed(0)
    words = tokenizer()
    clip = CLIPTextConfig(
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=1,
        vocab_size=len(words),
    )
    letters = [(one, -3.0) for one in "abcdefghijklmnopqrstuvwxyz,"]
    wide = T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁a", -2.5), *letters],
        extra_ids=0,
        model_max_length=512,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=1,
        norm_num_groups=4,
        shift_factor=0.0,
        scaling_factor=1.0,
    )
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
    )
    reader = T5EncoderModel(T5Config(vocab_size=40, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4))
    return FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, CLIPTextModel(clip), words, reader, wide, transformer)


def tokenizer() -> CLIPTokenizer:
    """CLIP's kind of tokenizer with a small vocabulary and the usual 77 tokens."""
    vocabulary, merges = _pieces()
    return CLIPTokenizer(vocabulary, merges, model_max_length=77)


@cache  # the trainer breaks ties in no fixed order
def _pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator(SENTENCES * 3, trainer)
    state = json.loads(raw.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def checker(threshold: float) -> StableDiffusionSafetyChecker:
    """Diffusers' own safety checker; at -2 it blanks every picture (a cosine is never below -1), at 2 none."""
    torch.manual_seed(1)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=small, vision_config=small | {"image_size": 30, "patch_size": 10}, projection_dim=32
    )
    made = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        made.concept_embeds_weights.fill_(threshold)
        made.special_care_embeds_weights.fill_(2.0)
    return made.eval()


def save(made: Any, folder: Path) -> Path:
    made.save_pretrained(folder)
    return folder
