"""Which weights a number came from. In: a path, tensors. Out: a name, a digest, or a typed error."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from evenhand.errors import ArtefactError

__all__ = ["check_finite", "digest", "weights_name"]


def weights_name(path: str, revision: str | None = None) -> str:
    """A folder's or a file's own name, without where it lies; a hub id as it is, with ``@revision``."""
    name = Path(path).resolve().name if Path(path).exists() else path
    return f"{name}@{revision}" if revision else name


def digest(state: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of sha256 over names, types, shapes and values, in the order of the names."""
    found = sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def check_finite(name: str, state: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ArtefactError: A tensor holds one.
    """
    unsound = next(
        (key for key, one in state.items() if one.is_floating_point() and not bool(one.isfinite().all())), ""
    )
    if unsound:
        raise ArtefactError(f"{name}: {unsound} holds NaN or infinite weights; get the weights anew.")
