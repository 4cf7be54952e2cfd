"""Options that several verbs share for drawn pictures. In: what was typed. Out: a scoring plan, a model's options."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.pipeline.plans import ScoringPlan

__all__ = [
    "AttributeOption",
    "ClassifierOption",
    "ConfusionOption",
    "DenominatorOption",
    "FacesOption",
    "MinConfidenceOption",
    "ModelOptions",
    "PromptsOption",
    "QualityOption",
    "model_options",
    "scoring_plan",
]

AttributeOption = Annotated[str, typer.Option(help="A shipped attribute or a YAML file; several with commas.")]
ClassifierOption = Annotated[
    list[str] | None,
    typer.Option(
        help="What reads drawn pictures: CLASSIFIER or ATTRIBUTE=CLASSIFIER; repeat. For example photographs, "
        "zero-shot:FOLDER, linear:FOLDER@ENCODER, mobilenet:FILE, people:FILE.csv, avatars."
    ),
]
FacesOption = Annotated[
    str, typer.Option(help="Face stage before the classifier: none, unknown (several faces), largest.")
]
ConfusionOption = Annotated[
    list[str] | None,
    typer.Option(help="ATTRIBUTE=FILE.json: how the classifier errs on labelled pictures; corrects shares. Repeat."),
]
DenominatorOption = Annotated[str, typer.Option(help="What shares are shares of: all, face, confident.")]
MinConfidenceOption = Annotated[
    float, typer.Option(min=0, max=1, help="Below it a label shows no group (denominator confident).")
]
PromptsOption = Annotated[
    str, typer.Option(help="What intervals are for: fixed (these very prompts), sampled (those they were drawn from).")
]
QualityOption = Annotated[
    list[str] | None, typer.Option(help="clip-s:FOLDER, clip-iqa:FOLDER, inception:FILE; repeat.")
]
ModelOptions = Annotated[list[str] | None, typer.Option("--option", help="KEY=VALUE of the model; repeat.")]

# What reads the pictures of models whose pictures nothing else can read.
_SUITED = {"miniature": "avatars"}


def scoring_plan(
    model: str,
    attribute: str,
    *,
    classifier: Sequence[str] | None,
    faces: str,
    confusion: Sequence[str] | None,
    denominator: str,
    min_confidence: float,
    quality: Sequence[str] | None,
    prompts: str,
) -> "ScoringPlan":
    """The plan that the options say.

    Args:
        model: As it was named; the miniature's pictures are read by ``avatars`` unless something else is said.
        attribute: Names or files, with commas between.
        classifier: As typed.
        faces: As typed.
        confusion: As typed.
        denominator: As typed.
        min_confidence: As typed.
        quality: As typed.
        prompts: As typed.

    Raises:
        BadInputError: An attribute without a classifier, or one that is not among the attributes.
        UnknownNameError: No such attribute.
    """
    from evenhand.attributes import load_attribute
    from evenhand.pipeline.plans import ReadBy, ScoringPlan, load_confusion

    declared = [load_attribute(one.strip()) for one in attribute.split(",") if one.strip()]
    names = [one.name for one in declared]
    readers = _by_attribute(classifier or [_SUITED[name] for name in [model.partition(":")[0]] if name in _SUITED])
    matrices = _by_attribute(confusion or [])
    for option, given in (("--classifier", readers), ("--confusion", matrices)):
        odd = sorted(set(given) - {*names, ""})
        if odd:
            raise BadInputError(f"{option}: {odd[0]!r} is not among the attributes; allowed: {', '.join(names)}.")
    if "" in matrices:
        raise BadInputError(f"--confusion: got {matrices['']!r}; write ATTRIBUTE=FILE.json.")
    read_by = []
    for one in declared:
        spec = readers.get(one.name, readers.get(""))
        if spec is None:
            raise BadInputError(
                f"nothing is said to read {one.name} in drawn pictures; give --classifier {one.name}=CLASSIFIER, for "
                "example photographs (perceived gender, ships), zero-shot:CLIP_FOLDER, people:LABELS.csv."
            )
        counts = load_confusion(matrices[one.name], one) if one.name in matrices else None
        read_by.append(ReadBy(one, spec, faces, counts))
    return ScoringPlan(tuple(read_by), denominator, min_confidence, tuple(quality or ()), prompts=prompts)


def model_options(given: Sequence[str] | None) -> dict[str, object]:
    """``KEY=VALUE`` as keyword arguments; a value is read as YAML reads a scalar.

    Raises:
        BadInputError: Not of that form, a key twice, or a value that is no scalar.
    """
    import yaml

    found: dict[str, object] = {}
    for one in given or ():
        key, equals, text = one.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier() or key in found:
            raise BadInputError(f"--option: got {one!r}; write KEY=VALUE, each key once.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if not isinstance(value, str | int | float | bool):
            raise BadInputError(f"--option {key}: got {text!r}; allowed: a text, a number, true or false.")
        found[key] = value
    return found


def _by_attribute(given: Sequence[str]) -> dict[str, str]:
    """``ATTRIBUTE=VALUE`` -> value; a value alone stands under the empty name."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        # A path or a hub id may hold an equals sign; an attribute's name holds none of these.
        if not equals or any(mark in name for mark in ":/\\."):
            name, value = "", one
        if name in found:
            raise BadInputError(f"got {one!r} and {found[name]!r} for {name or 'all attributes'}; allowed: one.")
        found[name] = value
    return found
