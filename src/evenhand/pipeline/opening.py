"""Names become components. In: ``NAME`` or ``NAME:ARGUMENT``, options. Out: a model that draws, or a labeller.

Nothing heavy is imported before a name is looked up.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.classify.pictures.protocol import FaceCutter, PictureClassifier
from evenhand.errors import BadInputError, EvenhandError
from evenhand.models.protocol import ImageModel
from evenhand.pipeline.plans import ReadBy
from evenhand.pipeline.typed_options import typed_options
from evenhand.records import Attribute, Label, Sample
from evenhand.registry import load

__all__ = ["DRAWING_MODELS", "DRAWING_PROBES", "Labeller", "draws", "open_image_model", "open_labeller"]

DRAWING_MODELS = ("diffusers", "images-api", "miniature", "unified")
"""Registered models that ship and draw."""

DRAWING_PROBES = ("occupations", "occupations_augmented")
"""Registered probes that ship and ask for pictures."""

_TEXT_MODELS = ("captioner", "hf")


@runtime_checkable
class Labeller(Protocol):
    """Says what pictures show.

    Attributes:
        attribute: Whose groups it tells apart.
        settings: JSON values that say exactly how.
    """

    attribute: Attribute
    settings: Mapping[str, object]

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; the samples come with their pictures."""
        ...


def draws(model: str, probe: str | None = None) -> bool:
    """Whether a name is of a model that draws: what ships is known, of others the probe decides."""
    name = model.partition(":")[0]
    return name in DRAWING_MODELS or (name not in _TEXT_MODELS and probe in DRAWING_PROBES)


def open_image_model(model: str | ImageModel, options: Mapping[str, object] | None = None) -> ImageModel:
    """A model that draws.

    Args:
        model: ``NAME`` or ``NAME:ARGUMENT`` of the registry's ``models``, or any object with the members of
            ``ImageModel``.
        options: Keyword arguments of the name's loader, such as ``guidance`` or ``batch_size``; a text is read as the
            loader's annotation says.

    Raises:
        UnknownNameError: No such name.
        BadInputError: It does not draw, has no such option or not of this type, cannot be opened with it (for example
            on a device that is not there), or has no batch size.
        EvenhandError: As its loader says.
    """
    if isinstance(model, str):
        name, _, argument = model.partition(":")
        loader = cast(Callable[..., object], load("models", name))
        if name in _TEXT_MODELS:
            raise BadInputError(
                f"model {model!r} answers about pictures, it does not draw; allowed here: "
                f"{', '.join(DRAWING_MODELS)}, each with :FOLDER_OR_NAME, or an object with the members of ImageModel."
            )
        found = _loaded(name, loader, [argument] if argument else [], options or {})
    else:
        found = model
    if not isinstance(found, ImageModel):
        raise BadInputError(
            f"model: got {type(found).__name__}; needs name, revision, batch_size, settings, replayable and draw "
            "(see ImageModel)."
        )
    if found.batch_size < 1:
        raise BadInputError(f"model {found.name!r}: batch_size is {found.batch_size}; give 1 or more.")
    return found


def open_labeller(read_by: ReadBy) -> Labeller:
    """What reads an attribute in pictures, face stage included.

    Raises:
        UnknownNameError: No such classifier.
        BadInputError: Its groups are not the attribute's, or a face stage stands before labels by people.
        EvenhandError: As the classifier's loader says.
    """
    name, _, argument = read_by.classifier.partition(":")
    found = cast(Callable[..., object], load("picture_classifiers", name))(argument or None, read_by.attribute)
    if isinstance(found, PictureClassifier):
        faces = None
        if read_by.faces != "none":
            faces = cast(Callable[[], FaceCutter], load("face_stages", read_by.faces))()
        return PictureLabeller(found, read_by.attribute, faces=faces)
    if not isinstance(found, Labeller):
        raise BadInputError(
            f"classifier {name}: got {type(found).__name__}; needs name, groups, settings and read (see "
            "PictureClassifier), or attribute, settings and label."
        )
    if read_by.faces != "none":
        raise BadInputError(f"classifier {name} gives labels, no face is cut for it; leave out the face stage.")
    return found


def _loaded(name: str, loader: Callable[..., object], given: Sequence[str], options: Mapping[str, object]) -> object:
    try:
        inspect.signature(loader).bind(*given, **options)
    except TypeError as error:
        raise BadInputError(f"model {name}: {error}; {_allowed(loader)}.") from error
    try:
        typed = typed_options(loader, options)
    except BadInputError as error:
        raise BadInputError(f"model {name}: {error}; {_allowed(loader)}.") from error
    try:
        return loader(*given, **typed)
    except EvenhandError:
        raise
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # torch: no such device, no such dtype
        said = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise BadInputError(f"model {name}: {said}; check what is given; {_allowed(loader)}.") from error


def _allowed(loader: Callable[..., object]) -> str:
    known = inspect.signature(loader).parameters.values()
    listed = [one.name for one in known if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return f"allowed --option: {', '.join(listed) or 'none'}"
