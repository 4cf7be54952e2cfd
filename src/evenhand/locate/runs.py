"""A whole location of bias. In: a model that draws, how it is read. Out: a folder, and where the bias sits.

locate_bias:   model ──► folder (``gather``) ──► Located, one per attribute
read_location: folder ──► the same, without the model
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evenhand.errors import BadInputError
from evenhand.locate.gather import Bars, gather, open_to_locate
from evenhand.locate.labelled import LabelledPictures, balanced_pictures, read_labelled
from evenhand.locate.labelled_run import refuse_others
from evenhand.locate.measure import measure_location
from evenhand.locate.plan import LocationPlan, labelled_folder, read_location_plan, write_location_plan
from evenhand.located import Located
from evenhand.models.protocol import CodeModel, ImageModel
from evenhand.pipeline.labels import Reading
from evenhand.pipeline.picture_runs import open_plan
from evenhand.records import Attribute
from evenhand.run_folder import RunFolder

__all__ = ["ANSWERS", "ASKED", "LABELLED", "PICTURES", "locate_bias", "read_location"]

PICTURES, ASKED, ANSWERS = 48, 16, 20
"""By default, pictures of each neutral prompt and of each that asks for a group, and answers about each occupation."""

LABELLED = 240
"""Labelled pictures of each group that are sent round, at most."""

_OWN = re.compile(r"neutral|labelled-.+|asked-.+|location\.json|locate\.(html|json)|\..*")


def locate_bias(
    model: str | ImageModel,
    *,
    plan: LocationPlan,
    out: str | Path,
    data: str | Path = "test",
    pictures: int = PICTURES,
    asked: int = ASKED,
    answers: int = ANSWERS,
    labelled: str | None = None,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
    bars: Bars | None = None,
) -> tuple[Located, ...]:
    """In which part of a model its bias sits; a folder that holds a part of the same location is completed.

    Everything that can be refused is refused before the first picture is drawn.

    Args:
        model: ``NAME`` or ``NAME:ARGUMENT`` of the registry's ``image_models``, or an object with the members of
            ``ImageModel``. One that also is a ``CodeModel`` gives likelihoods; of another little can be told.
        plan: What reads the pictures, for which attributes, and the margin.
        out: The folder.
        data: The occupations: ``test``, ``train`` or a file.
        pictures: Of each neutral prompt.
        asked: Of each prompt that asks for a group.
        answers: Answers about each occupation on an empty picture; 0 asks none.
        labelled: Pictures with labels, as ``locate.labelled.read_labelled`` takes them, ``LABELLED`` of each group at
            most; None sends none round.
        seed: Of the runs.
        options: Of a model that is given by name.
        bars: Shows progress.

    Returns:
        One record per attribute of the plan.

    Raises:
        BadInputError: A number out of range, or the model draws from another distribution than it is scored with.
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    if pictures < 1 or asked < 1 or answers < 0:
        raise BadInputError(
            f"got pictures {pictures}, asked {asked}, answers {answers}; allowed: 1 and more pictures of each prompt, "
            "0 and more answers."
        )
    _refuse_foreign(out)
    opened = open_plan(plan.scoring)
    known = {} if labelled is None else _labelled(labelled, [one.attribute for one in plan.scoring.read_by], seed)
    for name, given in known.items():
        refuse_others(labelled_folder(out, name), given)
    drawing = open_to_locate(model, guidance=plan.guidance, options=options)
    gather(
        drawing,
        plan,
        out,
        data=data,
        pictures=pictures,
        asked=asked,
        answers=answers,
        labelled=known,
        seed=seed,
        bars=bars,
    )
    shape = drawing.code_shape if isinstance(drawing, CodeModel) else ()
    plan = replace(plan, code_shape=shape, labelled=None if labelled is None else Path(labelled).name)
    write_location_plan(out, plan)
    return measure_location(out, plan, opened)


def read_location(out: str | Path, *, reading: Reading = "kept") -> tuple[Located, ...]:
    """What a folder of a location says, from what is in it.

    Args:
        out: The folder.
        reading: Whether labels that were kept are used (``pipeline.labels``).

    Raises:
        LedgerError: No location, or a file is not what was written.
        EvenhandError: As the stages say.
    """
    plan = read_location_plan(out)
    return measure_location(out, plan, open_plan(plan.scoring), reading=reading)


def _labelled(source: str, attributes: Sequence[Attribute], seed: int) -> dict[str, LabelledPictures]:
    """Attribute -> pictures labelled for it; one that the source does not know is not there."""
    found = read_labelled(source, attributes)
    known = [one for one in attributes if any(one.name in facts for facts in found.facts)]
    return {one.name: balanced_pictures(found, one, at_most=LABELLED, seed=seed) for one in known}


def _refuse_foreign(out: str | Path) -> None:
    """Refuse a folder that holds something else than a location, whole or begun."""
    foreign = [name for name in RunFolder(out).names() if not _OWN.fullmatch(name)]
    if foreign:
        raise BadInputError(
            f"{str(out)!r} holds {foreign[0]!r} and is no location; allowed: a new folder, or one that evenhand locate "
            "made; give another --out."
        )
