"""How likely each picture was before training, where its group is asked for. In: a model, tuples. Out: nats, kept.

The reference of the posterior loss. It is worked out once, before the first step, and stored beside the checkpoints:
a run that goes on must compare with the model it started from, which may be gone by then.
"""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evenhand.errors import BadInputError, ChangedRunError, CorruptLedgerError
from evenhand.mitigate.bpo.tuples import TupleSet
from evenhand.models.protocol import ComparingModel

__all__ = ["kept_reference", "reference_log_probs", "set_digest"]

_FILE = "reference.safetensors"


def set_digest(tuples: TupleSet) -> str:
    """SHA-256, 16 hex characters, of everything that is trained on: groups, prompts, codes."""
    found = hashlib.sha256("\0".join((tuples.attribute, *tuples.groups, tuples.codebook_digest)).encode())
    for one in tuples.tuples:
        found.update("\0".join((one.prompt, *one.asked)).encode())
        found.update(one.codes.astype("<i4").tobytes())
    return found.hexdigest()[:16]


def reference_log_probs(
    model: ComparingModel, tuples: TupleSet, *, guidance: float = 1.0, batch_size: int | None = None
) -> Float[Tensor, "tuples groups"]:
    """Log-probability of each picture under the prompt that asks for its group; nats, a sum over codes.

    Each prompt is read once for all its pictures.

    Raises:
        BadInputError: A picture has no such prompt.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for row, one in enumerate(tuples.tuples):
        for group, asked in enumerate(one.asked):
            if not asked:
                raise BadInputError(
                    f"tuple {row} ({one.prompt!r}): the picture of {one.groups[group]!r} has no prompt that asks for "
                    "its group; the posterior loss needs one. Make the data anew, or use loss_type='log_odds'."
                )
            places.setdefault(asked, []).append((row, group))
    found = torch.zeros(len(tuples.tuples), len(tuples.groups))
    for asked, members in places.items():
        codes = torch.stack([torch.from_numpy(tuples.tuples[row].codes[group]).long() for row, group in members])
        told = model.log_probs_under([asked], codes, guidance=guidance, batch_size=batch_size)[:, 0].sum(dim=-1)
        for (row, group), value in zip(members, told.tolist(), strict=True):
            found[row, group] = value
    return found


def kept_reference(
    model: ComparingModel,
    tuples: TupleSet,
    folder: str | Path,
    *,
    write: bool,
    guidance: float = 1.0,
    batch_size: int | None = None,
) -> Float[Tensor, "tuples groups"]:
    """The reference that a run's folder holds, else a new one, which is stored there.

    Args:
        model: Before training.
        tuples: What is trained on.
        folder: Of the run.
        write: Whether this process stores it.
        guidance: w at which pictures are likely.
        batch_size: Pictures read together.

    Raises:
        ChangedRunError: The folder's reference is of other tuples.
        CorruptLedgerError: It cannot be read.
    """
    place, digest = Path(folder) / _FILE, set_digest(tuples)
    if place.is_file():
        return _stored(place, digest)
    found = reference_log_probs(model, tuples, guidance=guidance, batch_size=batch_size)
    if write:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(".part")
        save_file({"reference": found}, part, metadata={"tuples": digest})
        part.replace(place)
    return found


def _stored(place: Path, digest: str) -> Tensor:
    try:
        with safe_open(place, "pt") as held:
            of = (held.metadata() or {}).get("tuples")
            found: Tensor = held.get_tensor("reference")
    except (OSError, SafetensorError, KeyError) as error:
        raise CorruptLedgerError(f"{str(place)!r} cannot be read ({error}); remove it and train anew.") from error
    if of != digest:
        raise ChangedRunError(
            f"{str(place.parent)!r} was begun with other tuples ({of}, these are {digest}); give the same data, or "
            "another folder."
        )
    return found
