"""The model that is trained. In: a name, or an open one. Out: a model that writes picture codes, or a refusal."""

from collections.abc import Mapping

from evenhand.errors import BadInputError
from evenhand.models.protocol import ImageModel
from evenhand.models.unified.model import UnifiedModel
from evenhand.pipeline.opening import open_image_model

__all__ = ["open_unified"]


def open_unified(model: str | ImageModel, options: Mapping[str, object] | None = None) -> UnifiedModel:
    """A unified model.

    Args:
        model: ``unified:FOLDER_OR_HUB_ID``, ``miniature`` or an open one.
        options: Of a model by name.

    Raises:
        BadInputError: It writes no picture codes.
        EvenhandError: As its loader says.
    """
    found = model if isinstance(model, UnifiedModel) else open_image_model(model, options)
    if not isinstance(found, UnifiedModel):
        raise BadInputError(
            f"model: {model!r} writes no picture codes; allowed: unified:FOLDER_OR_HUB_ID (Janus, Emu3), miniature."
        )
    return found
