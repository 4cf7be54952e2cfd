"""The miniature. In: which variant. Out: a real Janus with its real files, open and ready.

Two folders as ``save_pretrained`` writes them, so that any program that opens a Janus opens these. Weights are stored
in half precision and run in single precision.
"""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from evenhand.errors import UnknownNameError
from evenhand.miniature.declared import Variant

if TYPE_CHECKING:
    from evenhand.models.unified.model import UnifiedModel

__all__ = ["FOLDERS", "load_miniature", "miniature_folder"]

_WEIGHTS = Path(__file__).parent / "weights"

FOLDERS: dict[Variant, Path] = {"language": _WEIGHTS / "miniature", "decoder": _WEIGHTS / "miniature-decoder"}
"""Where each variant's files are."""


def miniature_folder(variant: str = "language") -> Path:
    """The folder with a variant's config, weights, tokenizer and processor.

    Raises:
        UnknownNameError: No such variant.
    """
    if variant not in get_args(Variant):
        raise UnknownNameError(
            f"variant of the miniature: got {variant[:60]!r}; known: {', '.join(get_args(Variant))}."
        )
    return next(folder for name, folder in FOLDERS.items() if name == variant)


def load_miniature(
    variant: str = "language",
    *,
    device: str = "cpu",
    guidance: float = 1.0,
    temperature: float = 1.0,
    batch_size: int = 32,
) -> "UnifiedModel":
    """The miniature that ships, behind the same adapter as any Janus.

    Args:
        variant: ``language`` or ``decoder``: where the declared bias sits.
        device: Where it runs.
        guidance: w of classifier-free guidance. The declared shares hold at 1; a larger one sharpens them.
        temperature: Of ``draw``. The declared shares hold at 1.
        batch_size: Pictures drawn together.

    Raises:
        UnknownNameError: No such variant.
        ArtefactError: The files that came with the package are damaged.
    """
    from evenhand.models.unified.model import UnifiedModel

    return UnifiedModel.from_pretrained(
        str(miniature_folder(variant)),
        device=device,
        dtype="float32",
        guidance=guidance,
        temperature=temperature,
        batch_size=batch_size,
    )
