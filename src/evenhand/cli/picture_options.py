"""Options that several verbs share for drawn pictures. In: what was typed. Out: a scoring plan, a model's options."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.pipeline.plans import ReadBy, ScoringPlan
    from evenhand.records import Attribute

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
    "ScoringOptions",
    "changed_plan",
    "declared_attributes",
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
    str | None,
    typer.Option(help="Face stage before the classifier: none (of a new run), unknown (several faces), largest."),
]
ConfusionOption = Annotated[
    list[str] | None,
    typer.Option(help="ATTRIBUTE=FILE.json: how the classifier errs on labelled pictures; corrects shares. Repeat."),
]
DenominatorOption = Annotated[
    str | None, typer.Option(help="What shares are shares of: all, face (of a new run), confident.")
]
MinConfidenceOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Below it a label shows no group (denominator confident); 0.8 of a new run."),
]
PromptsOption = Annotated[
    str | None,
    typer.Option(
        help="What intervals are for: fixed (these very prompts; of a new run), sampled (those they were drawn from)."
    ),
]
QualityOption = Annotated[
    list[str] | None, typer.Option(help="clip-s:FOLDER, clip-iqa:FOLDER, inception:FILE; repeat.")
]
ModelOptions = Annotated[list[str] | None, typer.Option("--option", help="KEY=VALUE of the model; repeat.")]

# What reads the pictures of models whose pictures nothing else can read.
_SUITED = {"miniature": "avatars"}


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How pictures are scored, as typed; None or nothing is what was not said.

    Attributes:
        classifier: ``CLASSIFIER`` or ``ATTRIBUTE=CLASSIFIER`` each.
        faces: Face stage of every attribute.
        confusion: ``ATTRIBUTE=FILE.json`` each.
        denominator: As ``ScoringPlan``, and so are the others.
        min_confidence: As there.
        quality: As there.
        prompts: As there.
    """

    classifier: Sequence[str] | None = None
    faces: str | None = None
    confusion: Sequence[str] | None = None
    denominator: str | None = None
    min_confidence: float | None = None
    quality: Sequence[str] | None = None
    prompts: str | None = None

    def given(self) -> tuple[str, ...]:
        """The options that were typed, as they are typed."""
        said = [one.name for one in fields(self) if getattr(self, one.name) not in (None, [], ())]
        return tuple(f"--{name.replace('_', '-')}" for name in said)


def declared_attributes(typed: str) -> "list[Attribute]":
    """The attributes of ``--attribute``: names or files, with commas between.

    Raises:
        UnknownNameError: No such attribute.
        BadInputError: None, one twice, or a file that is not an attribute.
    """
    from evenhand.attributes import load_attribute
    from evenhand.pipeline.plans import check_attributes

    found = [load_attribute(one.strip()) for one in typed.split(",") if one.strip()]
    check_attributes(found)
    return found


def scoring_plan(
    model: str, attribute: str, options: ScoringOptions, *, stored: "ScoringPlan | None" = None
) -> "ScoringPlan":
    """The plan that the options say.

    Args:
        model: As it was named; the miniature's pictures are read by ``avatars`` unless something else is said.
        attribute: Names or files, with commas between.
        options: As typed.
        stored: What holds where nothing is said, attributes apart.

    Raises:
        BadInputError: An attribute without a classifier, or one that is not among the attributes.
        UnknownNameError: No such attribute.
    """
    from evenhand.pipeline.plans import ReadBy, ScoringPlan, load_confusion

    declared = declared_attributes(attribute)
    suited = [_SUITED[name] for name in [model.partition(":")[0]] if name in _SUITED]
    readers, matrices = _readers_and_matrices(replace(options, classifier=options.classifier or suited), declared)
    read_by = []
    for one in declared:
        spec = readers.get(one.name, readers.get(""))
        if spec is None:
            raise BadInputError(
                f"nothing is said to read {one.name} in drawn pictures; give --classifier {one.name}=CLASSIFIER, for "
                "example photographs (perceived gender, ships), zero-shot:CLIP_FOLDER, people:LABELS.csv."
            )
        counts = load_confusion(matrices[one.name], one) if one.name in matrices else None
        read_by.append(ReadBy(one, spec, options.faces or "none", counts))
    plan = ScoringPlan(tuple(read_by)) if stored is None else replace(stored, read_by=tuple(read_by))
    return _with_choices(plan, options)


def changed_plan(plan: "ScoringPlan", options: ScoringOptions) -> "ScoringPlan":
    """A stored plan with what was typed put in; its attributes stay.

    Counts of a classifier's errors go with the classifier and face stage they were measured with: where either
    changes, they are left out unless others are given.

    Raises:
        BadInputError: An option for an attribute that is not in the plan.
    """
    readers, matrices = _readers_and_matrices(options, [one.attribute for one in plan.read_by])
    read_by = tuple(_changed_reader(one, options.faces, readers, matrices) for one in plan.read_by)
    return _with_choices(replace(plan, read_by=read_by), options)


def _changed_reader(old: "ReadBy", faces: str | None, readers: dict[str, str], matrices: dict[str, str]) -> "ReadBy":
    from evenhand.pipeline.plans import load_confusion

    name = old.attribute.name
    new = replace(old, classifier=readers.get(name, readers.get("", old.classifier)), faces=faces or old.faces)
    if name in matrices:
        return replace(new, confusion=load_confusion(matrices[name], old.attribute))
    return new if new == old else replace(new, confusion=None)


def _with_choices(plan: "ScoringPlan", options: ScoringOptions) -> "ScoringPlan":
    given = {
        "denominator": options.denominator,
        "min_confidence": options.min_confidence,
        "quality": tuple(options.quality or ()) or None,
        "prompts": options.prompts,
    }
    chosen: ScoringPlan = replace(plan, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    return chosen


def _readers_and_matrices(
    options: ScoringOptions, declared: Sequence["Attribute"]
) -> tuple[dict[str, str], dict[str, str]]:
    """Attribute -> classifier, ``""`` for all of them; attribute -> file of counts."""
    names = [one.name for one in declared]
    readers, matrices = _by_attribute(options.classifier or []), _by_attribute(options.confusion or [])
    for option, given in (("--classifier", readers), ("--confusion", matrices)):
        odd = sorted(set(given) - {*names, ""})
        if odd:
            raise BadInputError(f"{option}: {odd[0]!r} is not among the attributes; allowed: {', '.join(names)}.")
    if "" in matrices:
        raise BadInputError(f"--confusion: got {matrices['']!r}; write ATTRIBUTE=FILE.json.")
    return readers, matrices


def model_options(given: Sequence[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` as keyword arguments; what a value means the model's loader says.

    Raises:
        BadInputError: Not of that form, or a key twice.
    """
    found: dict[str, str] = {}
    for one in given or ():
        key, equals, text = one.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier() or key in found:
            raise BadInputError(f"--option: got {one!r}; write KEY=VALUE, each key once.")
        found[key] = text
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
