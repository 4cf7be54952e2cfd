"""Everything of a location that needs the model. In: a model, a plan. Out: a folder with pictures and likelihoods.

Neutral prompts are drawn, then the same sentences with each group asked for; every picture is scored under all of them.
Labelled pictures are encoded, decoded and turned into features. What is there is not made again.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.locate.labelled_run import keep_labelled
from evenhand.locate.likelihood import conditions_of, keep_likelihoods
from evenhand.locate.maps import keep_differences
from evenhand.locate.plan import LocationPlan, asked_folder, labelled_folder, neutral_folder
from evenhand.models.protocol import CodeModel, ComparingModel, ImageModel
from evenhand.pipeline.drawing import draw
from evenhand.pipeline.filling import Progress
from evenhand.pipeline.opening import open_image_model
from evenhand.pipeline.picture_runs import sample_pictures
from evenhand.records import Attribute
from evenhand.registry import load, names

if TYPE_CHECKING:
    from evenhand.locate.labelled import LabelledPictures

__all__ = ["Bars", "check_distribution", "gather", "open_to_locate"]

Bars = Callable[[str], AbstractContextManager[Progress | None]]
"""What is being done -> a context that gives somebody to tell of progress."""


def open_to_locate(
    model: str | ImageModel, *, guidance: float, options: Mapping[str, object] | None = None
) -> ImageModel:
    """A model that draws from the distribution that is scored: temperature 1, every code, one guidance.

    Args:
        model: A name of the registry's ``image_models`` or an object.
        guidance: w; a model by name is opened with it where it has codes.
        options: Of a model by name; they may not contradict.

    Raises:
        BadInputError: It draws from another distribution.
        EvenhandError: As its loader says.
    """
    given = dict(options or {})
    if isinstance(model, str):
        name = model.partition(":")[0]
        known = signature(cast(Any, load("image_models", name))).parameters if name in names("image_models") else {}
        if "temperature" in known:  # it writes codes
            wanted: dict[str, object] = {"guidance": guidance, "temperature": 1.0, "top_k": 0}
            given = {key: value for key, value in wanted.items() if key in known} | given
    drawing = open_image_model(model, given)
    if isinstance(drawing, CodeModel):
        check_distribution(drawing, guidance)
    return drawing


def check_distribution(model: ImageModel, guidance: float) -> None:
    """Refuse a model with codes whose pictures come from another distribution than the one that is scored.

    Raises:
        BadInputError: Temperature, number of likeliest codes or guidance is another.
    """
    wanted = {"temperature": 1.0, "top_k": 0, "guidance": guidance}
    odd = {key: model.settings[key] for key, value in wanted.items() if model.settings.get(key, value) != value}
    if odd:
        raise BadInputError(
            f"model {model.name!r} draws with {', '.join(f'{key} {value}' for key, value in odd.items())}; likelihoods "
            f"are of temperature 1, every code (top_k 0) and guidance {guidance}: open it so, or locate with its own."
        )


def gather(
    model: ImageModel,
    plan: LocationPlan,
    out: str | Path,
    *,
    data: str | Path,
    pictures: int,
    asked: int,
    answers: int,
    labelled: "Mapping[str, LabelledPictures]",
    seed: int,
    bars: Bars | None = None,
) -> None:
    """Draw, score, encode and decode what a folder still misses.

    Args:
        model: As ``open_to_locate`` gives it.
        plan: Whose attributes are asked for; its guidance is that of likelihoods.
        out: The folder of the location.
        data: Of the probes ``occupations`` and ``occupations_augmented``.
        pictures: Of each neutral prompt.
        asked: Of each prompt that asks for a group.
        answers: To each question about nobody; 0 asks none.
        labelled: Attribute -> pictures with labels; an attribute that is not there sends none through the model.
        seed: Of the runs.
        bars: Shows progress.

    Raises:
        EvenhandError: As the stages say; what was stored before stays stored.
    """
    show = bars or _untold
    attributes = [one.attribute for one in plan.scoring.read_by]
    neutral = neutral_folder(out)
    with show("neutral pictures") as progress, show("answers") as answering:
        sample_pictures(
            model,
            attributes=attributes,
            out=neutral,
            probe="occupations",
            data=data,
            samples=pictures,
            answers=answers,
            seed=seed,
            progress=progress,
            answering=answering,
        )
    for attribute in attributes:
        folder = asked_folder(out, attribute.name)
        with show(f"pictures asked for {attribute.name}") as progress:
            draw(
                model,
                probe="occupations_augmented",
                data=data,
                out=folder,
                samples=asked,
                attribute=attribute,
                seed=seed,
                progress=progress,
            )
        if isinstance(model, CodeModel):
            _score(model, plan, attribute, (neutral, folder), show)
        if attribute.name in labelled and isinstance(model, CodeModel):
            with show(f"pictures labelled for {attribute.name}") as progress:
                given, run = labelled[attribute.name], labelled_folder(out, attribute.name)
                keep_labelled(model, given, run, progress=progress)


def _untold(what: str) -> AbstractContextManager[Progress | None]:  # noqa: ARG001  (nobody is told)
    return nullcontext(None)


def _score(model: CodeModel, plan: LocationPlan, attribute: Attribute, folders: tuple[Path, Path], show: Bars) -> None:
    (neutral, asked), guidance, level = folders, plan.guidance, plan.scoring.level
    conditions = conditions_of(Ledger.open(neutral).prompts(), Ledger.open(asked).prompts(), attribute.groups)
    size = int(getattr(model, "batch_size", 16))
    for folder, what in ((neutral, "neutral"), (asked, "asked")):
        with show(f"likelihoods, {what}, {attribute.name}") as progress:
            keep_likelihoods(
                model,
                str(folder),
                conditions,
                attribute=attribute.name,
                guidance=guidance,
                batch_size=size,
                progress=progress,
            )
    if isinstance(model, ComparingModel):
        with show(f"where codes differ, {attribute.name}"):
            keep_differences(
                model,
                str(asked),
                conditions,
                attribute=attribute.name,
                guidance=guidance,
                batch_size=size,
                level=level,
            )
