"""Tokenizers of every common family, trained here on a few sentences, so that words come in several pieces."""

# ruff: noqa: S106  (special tokens are not passwords)

import json

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evenhand.classify.calibration import FitReport
from evenhand.mitigate.ala.weights import TokenWeights

SENTENCES = [
    "A man in a suit is reading his newspaper on the bench.",
    "A woman is riding her horse; the woman's hat is red!",
    "The policewoman and the policeman met a hero and a heroine.",
    'He said: "naïve café" — she didn\'t agree, though.',
    "MEN and WOMEN, boys, girls. (3 men)",
]
FAMILIES = ("byte-level", "gemma", "llama", "wordpiece")


def tokenizer_of(family: str, *, size: int = 330) -> PreTrainedTokenizerFast:
    """A small real tokenizer; ``size`` leaves most words in several pieces."""
    special = ["<unk>", "<pad>", "</s>"]
    if family == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(SENTENCES, trainer)
        return _wrapped(tokenizer)
    alphabet: list[str] = []
    if family == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        size += 256
        tail = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if family == "gemma":
            tokenizer.normalizer = normalizers.Replace(" ", "▁")
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
            tail.append(decoders.Strip(content=" ", left=1))
        tokenizer.decoder = decoders.Sequence(tail)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if family != "byte-level":  # single bytes are ordinary tokens, as in real tokenizers of these families
        stored = json.loads(tokenizer.to_str())
        stored["added_tokens"] = [entry for entry in stored["added_tokens"] if not entry["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(stored))
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def weights_for(tokenizer: str, *, groups: tuple[str, ...] = ("male", "female"), listed: int = 2) -> TokenWeights:
    """Token weights by hand: ids 0, 1 ... carry the groups in turn, in every state; no word of several pieces."""
    group = (torch.arange(listed) % len(groups)).to(torch.int8).repeat(2, 1)
    return TokenWeights(
        attribute="gender",
        groups=groups,
        token_ids=torch.arange(listed),
        group=group,
        weight=torch.ones(2, listed),
        entry=torch.arange(listed, dtype=torch.int16).repeat(2, 1),
        neutral_forms=torch.full((listed, 1), -1, dtype=torch.int16),
        counterparts=torch.full((listed, len(groups)), -1, dtype=torch.int16),
        spelling=torch.zeros(listed, dtype=torch.int8),
        words=tuple(f"word{i}" for i in range(listed)),
        keys=torch.empty(0, dtype=torch.int64),
        nexts=torch.empty(0, dtype=torch.int64),
        depth=0,
        tokenizer=tokenizer,
        left_out=(),
    )


MEASURED = FitReport(accuracy=0.9, ece=0.02, temperature=1.6, train=700, held_out=150, majority=0.5, calibration=150)
