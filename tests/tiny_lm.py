"""A language model of two layers of a real class, with random weights; the tests build what they need from it."""

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

__all__ = ["tiny_lm"]


def tiny_lm(kind: str, *, vocabulary: int, seed: int, bos: int, eos: int, pad: int, matrices_only: bool = False):
    """``gpt2`` or ``gemma3``, 16 wide.

    Args:
        kind: The architecture.
        vocabulary: Number of ids.
        seed: Of the weights.
        bos: Start of a text.
        eos: End of a text.
        pad: Padding.
        matrices_only: Leave norms as they are; with random ones a model may say one word for ever.
    """
    special = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad, "tie_word_embeddings": False}
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_positions=64, n_embd=16, n_layer=2, n_head=2, **special)
        )
    else:
        config = Gemma3TextConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=64,
            sliding_window=8,
            **special,
        )
        model = Gemma3ForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 or not matrices_only:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return model.eval()
