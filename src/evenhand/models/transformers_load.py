"""Loading a vision-language model from transformers. In: a folder or hub id. Out: model, processor, revision.

Weights come from safetensors only, code from transformers only. What is incomplete is refused: a model that would
get random weights for what its files lack, NaN weights, a folder without a processor.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evenhand.errors import ArtefactError, MissingExtraError
from evenhand.models.hidden import language_head

__all__ = ["LoadedModel", "load_vision_language"]

_READ = {".json", ".jinja", ".model", ".safetensors", ".txt"}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A vision-language model ready to generate.

    Attributes:
        model: In evaluation mode, on its device.
        processor: Pictures and text to the model's inputs.
        revision: The hub's commit, or a fingerprint of the folder's files.
    """

    model: Any
    processor: Any
    revision: str


def load_vision_language(
    source: str,
    *,
    device: str,
    dtype: "torch.dtype | str",
    revision: str | None,
    trust_remote_code: bool,
) -> LoadedModel:
    """A model of ``AutoModelForImageTextToText`` and its ``AutoProcessor``.

    Args:
        source: A folder, or a hub id.
        device: Where the model runs, for example ``cpu`` or ``cuda``.
        dtype: Of the weights; ``auto`` takes the files'.
        revision: Commit, tag or branch on the hub.
        trust_remote_code: Run code that comes with the weights.

    Raises:
        ArtefactError: Not such a model, incomplete or not finite weights, no language head, or no processor.
        MissingExtraError: A package the processor needs is not installed.
    """
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    options = {key: value for key, value in options.items() if value is not None}
    processor = _load_processor(source, options)
    model = _load_model(source, dtype, options).to(device).eval()
    return LoadedModel(model, processor, _revision(source, model))


def _load_model(source: str, dtype: "torch.dtype | str", options: dict[str, Any]) -> Any:
    from transformers import AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText
    try:
        model, report = kind.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ArtefactError(
            f"no vision-language model in {source!r}; give a folder with config.json and safetensors (a pickle is "
            f"never read), or a hub id that can be reached: {error}"
        ) from error
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ArtefactError(
            f"{source!r}: the files lack {absent[0]} and {len(absent) - 1} more, which would be random; give the whole "
            f"{type(model).__name__}, its language head included."
        )
    if not model.can_generate() or language_head(model) is None:
        raise ArtefactError(f"{source!r}: {type(model).__name__} has no language head; give a model that writes text.")
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ArtefactError(f"{source!r}: {name} holds NaN or infinity; get the weights again.")
    return model


def _load_processor(source: str, options: dict[str, Any]) -> Any:
    from transformers import AutoProcessor

    kind: Any = AutoProcessor
    try:
        processor = kind.from_pretrained(source, **options)
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise ArtefactError(f"{source!r}: its processor needs a package that is absent: {error}") from error
        return _load_without_videos(source, options, error)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"no processor in {source!r}; save the model's own beside its weights: {error}") from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ArtefactError(
            f"{source!r} holds a {type(processor).__name__} and no processor for pictures; save the model's own beside "
            "its weights."
        )
    return processor


def _load_without_videos(source: str, options: dict[str, Any], error: ImportError) -> Any:
    """A processor whose video part needs torchvision, for pictures alone.

    transformers has image processors that need Pillow only, but a processor class such as Qwen2.5-VL's insists on a
    video processor too. Here it is left out; nothing else of the class changes.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    images: Any = AutoImageProcessor
    try:
        kind: Any = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(source, **options))]
        words: Any = AutoTokenizer.from_pretrained(source, **options)
        parts = {"image_processor": images.from_pretrained(source, **options), "tokenizer": words}
        return _pictures_only(kind)(**parts, video_processor=None, chat_template=words.chat_template)
    except (ImportError, OSError, ValueError, TypeError, KeyError):
        raise MissingExtraError("torchvision", "hf") from error


def _pictures_only(kind: Any) -> Any:
    """A processor class that takes None for its video processor."""

    def check(self: Any, name: str, argument: object) -> object:
        return None if name == "video_processor" else kind.check_argument_for_proper_class(self, name, argument)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})


def _revision(source: str, model: Any) -> str:
    """Twelve characters of the hub's commit, or of a hash over the folder's settings and weights."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit is not None and not Path(source).is_dir():
        return str(commit)[:12]
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(source).iterdir() if p.suffix in _READ):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]
