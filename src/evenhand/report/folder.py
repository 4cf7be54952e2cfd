"""Files of a report. In: names and texts. Out: files in a folder, each whole or not at all."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from evenhand.errors import BadInputError

__all__ = ["write_files"]


def write_files(out: Path, files: Mapping[str, str]) -> None:
    """Write texts into a folder, in order, each whole or not at all; files of these names are replaced.

    Args:
        out: The folder; made where absent.
        files: Name -> text.

    Raises:
        BadInputError: The folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            _replace(out / name, text)
    except OSError as error:
        raise BadInputError(
            f"report: cannot write to {str(out)!r}: got {error.strerror or error}; allowed: a folder that can be "
            "written to; give another one with --out."
        ) from error


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(text.encode())
        os.replace(scratch, path)
    finally:
        with suppress(OSError):  # the first error is the one to tell
            scratch.unlink()
