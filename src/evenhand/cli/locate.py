"""``evenhand locate``. In: a model that draws. Out: which part its bias sits in, as a table, a page, or JSON."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evenhand.cli.audit import one_model
from evenhand.cli.output import notes, print_json, progress_bar, work_silently
from evenhand.cli.picture_options import (
    AttributeOption,
    ClassifierOption,
    ConfusionOption,
    FacesOption,
    ModelOptions,
    ScoringOptions,
    model_options,
    scoring_plan,
)

__all__ = ["locate_command"]

# Labelled pictures of models whose world nothing else shows.
_SUITED = {"miniature": "avatars"}


def locate_command(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="miniature, miniature:decoder, unified:PATH_OR_ID; of diffusers:PATH_OR_ID or images-api:NAME, which "
            "give no likelihoods, less can be told.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The same, as an option.")] = None,
    attribute: AttributeOption = "gender",
    data: Annotated[str, typer.Option(help="Occupations: test, train or a file.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder; by default runs/MODEL-locate.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of each prompt that asks for nobody.")] = 48,
    asked: Annotated[int, typer.Option(min=1, help="Pictures of each prompt that asks for a group.")] = 16,
    answers: Annotated[int, typer.Option(min=0, help="Answers about each occupation on an empty picture.")] = 20,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Labelled pictures for the encoder: a CSV or Parquet file (FairFace's will do), avatars, none."
        ),
    ] = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    confusion: ConfusionOption = None,
    guidance: Annotated[
        float, typer.Option(help="Of drawing and of likelihoods; 1 is the model as it was trained.")
    ] = 1.0,
    margin: Annotated[float, typer.Option(help="Smallest effect that matters, as a share of pictures.")] = 0.1,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the runs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Say in which part of a model its bias sits: language model, picture decoder, encoder, or too little is known.

    Draws each occupation without and with a group asked for, and compares what the codes stand for, by likelihood, with
    what the pictures show. A location that was stopped goes on.
    """
    from evenhand.locate.plan import LocationPlan
    from evenhand.locate.runs import locate_bias
    from evenhand.report.locate import location_as_dict, write_location
    from evenhand.report.locate_terminal import verdict_table

    name = one_model(named, model)
    plan = LocationPlan(
        scoring_plan(name, attribute, ScoringOptions(classifier, faces, confusion)), margin=margin, guidance=guidance
    )
    folder = out or Path("runs") / f"{name.replace(':', '-').replace('/', '-')}-locate"
    source = labelled or _SUITED.get(name.partition(":")[0], "none")
    with work_silently():
        found = locate_bias(
            name,
            plan=plan,
            out=folder,
            data=data,
            pictures=pictures,
            asked=asked,
            answers=answers,
            labelled=None if source == "none" else source,
            seed=seed,
            options=model_options(option),
            bars=progress_bar,
        )
        title = f"Where the bias of {name} sits"
        path = write_location(found, folder, title=title)
    if as_json:
        print_json({**location_as_dict(found, title=title), "page": str(path)})
        return
    for one in found:
        Console().print(verdict_table(one))
        for caveat in one.caveats:
            notes.print(f"caveat: {caveat}", soft_wrap=True)
    print(f"page: {path}")
