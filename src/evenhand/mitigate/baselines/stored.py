"""Fitted feature mitigations on disk. In: a mitigation, or its folder. Out: its folder, or the mitigation.

A folder holds ``mitigation.json`` (method, sizes, settings) and ``mitigation.safetensors``; a pickle is never read.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenhand.errors import ArtefactError
from evenhand.mitigate.baselines.dear import AdditiveResidual
from evenhand.mitigate.baselines.features import FeatureMitigation, FixedDims

__all__ = ["load_mitigation", "save_mitigation"]

_FORMAT = 1
_Maker = Callable[[str, int, Tensor, Tensor, Mapping[str, object]], FeatureMitigation]
_KINDS: Mapping[str, tuple[_Maker, tuple[str, str]]] = {
    "sfid": (FixedDims, ("dims", "values")),
    "clip_clip": (FixedDims, ("dims", "values")),
    "dear": (AdditiveResidual, ("first", "second")),
}
_DIMENSIONS = {"dims": 1, "values": 1, "first": 2, "second": 2}


def save_mitigation(mitigation: FeatureMitigation, folder: Path) -> None:
    """Write ``mitigation.json`` and ``mitigation.safetensors``; the folder is made where it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(mitigation.tensors(), folder / "mitigation.safetensors")
    stated = {
        "format": _FORMAT,
        "kind": mitigation.name,
        "feature_dim": mitigation.feature_dim,
        "settings": dict(mitigation.settings),
    }
    (folder / "mitigation.json").write_text(json.dumps(stated, indent=2) + "\n", "utf-8")


def load_mitigation(folder: Path) -> FeatureMitigation:
    """The mitigation in a folder.

    Raises:
        ArtefactError: The folder is not a mitigation's, or its weights are misshapen or not finite.
    """
    try:
        stated: Any = json.loads((folder / "mitigation.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder}: no readable mitigation.json ({error}); give a mitigation's folder.") from error
    ours = isinstance(stated, dict) and stated.get("format") == _FORMAT and stated.get("kind") in _KINDS
    if not ours or not isinstance(stated.get("settings"), dict) or type(stated.get("feature_dim")) is not int:
        raise ArtefactError(
            f"{folder}: not a feature mitigation of format {_FORMAT} and kind {', '.join(_KINDS)}; "
            "fit and save it again."
        )
    path = folder / "mitigation.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: {error}; give a safetensors file (a pickle is never read).") from error
    maker, wanted = _KINDS[stated["kind"]]
    if set(tensors) != set(wanted):
        raise ArtefactError(f"{path}: holds {sorted(tensors)}; needs {', '.join(wanted)}.")
    for name, tensor in tensors.items():
        if tensor.dim() != _DIMENSIONS[name] or tensor.is_floating_point() == (name == "dims"):
            raise ArtefactError(
                f"{path}: {name} has shape {tuple(tensor.shape)} and type {tensor.dtype}; fit it again."
            )
    return maker(stated["kind"], stated["feature_dim"], tensors[wanted[0]], tensors[wanted[1]], stated["settings"])
