"""The captioner that ships. In: nothing, or a captioner's folder. Out: a ready ``ClipCap``.

EfficientNet-Lite3 scene features in MiniLM's text space, a mapper trained on captions alone, Gemma 3 270M. What it
was trained on, and what it cannot do, is in the card beside its weights.
"""

from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from evenhand.errors import MissingExtraError

if TYPE_CHECKING:
    from evenhand.models.clipcap import ClipCap

__all__ = ["load_captioner"]


def load_captioner(folder: str | None = None, *, device: str = "cpu") -> "ClipCap":
    """The shipped captioner, or the one in a folder.

    Raises:
        MissingExtraError: The extra ``captioner`` is not installed.
        ArtefactError: The folder does not hold a captioner.
    """
    for package in ("torch", "transformers", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "captioner")
    from evenhand.models.clipcap import load_clipcap

    if folder is not None:
        return load_clipcap(Path(folder), device=device)
    with as_file(files("evenhand.models") / "weights" / "captioner") as shipped:
        return load_clipcap(shipped, name="captioner", device=device)
