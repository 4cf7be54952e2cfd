"""Opening a text-to-image pipeline of diffusers. In: a folder or hub id. Out: the pipeline and its revision.

Weights come from safetensors only, code from diffusers and transformers only. What is incomplete is refused: networks
that would get random weights for what their files lack, weights that are not finite.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evenhand.errors import ArtefactError, BadInputError, MissingExtraError

__all__ = ["LoadedPipeline", "load_pipeline"]

_READ = {".json", ".jinja", ".model", ".safetensors", ".txt"}
_BROKEN = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float32}
_NAMED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline ready to draw.

    Attributes:
        pipeline: In evaluation mode, on its device.
        revision: The hub's commit, or a fingerprint of the folder's files.
    """

    pipeline: Any
    revision: str


def load_pipeline(
    source: str,
    *,
    device: str = "cpu",
    dtype: "torch.dtype | str" = "auto",
    revision: str | None = None,
    variant: str | None = None,
) -> LoadedPipeline:
    """A pipeline that draws from text alone.

    Args:
        source: A folder with ``model_index.json``, or a hub id.
        device: Where it runs, for example ``cpu`` or ``cuda``.
        dtype: Of the weights: ``float32``, ``float16``, ``bfloat16``; ``auto`` takes that of the largest file.
        revision: Commit, tag or branch on the hub.
        variant: Of the files, for example ``fp16``.

    Raises:
        ArtefactError: No such pipeline, code of its own, pickles, incomplete or not finite weights.
        BadInputError: An unknown dtype.
        MissingExtraError: ``diffusers`` is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtraError("diffusers", "diffusion") from error
    with _without_bars():
        folder, found = _folder(source, revision, variant)
        kinds = _network_kinds(folder, source)
        chosen = _dtype(dtype, folder)
        networks = {name: _network(folder / name, kind, chosen, variant) for name, kind in kinds.items()}
        given = {**networks, "dtype": chosen, "use_safetensors": True, "variant": variant}
        text_to_image: Any = diffusers.AutoPipelineForText2Image
        any_pipeline: Any = diffusers.DiffusionPipeline
        try:
            try:
                pipeline = text_to_image.from_pretrained(str(folder), **given)
            except ValueError as error:
                if "AutoPipeline can't find" not in str(error):
                    raise
                pipeline = any_pipeline.from_pretrained(str(folder), **given)
        except (*_BROKEN, ImportError) as error:
            raise ArtefactError(f"{source!r} cannot be opened as a pipeline of diffusers: {error}") from error
    _check_task(pipeline, source)
    return LoadedPipeline(pipeline.to(device), found)


def _folder(source: str, revision: str | None, variant: str | None) -> tuple[Path, str]:
    """Where the files are, after a download where there must be one, and their revision."""
    local = Path(source)
    if local.is_dir():
        if not (local / "model_index.json").is_file():
            raise ArtefactError(f"{source!r} has no model_index.json; give the folder that save_pretrained wrote.")
        return local, _fingerprint(local)
    if local.is_file():
        raise ArtefactError(f"{source!r} is one file; give a folder in the layout of diffusers, or a hub id.")
    from diffusers import DiffusionPipeline

    try:
        fetched = DiffusionPipeline.download(source, revision=revision, variant=variant, use_safetensors=True)
    except _BROKEN as error:
        raise ArtefactError(
            f"no pipeline in {source!r}; give a folder with model_index.json and safetensors (a pickle is never read), "
            f"or a hub id that can be reached: {error}"
        ) from error
    return Path(fetched), Path(fetched).name[:12]  # the hub's cache names the folder by the commit


def _fingerprint(folder: Path) -> str:
    """Twelve characters of a hash over the names and contents of settings and weights."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.suffix in _READ and one.is_file()):
        inner = path.relative_to(folder)
        if any(part.startswith(".") for part in inner.parts):
            continue
        with path.open("rb") as file:
            digest.update(inner.as_posix().encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _network_kinds(folder: Path, source: str) -> dict[str, Any]:
    """Class of every network that the index names and the folder holds.

    Raises:
        ArtefactError: The index is unreadable, or names code that is not of diffusers or transformers.
    """
    import diffusers
    import transformers

    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        kind = index.pop("_class_name")
        parts = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ArtefactError(f"{source!r}: model_index.json cannot be read: {error}") from error
    own = [name for name, (library, _) in parts.items() if not (library is None or _known_library(library))]
    if own or not isinstance(kind, str):
        raise ArtefactError(
            f"{source!r}: {own[0] if own else 'the pipeline'} comes with code of its own, which is never run; allowed: "
            "classes of diffusers and transformers."
        )
    networks = {}
    for name, (library, class_name) in parts.items():
        if library is None or not (folder / name).is_dir():
            continue
        module: Any = {"diffusers": diffusers, "transformers": transformers}.get(library)
        found = getattr(module or getattr(diffusers.pipelines, library), str(class_name), None)
        if inspect.isclass(found) and issubclass(found, (diffusers.ModelMixin, transformers.PreTrainedModel)):
            networks[name] = found
    return networks


def _known_library(library: object) -> bool:
    import diffusers

    return library in ("diffusers", "transformers") or (
        isinstance(library, str) and library.isidentifier() and hasattr(diffusers.pipelines, library)
    )


def _network(folder: Path, kind: Any, dtype: torch.dtype, variant: str | None) -> Any:
    """One network with every weight from its files."""
    named: dict[str, Any] = {"dtype": dtype}
    if variant is not None and any(folder.glob(f"*.{variant}*.safetensors")):
        named |= {"variant": variant}
    try:
        network, report = kind.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True, **named)
    except _BROKEN as error:
        raise ArtefactError(
            f"{folder.name}: no {kind.__name__} in safetensors (a pickle is never read); save it again with "
            f"safe_serialization: {error}"
        ) from error
    absent = sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]])
    if absent:
        raise ArtefactError(
            f"{folder.name}: the files lack {absent[0]} and {len(absent) - 1} more, which would be random; give the "
            f"whole {kind.__name__}."
        )
    for name, value in network.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ArtefactError(f"{folder.name}: {name} holds NaN or infinity; get the weights again.")
    return network.eval()


def _dtype(wanted: "torch.dtype | str", folder: Path) -> torch.dtype:
    """One dtype for all networks: pipelines pass tensors from one to the next."""
    if isinstance(wanted, torch.dtype):
        return wanted
    if wanted != "auto":
        if wanted not in _NAMED:
            raise BadInputError(f"dtype: got {wanted!r}; allowed: auto, {', '.join(_NAMED)}.")
        return _NAMED[wanted]
    files = sorted(folder.glob("*/*.safetensors"), key=lambda path: (path.stat().st_size, path.as_posix()))
    if not files:
        raise ArtefactError("the folder holds no safetensors; a pickle is never read: save it with safe_serialization.")
    try:
        with safe_open(str(files[-1]), "pt") as stored:
            found = [str(stored.get_slice(name).get_dtype()) for name in stored.keys()]  # noqa: SIM118 not a dict
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{files[-1].parent.name}/{files[-1].name} is no safetensors file: {error}") from error
    return next((_DTYPES[name] for name in found if name in _DTYPES), torch.float32)


def _check_task(pipeline: Any, source: str) -> None:
    asked = inspect.signature(type(pipeline).__call__).parameters
    needed = [
        name
        for name, one in asked.items()
        if one.default is inspect.Parameter.empty and one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    if "prompt" not in asked or set(needed) - {"self", "prompt"}:
        raise ArtefactError(
            f"{source!r} is a {type(pipeline).__name__}, which does not draw from text alone; give a text-to-image one."
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Nothing is drawn on the terminal while components are loaded."""
    from diffusers.utils import logging
    from transformers.utils import logging as networks

    shown = [one for one in (logging, networks) if one.is_progress_bar_enabled()]
    for one in shown:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in shown:
            one.enable_progress_bar()
