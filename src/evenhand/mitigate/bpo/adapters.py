"""Which weights are trained, and how they are stored. In: a family, choices. Out: the network that is trained; folders.

Either a LoRA adapter on the language model, or the language model's own weights. The picture tokenizer and the picture
encoder are never trained: codes would mean something else afterwards.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from evenhand.errors import ArtefactError, BadInputError, MissingExtraError
from evenhand.models.unified.adapted import refuse_other_layers
from evenhand.models.unified.family import Family

if TYPE_CHECKING:
    from peft import LoraConfig

__all__ = [
    "LINEAR_LAYERS",
    "load_weights",
    "lora_config",
    "save_weights",
    "train_language_model_alone",
    "trained_network",
    "without_dropout",
]

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The published adapter's targets: every linear layer of the language model's blocks."""

_ADAPTER = "adapter_model.safetensors"


def lora_config(
    family: Family,
    *,
    r: int = 32,
    lora_alpha: int = 32,
    lora_dropout: float = 0.0,
    target_modules: Iterable[str] = LINEAR_LAYERS,
) -> "LoraConfig":
    """A LoRA adapter (Hu et al., arXiv 2106.09685) on the language model's blocks alone; names are PEFT's.

    Args:
        family: Whose language model it sits on; layers of these names elsewhere (SigLIP has some) are left alone.
        r: Rank.
        lora_alpha: Scale, divided by the rank.
        lora_dropout: In front of the adapter; the published recipe has 0.1.
        target_modules: Names of linear layers.

    Raises:
        MissingExtraError: PEFT is not installed.
        BadInputError: No layer of the language model has one of these names.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    names = tuple(target_modules)
    inside = _name_of(family)
    known = {name.rsplit(".", 1)[-1] for name, layer in family.language_model.named_modules() if _linear(layer)}
    absent = [name for name in names if name not in known]
    if absent or not names:
        raise BadInputError(
            f"target_modules: got {', '.join(absent) or 'none'}; the language model has {', '.join(sorted(known))}."
        )
    found = rf"{re.escape(inside)}\..*\.({'|'.join(map(re.escape, names))})"
    return LoraConfig(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, bias="none", target_modules=found)


def trained_network(
    family: Family, config: "LoraConfig | None", *, start: str | Path | None = None, disable_dropout: bool = True
) -> nn.Module:
    """The network to train, with gradients on what is trained alone.

    Args:
        family: Its model gets the adapter, in place.
        config: Of a new adapter; None trains the language model's own weights, or goes on with ``start``.
        start: Folder of an adapter to go on with, such as stage 1's.
        disable_dropout: Turn every dropout off, an adapter's too.

    Raises:
        BadInputError: Both a new adapter and one to go on with.
        ArtefactError: ``start`` holds no adapter of this model.
        MissingExtraError: PEFT is not installed.
    """
    if config is not None and start is not None:
        raise BadInputError("peft_config: got one and an adapter to go on with; leave one of them out.")
    if config is None and start is None:
        network: nn.Module = family.model
        network.requires_grad_(False)
        family.language_model.requires_grad_(True)
    else:
        network = _adapted(family, config, start)
    if disable_dropout:
        without_dropout(network)
    return network


def train_language_model_alone(family: Family, mode: bool) -> None:
    """Training mode for what is trained; everything else, batch statistics of picture encoders above all, stays."""
    family.model.eval()
    family.language_model.train(mode)


def without_dropout(network: nn.Module) -> None:
    """Turn every dropout off, for good."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  (a module's attributes are typed as tensors)


def save_weights(network: Any, folder: str | Path, *, state: dict[str, Any] | None = None) -> None:
    """Store an adapter, or the whole model, as ``from_pretrained`` reads it: safetensors and JSON.

    Args:
        network: As ``trained_network`` gives it.
        folder: Made if it is not there.
        state: The weights, where a framework has gathered them.
    """
    network.save_pretrained(folder, state_dict=state, safe_serialization=True)


def load_weights(network: Any, folder: str | Path) -> None:
    """Put stored weights into a network of the same make.

    Raises:
        ArtefactError: They are absent, damaged, or of another network.
    """
    place = Path(folder)
    try:
        if (place / _ADAPTER).is_file():
            _load_adapter(network, place)
        else:
            stored = type(network).from_pretrained(place, dtype=next(network.parameters()).dtype)
            network.load_state_dict(stored.state_dict())
    except (OSError, SafetensorError, RuntimeError, ValueError, AttributeError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(
            f"{str(place)!r}: its weights cannot be put into this model ({error}); give a folder that was trained from "
            "the same model with the same adapter."
        ) from error


def _load_adapter(network: Any, place: Path) -> None:
    from peft import PeftModel, set_peft_model_state_dict

    if not isinstance(network, PeftModel):
        raise ArtefactError(f"{str(place)!r} holds an adapter; this run trains whole weights. Give it peft_config.")
    result: Any = set_peft_model_state_dict(network, load_file(place / _ADAPTER))
    wanted = {name for name, one in network.named_parameters() if one.requires_grad}
    absent = sorted(wanted & set(result.missing_keys))
    if absent or result.unexpected_keys:
        raise ArtefactError(
            f"{str(place)!r}: its adapter is of another network ({len(absent)} weights absent, "
            f"{len(result.unexpected_keys)} not wanted); give one trained from the same model with the same layers."
        )


def _adapted(family: Family, config: "LoraConfig | None", start: str | Path | None) -> nn.Module:
    try:
        from peft import PeftModel, get_peft_model
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    if config is not None:
        made: nn.Module = get_peft_model(family.model, config)
        return made
    try:
        opened: nn.Module = PeftModel.from_pretrained(family.model, str(start), is_trainable=True)
        refuse_other_layers(opened, str(start))
    except ArtefactError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise ArtefactError(
            f"{str(start)!r}: no adapter of this model ({error}); give the folder of a run trained from it."
        ) from error
    return opened


def _name_of(family: Family) -> str:
    """Where the language model is in the model."""
    for name, module in family.model.named_modules():
        if module is family.language_model:
            return str(name)
    raise ArtefactError(f"a {type(family.model).__name__} does not hold its language model; open it again.")


def _linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)
