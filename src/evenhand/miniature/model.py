"""The miniature. In: which variant. Out: a real Janus with its real files, open and ready.

Two folders as ``save_pretrained`` writes them, so that any program that opens a Janus opens these. Weights are stored
in half precision and run in single precision. The variant ``even`` is put together of both when it is opened.
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
"""Where each variant's files are; ``even`` has none of its own."""


def miniature_folder(variant: str = "language") -> Path:
    """The folder with a variant's config, weights, tokenizer and processor.

    Raises:
        UnknownNameError: No such variant, or one without a folder.
    """
    _check(variant)
    found = [folder for name, folder in FOLDERS.items() if name == variant]
    if not found:
        raise UnknownNameError(
            f"variant {variant!r} of the miniature has no folder, it is put together by load_miniature; those "
            f"that have: {', '.join(FOLDERS)}."
        )
    return found[0]


def load_miniature(
    variant: str = "language",
    *,
    device: str = "cpu",
    guidance: float = 1.0,
    temperature: float = 1.0,
    batch_size: int = 32,
    adapter: str | None = None,
) -> "UnifiedModel":
    """The miniature that ships, behind the same adapter as any Janus.

    Args:
        variant: ``language`` or ``decoder``: where the declared bias in gender sits; ``even``: nowhere.
        device: Where it runs.
        guidance: w of classifier-free guidance. The declared shares hold at 1; a larger one sharpens them.
        temperature: Of ``draw``. The declared shares hold at 1.
        batch_size: Pictures drawn together.
        adapter: Folder of a LoRA adapter that was trained from this variant.

    Raises:
        UnknownNameError: No such variant.
        ArtefactError: The files that came with the package are damaged.
    """
    from evenhand.models.unified.model import UnifiedModel

    def opened(name: str, adapter: str | None) -> UnifiedModel:
        return UnifiedModel.from_pretrained(
            str(miniature_folder(name)),
            device=device,
            dtype="float32",
            guidance=guidance,
            temperature=temperature,
            batch_size=batch_size,
            adapter=adapter,
        )

    _check(variant)
    if variant != "even":
        return opened(variant, adapter)
    whole, decoding = opened("decoder", adapter), opened("language", None)
    for part in ("decoder", "post_quant_conv"):
        own, other = (getattr(model.model.model.vqmodel, part) for model in (whole, decoding))
        own.load_state_dict(other.state_dict())
    whole.name, whole.revision = "miniature-even", f"{whole.revision}-{decoding.revision}"
    return whole


def _check(variant: str) -> None:
    if variant not in get_args(Variant):
        raise UnknownNameError(
            f"variant of the miniature: got {variant[:60]!r}; known: {', '.join(get_args(Variant))}."
        )
