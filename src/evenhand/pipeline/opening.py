"""Names become components. In: ``NAME`` or ``NAME:ARGUMENT``, options. Out: a model that draws, or a labeller.

Nothing heavy is imported before a name is looked up.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from evenhand.classify.pictures.labeller import PictureLabeller
from evenhand.classify.pictures.protocol import FaceCutter, Labeller, PictureClassifier
from evenhand.errors import BadInputError, EvenhandError, UnknownNameError
from evenhand.models.protocol import ImageModel
from evenhand.pipeline.plans import ReadBy
from evenhand.pipeline.typed_options import typed_options
from evenhand.registry import load, names

__all__ = ["draws", "open_image_model", "open_labeller"]


def draws(model: str) -> bool:
    """Whether a name is of a model that draws, or of one that answers about pictures.

    Raises:
        UnknownNameError: It is neither, nor a path; the message names near misses of both kinds.
    """
    name = model.partition(":")[0]
    drawing, answering = names("image_models"), names("models")
    if name in drawing or name in answering or Path(model).exists():
        return name in drawing
    near = get_close_matches(name, (*drawing, *answering), n=3, cutoff=0.5)
    raise UnknownNameError(
        f"no model named {name!r}; these draw: {', '.join(drawing)}; these answer about pictures: "
        f"{', '.join(answering)}, or a captioner's folder." + (f" Did you mean {' or '.join(near)}?" if near else "")
    )


def open_image_model(model: str | ImageModel, options: Mapping[str, object] | None = None) -> ImageModel:
    """A model that draws.

    Args:
        model: ``NAME`` or ``NAME:ARGUMENT`` of the registry's ``image_models``, or any object with the members of
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
        if not draws(model):
            raise BadInputError(
                f"model {model!r} answers about pictures, it does not draw; allowed here: "
                f"{', '.join(names('image_models'))}, or an object with the members of ImageModel."
            )
        loader = cast(Callable[..., object], load("image_models", name))
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
