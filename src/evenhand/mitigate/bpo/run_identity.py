"""A folder holds one training. In: what makes a run the run it is. Out: ``training.json``, or a refusal."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from evenhand.errors import ArtefactError, ChangedRunError

__all__ = ["adapter_digest", "keep_identity", "refuse_another_run"]

_RUN = "training.json"
_WEIGHTS = "adapter_model.safetensors"


def refuse_another_run(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Refuse a folder that holds a run of other tuples, another model, another adapter or another loss.

    Raises:
        ChangedRunError: It does; the message says what differs.
    """
    place = Path(folder) / _RUN
    if not place.is_file():
        return
    try:
        held = json.loads(place.read_text("utf-8"))
        odd = [name for name in run if held.get(name) != run[name]]
    except (ValueError, AttributeError) as error:
        raise ChangedRunError(f"{str(place)!r} cannot be read ({error}); give another folder.") from error
    if odd:
        told = ", ".join(f"{name} {held.get(name)!r}, now {run[name]!r}" for name in odd[:4])
        raise ChangedRunError(f"{str(folder)!r} holds another run ({told}); give the same, or another folder.")


def keep_identity(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Write what a run is into its folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / _RUN).write_text(json.dumps(run, indent=2) + "\n", "utf-8")


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
