"""``evenhand study``. In: a model, balanced data, held-out occupations. Out: every mitigation side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from evenhand.cli.mitigate_train import BatchOption, RateOption, SetOption, StepsOption, training_arguments
from evenhand.cli.output import notes, print_json, progress_bar, work_silently
from evenhand.cli.picture_options import (
    ClassifierOption,
    FacesOption,
    ModelOptions,
    QualityOption,
    ScoringOptions,
    model_options,
    scoring_plan,
)
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.records import Attribute
    from evenhand.studied import Studied
    from evenhand.train.study import SeenPictures

__all__ = ["study_app"]

# Labelled pictures of models whose world nothing else shows.
_SUITED = {"miniature": "avatars"}
_Number = TypeVar("_Number", int, float)
_SEEN = 240
"""Labelled pictures of each group, at most."""

study_app = typer.Typer(name="study", no_args_is_help=True)


@study_app.callback()
def _group() -> None:
    """Compare mitigations of one model on the same prompts."""


@study_app.command("bpo")
def bpo_study_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="miniature, unified:PATH_OR_ID.")],
    data: Annotated[Path, typer.Option(help="Folder of `evenhand mitigate data`.")],
    held_out: Annotated[str, typer.Option(help="Occupations that are drawn and not trained on: test, a file.")],
    out: Annotated[Path, typer.Option(help="The study's folder; one that holds part of the same study goes on.")],
    attribute: Annotated[
        str | None, typer.Option(help="Attributes of the data, names or YAML files; by default by their names.")
    ] = None,
    arms: Annotated[str, typer.Option(help="With commas.")] = "start,prompt,understanding,sft,paper,bpo",
    seeds: Annotated[str, typer.Option(help="Of training, with commas.")] = "0",
    guidance: Annotated[str, typer.Option(help="Weights, with commas; 1 is none.")] = "1,3,5",
    samples: Annotated[int, typer.Option(min=1, help="Pictures of each prompt that asks for nobody.")] = 160,
    asked: Annotated[int, typer.Option(min=0, help="Pictures of each prompt that asks for a group.")] = 8,
    labelled: Annotated[
        str | None, typer.Option(help="Pictures the model is asked about: a CSV or Parquet file, avatars, none.")
    ] = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    quality: QualityOption = None,
    rank: Annotated[int, typer.Option(min=1, help="Of the LoRA adapters.")] = 32,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    batch_size: BatchOption = 8,
    given: SetOption = None,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Train a model in several ways on the same data, and measure what each draws of held-out occupations.

    Arms: start (as it is), prompt (asked for diversity), understanding, sft, paper (eq. 10 and 11 as published), bpo
    (the default). What was trained and drawn is kept; more arms, seeds and weights can be added.
    """
    from evenhand.mitigate.bpo.tuples import read_tuples
    from evenhand.report.study import study_as_dict, write_study
    from evenhand.train.study import run_study

    with work_silently():
        tuples = read_tuples(data)
        names = attribute or ",".join(tuples.attribute.split(" x "))
        source = labelled or _SUITED.get(model.partition(":")[0], "none")
        plan = scoring_plan(model, names, ScoringOptions(classifier, faces, quality=quality))
        found = run_study(
            model,
            tuples,
            out,
            held_out=held_out,
            plan=plan,
            arms=[one.strip() for one in arms.split(",") if one.strip()],
            seeds=_numbers("--seeds", seeds, int),
            guidances=_numbers("--guidance", guidance, float),
            samples=samples,
            asked=asked,
            seen=_seen(source, [one.attribute for one in plan.read_by]),
            rank=rank,
            options=model_options(option),
            seed=seed,
            bars=progress_bar,
            **training_arguments(
                batch_size=batch_size, steps=steps, learning_rate=learning_rate, given=given, as_json=as_json
            ),
        )
        title = f"What mitigates the bias of {model}"
        path = write_study(found, out, title=title)
    if as_json:
        print_json({**study_as_dict(found, title=title), "page": str(path)})
        return
    _show(found)
    print(f"page: {path}")


def _show(found: "Studied") -> None:
    from evenhand.report.terminal import study_table

    for weight in sorted({row.guidance for row in found.rows}):
        Console().print(study_table(found, weight))
    for caveat in found.caveats:
        notes.print(f"caveat: {caveat}", soft_wrap=True)


def _numbers(option: str, typed: str, kind: Callable[[str], _Number]) -> list[_Number]:
    try:
        return [kind(one) for one in typed.split(",")]
    except ValueError as error:
        raise BadInputError(f"{option}: got {typed[:60]!r}; allowed: numbers with commas, such as 0,1,2.") from error


def _seen(source: str, attributes: "list[Attribute]") -> "SeenPictures":
    """Labelled pictures of each attribute that the source has, equally many of each group."""
    from evenhand.locate.labelled import balanced_pictures, read_labelled

    if source == "none":
        return {}
    held = read_labelled(source, attributes)
    found = {}
    for attribute in attributes:
        if any(attribute.name in facts for facts in held.facts):
            chosen = balanced_pictures(held, attribute, at_most=_SEEN, seed=0)
            groups = [facts[attribute.name] for facts in chosen.facts]
            found[attribute.name] = list(zip(chosen.pictures, groups, strict=True))
    return found
