"""Where a training stands. In: nested state of tensors and numbers. Out: safetensors and JSON, and back; no pickle.

A checkpoint is whole where its ``trainer_state.json`` can be read: the trainer writes it last.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from evenhand.errors import CorruptLedgerError

__all__ = ["draws_now", "last_whole", "put_draws_back", "read_state", "whole", "write_state"]

_STATE = "trainer_state.json"
_PREFIX = "checkpoint-"


def write_state(folder: str | Path, name: str, state: Any) -> None:
    """Store nested dicts, lists, tuples, numbers, strings and tensors as ``name.json`` and ``name.safetensors``.

    Raises:
        OSError: The folder cannot be written to.
        SafetensorError: The same, of its tensors.
    """
    place = Path(folder)
    tensors: dict[str, Tensor] = {}
    content = _told(state, tensors)
    place.mkdir(parents=True, exist_ok=True)
    save_file(tensors, place / f"{name}.safetensors")
    (place / f"{name}.json").write_text(json.dumps(content), "ascii")


def read_state(folder: str | Path, name: str) -> Any:
    """What ``write_state`` stored; tensors on the CPU.

    Raises:
        CorruptLedgerError: A file is absent or damaged.
    """
    place = Path(folder)
    try:
        return _read(json.loads((place / f"{name}.json").read_text("ascii")), load_file(place / f"{name}.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptLedgerError(
            f"{str(place)!r}: {name} cannot be read: {error}; go on from an earlier checkpoint."
        ) from error


def draws_now() -> dict[str, Any]:
    """Where every random number generator of this process stands."""
    kind, keys, at, has_gauss, cached = np.random.get_state()
    version, inner, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(inner), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(at), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def put_draws_back(state: dict[str, Any]) -> None:
    """Put every generator where ``draws_now`` found it."""
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    kind, keys, at, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), at, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def whole(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was written to its end."""
    try:
        json.loads((Path(checkpoint) / _STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def last_whole(folder: str | Path) -> Path | None:
    """The newest checkpoint in a run's folder that was written to its end; None where there is none."""
    found = [
        Path(one.path)
        for one in (os.scandir(folder) if Path(folder).is_dir() else ())
        if one.is_dir() and one.name.startswith(_PREFIX) and one.name.removeprefix(_PREFIX).isdecimal()
    ]
    ordered = sorted(found, key=lambda one: int(one.name.removeprefix(_PREFIX)), reverse=True)
    return next((one for one in ordered if whole(one)), None)


def _told(state: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(state, dict):  # keys may be numbers, which JSON would make strings
        return {"dict": [[key, _told(value, tensors)] for key, value in state.items()]}
    if isinstance(state, list | tuple):
        return {type(state).__name__: [_told(value, tensors) for value in state]}
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(f"a {type(state).__name__} in a training's state; allowed: tensors, numbers, strings, containers.")


def _read(content: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(content, dict):
        return content
    (kind, held), *rest = content.items()
    if rest:
        raise ValueError(f"got {len(content)} kinds in one place")
    if kind == "tensor":
        return tensors[held]
    if kind == "dict":
        return {key: _read(value, tensors) for key, value in held}
    if kind in ("list", "tuple"):
        values = [_read(value, tensors) for value in held]
        return tuple(values) if kind == "tuple" else values
    raise ValueError(f"unknown kind {kind!r}")
