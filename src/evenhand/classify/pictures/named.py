"""Classifiers of pictures by name. In: what follows the name, an attribute. Out: a classifier, or labels by people.

What the registry's ``picture_classifiers`` point to: each takes the text after the colon of ``NAME:ARGUMENT`` and the
attribute whose groups it has to tell apart. ``face_stages`` are what may cut the face out in front of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evenhand.errors import BadInputError
from evenhand.registry import load

if TYPE_CHECKING:
    from evenhand.classify.pictures.encoder import FeatureEncoder
    from evenhand.classify.pictures.faces import FaceStage
    from evenhand.classify.pictures.people import PeopleLabels
    from evenhand.classify.pictures.photographs import PhotographClassifier
    from evenhand.classify.pictures.protocol import PictureClassifier
    from evenhand.records import Attribute

__all__ = [
    "open_linear",
    "open_mobilenet",
    "open_people",
    "open_photographs",
    "open_zero_shot",
    "read_largest_face",
    "read_single_face",
]


def open_linear(argument: str | None, attribute: "Attribute") -> "PictureClassifier":
    """``linear:FOLDER@ENCODER``: a fitted head, and the folder or hub id of the vision model it was fitted on.

    Raises:
        BadInputError: One of the two is missing.
        ArtefactError: The head was fitted on another encoder, or is damaged.
    """
    from evenhand.classify.pictures.linear import load_linear_classifier

    folder, _, encoder = _given("linear", argument, "linear:FOLDER@ENCODER").partition("@")
    if not folder or not encoder:
        raise BadInputError(
            f"classifier linear:{argument}: needs the fitted head's folder and the vision model it was fitted on; "
            f"write linear:FOLDER@ENCODER for {attribute.name}."
        )
    opened = cast(Callable[[str], "FeatureEncoder"], load("encoders", "vision"))(encoder)
    return load_linear_classifier(Path(folder), encoder=opened)


def open_mobilenet(argument: str | None, attribute: "Attribute") -> "PictureClassifier":
    """``mobilenet:FILE``: a published head; its layout is the one that has the attribute's groups.

    Raises:
        BadInputError: No layout has these groups.
        ArtefactError: Not such a checkpoint.
    """
    from evenhand.classify.pictures.mobilenet import LAYOUTS, load_mobilenet

    path = _given("mobilenet", argument, "mobilenet:FILE")
    found = next((groups for groups in LAYOUTS.values() if set(groups) == set(attribute.groups)), None)
    if found is None:
        listed = "; ".join(", ".join(groups) for groups in LAYOUTS.values())
        raise BadInputError(
            f"classifier mobilenet: attribute {attribute.name!r} has the groups {', '.join(attribute.groups)}; the "
            f"published heads tell apart: {listed}. Use gender, age or race4."
        )
    return load_mobilenet(path, groups=found)


def open_zero_shot(argument: str | None, attribute: "Attribute") -> "PictureClassifier":
    """``zero-shot:PATH_OR_ID``: a CLIP or SigLIP model, asked with the attribute's default texts.

    Raises:
        BadInputError: No such model.
        ArtefactError: NaN in its weights.
    """
    from evenhand.classify.pictures.zero_shot import load_zero_shot_classifier

    return load_zero_shot_classifier(_given("zero-shot", argument, "zero-shot:PATH_OR_ID"), attribute)


def open_people(argument: str | None, attribute: "Attribute") -> "PeopleLabels":
    """``people:FILE.csv``: what raters saw.

    Raises:
        LabelsError: Not such a file.
    """
    from evenhand.classify.pictures.people import PeopleLabels

    return PeopleLabels(_given("people", argument, "people:FILE.csv"), attribute)


def open_photographs(argument: str | None, attribute: "Attribute") -> "PhotographClassifier":
    """``photographs``: perceived gender of the one face of a photograph; it ships.

    Raises:
        BadInputError: Another attribute than one of male and female.
        MissingExtraError: The extra ``faces`` is not installed.
    """
    from evenhand.classify.pictures.photographs import PhotographClassifier

    if argument:
        raise BadInputError(f"classifier photographs: got the argument {argument!r}; it takes none.")
    if set(attribute.groups) != {"male", "female"}:
        raise BadInputError(
            f"classifier photographs tells male and female apart; attribute {attribute.name!r} has the groups "
            f"{', '.join(attribute.groups)}. Give another classifier for it."
        )
    return PhotographClassifier()


def read_single_face() -> "FaceStage":
    """``unknown``: a picture with several faces is of no known group."""
    from evenhand.classify.pictures.faces import FaceStage

    return FaceStage(several="unknown")


def read_largest_face() -> "FaceStage":
    """``largest``: of several faces the largest is read."""
    from evenhand.classify.pictures.faces import FaceStage

    return FaceStage(several="largest")


def _given(name: str, argument: str | None, form: str) -> str:
    if not argument:
        raise BadInputError(f"classifier {name}: nothing follows the name; write {form}.")
    return argument
