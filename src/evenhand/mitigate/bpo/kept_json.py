"""Small files of a run. In: a folder, a name. Out: what is kept there, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenhand.errors import CorruptLedgerError, LedgerError
from evenhand.run_folder import RunFolder

__all__ = ["read_json", "write_json"]


def read_json(folder: str | Path, name: str) -> dict[str, Any] | None:
    """What a file holds; None where it is not there.

    Raises:
        CorruptLedgerError: It is not a JSON object.
        LedgerError: The folder cannot be read.
    """
    place = RunFolder(folder)
    if name not in place.names():
        return None
    try:
        held = json.loads(place.read(name))
        if not isinstance(held, dict):
            raise ValueError(f"got {type(held).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise CorruptLedgerError(
            f"{folder!s}/{name} is not what was written ({error}); delete it, or the folder."
        ) from error
    return held


def write_json(folder: str | Path, name: str, content: Mapping[str, Any]) -> None:
    """Keep JSON values; what was there is replaced.

    Raises:
        LedgerError: The folder cannot be written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"{folder!s} cannot be made ({error.strerror}); give another --out.") from error
    RunFolder(folder).write(name, (json.dumps(content, indent=2) + "\n").encode())
