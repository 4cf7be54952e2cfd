"""Tiny random vision-language models of real classes. In: a kind and a folder. Out: a saved checkpoint.

Every model comes from its real config class, every processor from its real class with a tokenizer trained here on a
few sentences; both are saved as ``from_pretrained`` expects them, so that the real way of loading is what is tested.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

KINDS = ("llava", "paligemma", "qwen2_5_vl", "blip", "janus")
SIDE = 28  # of a picture, for those vision towers that want one size
SENTENCES = (
    "a man in a black suit is standing next to a woman in a white dress",
    "he is a doctor and she is a nurse",
    "his dog and her cat are sitting on the table",
    "the person is riding a horse and they are happy",
    "a boy and a girl are playing with a ball near their father and mother",
    "people are looking at the picture of the king and the queen",
    "USER: Describe the photo in detail. ASSISTANT: The man is wearing a tie.",
    "What is the gender of the person in this image? Answer with Male or Female.",
    "a chairman of the board is talking to himself while she looks at herself",
)
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_JANUS_CHAT = (
    "{% for message in messages %}<|User|>: {% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<image_placeholder>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


def picture(shade: int, side: int = SIDE) -> Image.Image:
    """A picture with a pattern of its own."""
    small = Image.new("RGB", (3, 3))
    small.putdata(
        [((shade * 37 + i * 53) % 256, (shade * 91 + i * 17) % 256, (i * shade * 29) % 256) for i in range(9)]
    )
    return small.resize((side, side), Image.Resampling.NEAREST)


def save(kind: str, folder: Path) -> Path:
    """A checkpoint folder with config, safetensors and a processor."""
    model, processor = {
        "llava": _llava,
        "paligemma": _paligemma,
        "qwen2_5_vl": _qwen,
        "blip": _blip,
        "janus": _janus,
    }[kind]()
    spread(model)
    model.save_pretrained(folder)
    processor(folder)
    return folder


def text_model(*, vocabulary: int, seed: int = 1) -> Any:
    """A tiny causal language model without pictures."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return spread(LlamaForCausalLM(LlamaConfig(**_text(vocabulary))), seed=seed)


def text_tokenizer() -> Any:
    """The tokenizer of the LLaVA model: words with a leading space, pieces of longer ones."""
    return _llama_tokenizer(["<image>"])


def spread(model: Any, *, seed: int = 0) -> Any:
    """Random weights wide enough that the model does not say one word for ever."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                scale = 0.6 if "embed" in name or "lm_head" in name else 0.25
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return model.eval()


def prefer(head: Any, word: int, instead_of: int) -> None:
    """Let a model say ``word`` where it would have said another token, and the other way round."""
    with torch.no_grad():
        head.weight[[word, instead_of]] = head.weight[[instead_of, word]]


def _text(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "tie_word_embeddings": False,
    }


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
    }


def _trained(specials: list[str], *, byte_level: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair tokenizer in which every word of the sentences is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
    )
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else ["\n", "."]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def _llama_tokenizer(images: list[str], **more: Any) -> Any:
    from transformers import LlamaTokenizer

    vocabulary, merges = _trained(["<unk>", "<s>", "</s>", "<pad>", *images], byte_level=False)
    return LlamaTokenizer(vocabulary, merges, pad_token="<pad>", add_bos_token=True, **more)  # noqa: S106


def _llava() -> tuple[Any, Callable[[Path], object]]:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _llama_tokenizer(["<image>"], additional_special_tokens=["<image>"])
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "projection_dim": 32, **_vision()},
        text_config={"model_type": "llama", **_text(len(tokenizer))},
        image_token_index=4,
        image_seq_length=4,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return LlavaForConditionalGeneration(config), processor.save_pretrained


def _paligemma() -> tuple[Any, Callable[[Path], object]]:
    from transformers import (
        GemmaTokenizer,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    vocabulary, merges = _trained(["<unk>", "<bos>", "<eos>", "<pad>", "<image>"], byte_level=False)
    tokenizer = GemmaTokenizer(vocabulary, merges, additional_special_tokens=["<image>"])
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **_vision()},
        text_config={"model_type": "gemma", **_text(len(tokenizer))},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    return PaliGemmaForConditionalGeneration(config), processor.save_pretrained


def _qwen() -> tuple[Any, Callable[[Path], object]]:
    """The real processor holds a video processor, which needs torchvision: its other parts are saved one by one."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2Tokenizer,
        Qwen2VLImageProcessorPil,
    )

    specials = ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    seen = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    vocabulary, merges = _trained([*specials, *seen], byte_level=True)
    tokenizer = Qwen2Tokenizer(
        vocabulary,
        merges,
        eos_token="<|im_end|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>", *seen],
    )
    tokenizer.chat_template = _CHAT
    text = {
        **_text(len(tokenizer)),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    }
    del text["head_dim"]
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 14,
            "window_size": 56,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=4,
        vision_end_token_id=5,
        image_token_id=6,
        video_token_id=7,
    )
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})

    def write(folder: Path) -> None:  # as published: the class is named in preprocessor_config.json
        tokenizer.save_pretrained(folder)
        settings = {**images.to_dict(), "processor_class": "Qwen2_5_VLProcessor"}
        settings["image_processor_type"] = "Qwen2VLImageProcessor"
        (folder / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")

    return Qwen2_5_VLForConditionalGeneration(config), write


def _blip() -> tuple[Any, Callable[[Path], object]]:
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    words = sorted({word.strip(".:?").lower() for sentence in SENTENCES for word in sentence.split()})
    letters = "abcdefghijklmnopqrstuvwxyz.:?"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *words]
    pieces += [piece for letter in letters for piece in (letter, f"##{letter}") if piece not in pieces]
    tokenizer = BertTokenizer({piece: i for i, piece in enumerate(pieces)}, additional_special_tokens=["[DEC]"])
    text = {key: value for key, value in _text(len(pieces)).items() if key not in {"num_key_value_heads", "head_dim"}}
    text |= {"encoder_hidden_size": 32, "bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3}
    config = BlipConfig(text_config=text, vision_config=_vision(), projection_dim=32)
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}), tokenizer)
    return BlipForConditionalGeneration(config), processor.save_pretrained


def _janus() -> tuple[Any, Callable[[Path], object]]:
    from transformers import JanusConfig, JanusForConditionalGeneration, JanusImageProcessorPil, JanusProcessor

    images = {
        "image_token": "<image_placeholder>",
        "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = _llama_tokenizer(
        [*images.values(), "<|User|>", "<|Assistant|>"],
        additional_special_tokens=["<|User|>", "<|Assistant|>"],
        extra_special_tokens=images,
    )
    config = JanusConfig(
        text_config={"model_type": "llama", **_text(len(tokenizer))},
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 14,
            "mlp_ratio": 2.0,
            "projection_dim": 32,
            "num_image_tokens": 4,
        },
        vq_config={
            "embed_dim": 4,
            "num_embeddings": 16,
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
    processor = JanusProcessor(
        JanusImageProcessorPil(size={"height": SIDE, "width": SIDE}, min_size=14),
        tokenizer,
        chat_template=_JANUS_CHAT,
        num_image_tokens=4,
    )
    return JanusForConditionalGeneration(config), processor.save_pretrained
