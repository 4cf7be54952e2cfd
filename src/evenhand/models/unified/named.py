"""A unified model by name. In: what follows the name, options. Out: the model.

What the registry's ``unified`` points to.
"""

from evenhand.errors import BadInputError
from evenhand.models.unified.model import UnifiedModel

__all__ = ["open_unified"]


def open_unified(
    source: str | None = None,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    revision: str | None = None,
    guidance: float | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    batch_size: int = 8,
    adapter: str | None = None,
    picture_size: tuple[int, int] | None = None,
    suffix: str | None = None,
    negative_prompt: str | None = None,
) -> UnifiedModel:
    """A unified model from a folder or hub id, as ``UnifiedModel.from_pretrained``.

    ``picture_size`` (height, width), ``suffix`` and ``negative_prompt`` are for Emu3.

    Raises:
        BadInputError: No source is given, or a number is out of range.
        ArtefactError: As there.
    """
    if not source:
        raise BadInputError("which model? Give a folder, or a hub id, of a Janus or Emu3.")
    own = {"picture_size": picture_size, "suffix": suffix, "negative_prompt": negative_prompt}
    return UnifiedModel.from_pretrained(
        source,
        device=device,
        dtype=dtype,
        revision=revision,
        guidance=guidance,
        temperature=temperature,
        top_k=top_k,
        batch_size=batch_size,
        adapter=adapter,
        **{name: value for name, value in own.items() if value is not None},
    )
