"""A folder holds one training. In: what makes a run the run it is. Out: ``training.json``, or a refusal."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from evenhand.errors import ArtefactError, ChangedRunError
from evenhand.mitigate.bpo.kept_json import read_json, write_json

__all__ = ["adapter_digest", "batch_of", "keep_identity", "refuse_another_run"]

_RUN = "training.json"
_WEIGHTS = "adapter_model.safetensors"


def refuse_another_run(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Refuse a folder that holds a run of other tuples, another model, another adapter or another loss.

    Raises:
        ChangedRunError: It does; the message says what differs.
    """
    held = read_json(folder, _RUN)
    if held is None:
        return
    odd = [name for name in run if held.get(name) != run[name]]
    if odd:
        told = ", ".join(f"{name} {held.get(name)!r}, now {run[name]!r}" for name in odd[:4])
        raise ChangedRunError(f"{str(folder)!r} holds another run ({told}); give the same, or another folder.")


def keep_identity(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Write what a run is into its folder."""
    write_json(folder, _RUN, run)


def adapter_digest(start: str | Path | None) -> str | None:
    """SHA-256, 16 hex characters, of the weights of an adapter to go on with; None where there is none.

    Raises:
        ArtefactError: The folder holds no adapter.
    """
    if start is None:
        return None
    place = Path(start) / _WEIGHTS
    try:
        return sha256(place.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ArtefactError(
            f"{str(start)!r}: no adapter ({_WEIGHTS} cannot be read: {error.strerror}); give the folder of a run "
            "trained from the same model."
        ) from error


def batch_of(arguments: Any) -> dict[str, Any]:
    """What a step is made of, however it is dealt out to processes.

    Args:
        arguments: transformers' ``TrainingArguments``.
    """
    each = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return {"batch": each * arguments.world_size, "max_grad_norm": arguments.max_grad_norm}
