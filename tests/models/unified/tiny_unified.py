"""Tiny random unified models of transformers' real classes. In: a kind. Out: model and processor, also as a folder."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from evenhand.models.unified.load import family_of
from evenhand.models.unified.model import UnifiedModel

KINDS = ("janus", "emu3")
SENTENCES = (
    "a photo of the face of a nurse, a person",
    "a photo of the face of a sewer, a person in a black suit",
    "what is the gender of the person in this picture? answer with male, female or unknown.",
    "a dog and a cat are sitting on the table next to a woman and a man",
    "masterpiece, film grained, best quality. lowres, bad anatomy, cropped, worst quality",
    "You are a helpful assistant. USER: User: ASSISTANT: Assistant: 0123456789*",
)
JANUS_CHAT = (
    "{% for message in messages %}<|User|>: {% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<image_placeholder>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)
CODES = 16
SIZE = (24, 16)  # of an Emu3 picture: 3 rows, 2 columns
SHORT, LONG = "a dog", "a photo of the face of a nurse, a person in a black suit"
SEVEN = (SHORT, LONG, SHORT, "a man", LONG, "a woman and a cat", SHORT)
SEEDS = (3, 1, 4, 15, 9, 2, 6)


def tiny(kind: str, *, seed: int = 0) -> tuple[Any, Any]:
    """A model in evaluation mode and its processor."""
    model, processor = {"janus": _janus, "emu3": _emu3}[kind]()
    return spread(model, seed=seed), processor


def own_options(kind: str) -> dict[str, Any]:
    """What a family is given besides the model."""
    return {"picture_size": SIZE} if kind == "emu3" else {}


def made(kind: str, **options: Any) -> UnifiedModel:
    """The adapter around a tiny model."""
    return UnifiedModel(family_of(*tiny(kind), **own_options(kind)), name=kind, revision="r", **options)


def save(kind: str, folder: Path) -> Path:
    """The same as a checkpoint."""
    model, processor = tiny(kind)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def spread(model: Any, *, seed: int = 0) -> Any:
    """Random weights wide enough that one code is not always the best."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                scale = 0.6 if "embed" in name else 0.08 if "generation_head" in name else 0.25
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval()


def picture(shade: int, *, width: int = 20, height: int = 28) -> Image.Image:
    """A picture with a pattern of its own."""
    small = Image.new("RGB", (3, 3))
    small.putdata(
        [((shade * 37 + i * 53) % 256, (shade * 91 + i * 17) % 256, (i * shade * 29) % 256) for i in range(9)]
    )
    return small.resize((width, height), Image.Resampling.NEAREST)


def text_config(vocabulary: int, **special: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        **special,
    }


def pieces(specials: list[str], *, byte_level: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair tokenizer trained on the sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
    )
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else ["\n", "."]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def _janus() -> tuple[Any, Any]:
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusImageProcessorPil,
        JanusProcessor,
        LlamaTokenizer,
    )

    images = {
        "image_token": "<image_placeholder>",
        "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }
    named = {**images, "user_token": "<|User|>", "assistant_token": "<|Assistant|>"}
    vocabulary, merges = pieces(["<unk>", "<s>", "</s>", "<pad>", *named.values()], byte_level=False)
    tokenizer = LlamaTokenizer(
        vocabulary,
        merges,
        pad_token="<pad>",  # noqa: S106
        add_bos_token=True,
        extra_special_tokens=named,
    )
    config = JanusConfig(
        text_config={
            "model_type": "llama",
            "head_dim": 16,
            **text_config(len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=3),
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 42,
            "patch_size": 14,
            "mlp_ratio": 2.0,
            "projection_dim": 32,
            "num_image_tokens": 9,
        },
        vq_config={
            "embed_dim": 4,
            "num_embeddings": CODES,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "projection_dim": 32,
            "image_token_embed_dim": 32,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=False,
    )
    images_in = JanusImageProcessorPil(
        size={"height": 42, "width": 42}, min_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = JanusProcessor(images_in, tokenizer, chat_template=JANUS_CHAT, num_image_tokens=9)
    model = JanusForConditionalGeneration(config)
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=3)
    model.generation_config.generation_kwargs = {"boi_token_id": tokenizer.convert_tokens_to_ids("<begin_of_image>")}
    return model, processor


def _emu3() -> tuple[Any, Any]:
    from transformers import Emu3Config, Emu3ForConditionalGeneration, Emu3ImageProcessor, Emu3Processor, GPT2Tokenizer

    named = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_201|>",
    }
    others = ["<|endoftext|>", "<|extra_200|>", "<|extra_203|>", "<|extra_204|>"]
    visual = [f"<|visual token {code:06d}|>" for code in range(CODES)]
    vocabulary, merges = pieces([*others, *named.values(), *visual], byte_level=True)
    tokenizer = GPT2Tokenizer(
        vocabulary,
        merges,
        bos_token="<|extra_203|>",  # noqa: S106
        eos_token="<|extra_204|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        unk_token="<|endoftext|>",  # noqa: S106
        extra_special_tokens=named
        | {"eol_token": "<|extra_200|>"}
        | {f"code_{i}": one for i, one in enumerate(visual)},
    )
    config = Emu3Config(
        text_config=text_config(
            len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vq_config={
            "codebook_size": CODES,
            "embed_dim": 4,
            "latent_channels": 4,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "hidden_size": 32,
        },
        vocabulary_map=tokenizer.get_vocab(),
    )
    images_in = Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=32 * 32, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Emu3ForConditionalGeneration(config), Emu3Processor(images_in, tokenizer)
