"""Opening a unified model. In: a folder or hub id. Out: its family, with model and processor.

The config is read first: a model that draws nothing is refused before its weights are fetched. Weights come from
safetensors only, code from transformers only, and what the files lack is refused, as for every vision-language model.
"""

from typing import TYPE_CHECKING, Any

from evenhand.errors import ArtefactError, BadInputError
from evenhand.models.transformers_load import load_vision_language
from evenhand.models.unified.emu3 import Emu3
from evenhand.models.unified.family import Family
from evenhand.models.unified.janus import Janus

if TYPE_CHECKING:
    import torch

__all__ = ["family_of", "load_family"]


def load_family(
    source: str,
    *,
    device: str = "cpu",
    dtype: "torch.dtype | str" = "auto",
    revision: str | None = None,
    **options: Any,
) -> tuple[Family, str]:
    """The family of a checkpoint and its revision; ``options`` are the family's own.

    Raises:
        ArtefactError: No image output, incomplete or not finite weights, or no processor.
        BadInputError: An option the family does not have.
    """
    kind = _model_type(source, revision)
    if kind not in ("janus", "emu3"):
        raise ArtefactError(
            f"{source!r} holds a model of type {kind!r}, which draws no pictures through codes; allowed: janus, emu3. "
            "A model that only reads pictures goes behind 'hf:'."
        )
    loaded = load_vision_language(source, device=device, dtype=dtype, revision=revision, trust_remote_code=False)
    return family_of(loaded.model, loaded.processor, **options), loaded.revision


def family_of(model: Any, processor: Any, **options: Any) -> Family:
    """The family of a model that is in memory.

    Raises:
        ArtefactError: The model draws no pictures through codes.
        BadInputError: An option the family does not have.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    unknown = sorted(set(options) - {"picture_size", "suffix", "negative_prompt"})
    if unknown:
        raise BadInputError(f"got {unknown[0]!r}; allowed, for Emu3: picture_size, suffix, negative_prompt.")
    given = {name: value for name, value in options.items() if value is not None}
    if kind == "janus":
        if given:
            raise BadInputError(f"{', '.join(given)}: Janus has one picture size and one kind of prompt; leave it out.")
        return Janus(model, processor)
    if kind == "emu3":
        return Emu3(model, processor, **given)
    raise ArtefactError(
        f"a {type(model).__name__} draws no pictures through codes; allowed: JanusForConditionalGeneration, "
        "Emu3ForConditionalGeneration."
    )


def _model_type(source: str, revision: str | None) -> str:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ArtefactError(
            f"no model in {source!r}; give a folder with config.json and safetensors, or a hub id that can be reached: "
            f"{error}"
        ) from error
    return str(config.model_type)
