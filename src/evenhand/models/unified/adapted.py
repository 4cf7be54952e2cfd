"""A trained adapter put into a model. In: a model, the adapter's folder. Out: the same model with other weights."""

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from evenhand.errors import ArtefactError, MissingExtraError

__all__ = ["merge_adapter", "refuse_other_layers"]

_WEIGHTS = "adapter_model.safetensors"


def merge_adapter(model: Any, folder: str) -> str:
    """Add a LoRA adapter to the weights, in place, so that the model runs as fast as before.

    Args:
        model: Of transformers.
        folder: With ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        A fingerprint of the adapter, 8 hex characters.

    Raises:
        ArtefactError: No adapter there, or one of another model.
        MissingExtraError: PEFT is not installed.
    """
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    file = Path(folder) / _WEIGHTS
    if not file.is_file():
        raise ArtefactError(
            f"adapter: {folder!r} has no {_WEIGHTS}; give the folder of evenhand mitigate sft or bpo. Whole weights "
            "are a model of their own: unified:FOLDER."
        )
    before = {name: one.shape for name, one in model.named_parameters()}
    try:
        config = PeftConfig.from_pretrained(folder)
        adapted = PeftModel.from_pretrained(model, folder, config=config)
        refuse_other_layers(adapted, folder)
        adapted.merge_and_unload(safe_merge=True)
    except ArtefactError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"adapter: {folder!r} does not fit this model ({error}); give one trained from it."
        ) from error
    if {name: one.shape for name, one in model.named_parameters()} != before:
        raise ArtefactError(f"adapter: {folder!r} changes more than weights; allowed: LoRA adapters on linear layers.")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def refuse_other_layers(adapted: Any, folder: str | Path) -> None:
    """Refuse an adapter's file that lacks weights of the adapter, or has others: PEFT leaves them as they were drawn.

    Args:
        adapted: PEFT's model, its adapter loaded.
        folder: That it was loaded from.

    Raises:
        ArtefactError: The file's weights are not the adapter's.
    """
    from peft import get_peft_model_state_dict

    with safe_open(Path(folder) / _WEIGHTS, "pt") as held:
        stored = set(held.keys())
    wanted = set(get_peft_model_state_dict(adapted))
    if stored != wanted:
        raise ArtefactError(
            f"adapter: {str(folder)!r} does not fit this model: {len(wanted - stored)} weights are absent, "
            f"{len(stored - wanted)} are not its own; give one trained from it."
        )
