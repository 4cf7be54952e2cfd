"""Published CLIP-CAP checkpoints. In: one file of weights. Out: a captioner folder in our own saved form.

The checkpoints of Mokady et al. 2021 ("ClipCap: CLIP Prefix for Image Captioning", arXiv:2111.09734) are one
state dict of mapping network and GPT-2, in a pickle. They are read as plain tensors, checked, and written as
safetensors and JSON. How to use them: ``docs/published-clipcap.md``.
"""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evenhand.errors import ArtefactError, BadInputError, MissingExtraError
from evenhand.models.mapper import MlpMapper, TransformerMapper, check_weights, load_mapper

__all__ = ["convert_published"]

_VIT_B32 = "openai/clip-vit-base-patch32"
_VIT_B32_FEATURES = 512
_GPT2_HEAD_DIM = 64
_GPT2_END = 50256
_MAPPER_HEADS = 8
_OLD_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(masked_)?bias")
_BLOCKED = re.compile(r"GLOBAL ([\w.]+)")


def convert_published(
    checkpoint: Path,
    out: Path,
    *,
    tokenizer: str = "openai-community/gpt2",
    encoder: str | None = None,
    normalise: bool | None = None,
) -> Path:
    """Write a published checkpoint as a captioner folder; return the folder.

    The folder holds ``mapper.safetensors``, ``lm/`` (GPT-2 in transformers' own form) and, written last,
    ``captioner.json``. Sizes are read off the weights' shapes, with 64 numbers per attention head in GPT-2
    and 8 heads in the mapping network, as published. Weights are written as float32.

    Args:
        checkpoint: A ``.pt`` state dict (read by torch's restricted reader: tensors only), ``.safetensors``.
        out: A folder that is absent or empty.
        tokenizer: Folder or hub id of the GPT-2 tokenizer; recorded, not read.
        encoder: Folder or hub id of the CLIP whose features the mapper wants; recorded, not read. None is
            ViT-B/32 where the mapper takes 512 features.
        normalise: Whether the mapper wants features of unit length. None is False for a perceptron; for a
            transformer it must be said, for the weights do not tell (the published one, RN50x4: True).

    Raises:
        BadInputError: The file is absent or of another kind, ``out`` holds files, or an option must be said.
        ArtefactError: The file is not a state dict of tensors, or a weight is missing, extra, misshapen or
            not finite.
        MissingExtraError: transformers or safetensors is not installed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} exists and is not an empty folder; give a new one")
    weights = _read(checkpoint)
    stray = sorted(name for name in weights if not name.startswith(("gpt.", "clip_project.")))
    if stray:
        raise ArtefactError(f"{checkpoint.name} is not a published CLIP-CAP: unexpected {', '.join(stray[:8])}")
    mapper = _mapper(weights)
    record = _record(mapper, tokenizer=tokenizer, encoder=encoder, normalise=normalise)
    _write(out, mapper, _language_model(weights), record)
    return out


def _read(checkpoint: Path) -> dict[str, Tensor]:
    """Names and tensors of the file; nothing in it is run."""
    if not checkpoint.is_file():
        raise BadInputError(f"there is no file {checkpoint}; give a .pt or .safetensors checkpoint")
    if checkpoint.suffix == ".safetensors":
        return _read_safetensors(checkpoint)
    if checkpoint.suffix == ".pt":
        return _read_pt(checkpoint)
    raise BadInputError(f"{checkpoint.name} has the suffix {checkpoint.suffix!r}; allowed: .pt, .safetensors")


def _read_safetensors(checkpoint: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "hf") from error
    try:
        return load_file(checkpoint)
    except SafetensorError as error:
        raise ArtefactError(f"{checkpoint.name} is not a safetensors file: {error}") from error


def _read_pt(checkpoint: Path) -> dict[str, Tensor]:
    try:
        loaded: object = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        AssertionError,
    ) as error:
        blocked = _BLOCKED.search(str(error))
        reason = f"it holds {blocked[1]}, which is not a tensor" if blocked else "it is not a torch file or is damaged"
        raise ArtefactError(
            f"{checkpoint.name} was refused: {reason}; nothing in it was run. Only a state dict of tensors is read"
        ) from error
    if not isinstance(loaded, dict) or not loaded:
        raise ArtefactError(f"{checkpoint.name} holds a {type(loaded).__name__}; it must be a state dict of tensors")
    wrong = [str(name) for name, value in loaded.items() if not isinstance(name, str) or not _is_dense(value)]
    if wrong:
        raise ArtefactError(f"{checkpoint.name} must be a state dict of tensors; these are not: {', '.join(wrong[:8])}")
    return loaded


def _is_dense(value: object) -> bool:
    """A plain tensor with a number of its own in each place; an expanded one claims any size."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Rows and columns of a weight that the sizes are read off."""
    if name not in weights:
        raise ArtefactError(f"not a published CLIP-CAP: {name} is missing; allowed: the MLP and transformer layouts")
    if weights[name].ndim != 2 or 0 in weights[name].shape:
        raise ArtefactError(f"{name} has shape {tuple(weights[name].shape)}; it must have rows and columns")
    rows, columns = weights[name].shape
    return rows, columns


def _quotient(rows: int, width: int, name: str) -> int:
    if rows % width:
        raise ArtefactError(f"{name} has {rows} rows; it must be a multiple of GPT-2's width {width}")
    return rows // width


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in weights if (found := re.match(pattern, name))})


def _mapper(weights: Mapping[str, Tensor]) -> MlpMapper | TransformerMapper:
    """The mapping network, its kind and sizes read off the names and shapes."""
    _, width = _shape(weights, "gpt.transformer.wte.weight")
    if "clip_project.prefix_const" in weights:
        prefix_length, _ = _shape(weights, "clip_project.prefix_const")
        rows, feature_dim = _shape(weights, "clip_project.linear.weight")
        config: dict[str, object] = {
            "kind": "transformer",
            "clip_length": _quotient(rows, width, "clip_project.linear.weight"),
            "num_layers": _count(weights, r"clip_project\.transformer\.layers\.(\d+)\."),
            "num_heads": _MAPPER_HEADS,
        }
    else:
        hidden_dim, feature_dim = _shape(weights, "clip_project.model.0.weight")
        rows, _ = _shape(weights, "clip_project.model.2.weight")
        prefix_length = _quotient(rows, width, "clip_project.model.2.weight")
        config = {"kind": "mlp", "hidden_dim": hidden_dim}
    config |= {"feature_dim": feature_dim, "embedding_dim": width, "prefix_length": prefix_length}
    return load_mapper(config, _part(weights, "clip_project."))


def _language_model(weights: Mapping[str, Tensor]) -> Any:
    """GPT-2 with these weights in float32; the causal masks that old versions stored are left out."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    vocab, width = _shape(weights, "gpt.transformer.wte.weight")
    positions, _ = _shape(weights, "gpt.transformer.wpe.weight")
    _, inner = _shape(weights, "gpt.transformer.h.0.mlp.c_fc.weight")
    kept = {name: value for name, value in _part(weights, "gpt.").items() if not _OLD_BUFFER.fullmatch(name)}
    embedding = kept["transformer.wte.weight"]
    head = kept.setdefault("lm_head.weight", embedding)  # safetensors keeps tied weights once
    end = _GPT2_END if vocab > _GPT2_END else None
    config = GPT2Config(
        vocab_size=vocab,
        n_positions=positions,
        n_embd=width,
        n_layer=_count(weights, r"gpt\.transformer\.h\.(\d+)\."),
        n_head=_quotient(width, _GPT2_HEAD_DIM, "gpt.transformer.wte.weight"),
        n_inner=inner,
        tie_word_embeddings=torch.equal(head, embedding),
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to fit
        model = GPT2LMHeadModel(config)
    check_weights(kept, model.state_dict(), what="GPT-2")
    model.load_state_dict({name: value.float() for name, value in kept.items()}, assign=True)
    model.tie_weights()
    return model


def _record(
    mapper: MlpMapper | TransformerMapper, *, tokenizer: str, encoder: str | None, normalise: bool | None
) -> dict[str, object]:
    """What ``captioner.json`` says: the published prompt, stop and length, and which features to feed."""
    if encoder is None and mapper.feature_dim != _VIT_B32_FEATURES:
        raise BadInputError(
            f"the mapper takes {mapper.feature_dim} features and {_VIT_B32} gives {_VIT_B32_FEATURES}; "
            "say which CLIP it was trained with: encoder='<folder or hub id>'"
        )
    if normalise is None and isinstance(mapper, TransformerMapper):
        raise BadInputError(
            "the weights do not say whether this transformer wants features of unit length; say "
            "normalise=True (as the published RN50x4 checkpoint) or normalise=False"
        )
    features: dict[str, object] = {"kind": "clip", "model": encoder or _VIT_B32}
    if normalise:
        features["normalise"] = True
    return {
        "format": 1,
        "kind": "clipcap",
        "mapper": mapper.config(),
        "lm": "lm",
        "tokenizer": tokenizer,
        "encoder": features,
        "prompt": {"bos": False, "stop": "."},
        "max_new_tokens": 67,
    }


def _write(out: Path, mapper: MlpMapper | TransformerMapper, model: Any, record: Mapping[str, object]) -> None:
    """Write the folder; ``captioner.json`` last, so a folder cut short is never taken for a captioner."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(mapper.state_dict(), out / "mapper.safetensors")
    model.save_pretrained(out / "lm")
    (out / "captioner.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
