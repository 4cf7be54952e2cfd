"""``evenhand sample``. In: a model that draws, a probe. Out: a run folder of pictures and answers, not looked at."""

from pathlib import Path
from typing import Annotated

import typer

from evenhand.cli.balance import BalanceOption, BalanceOptions, QuotaOption, StrengthOption
from evenhand.cli.output import notes, print_json, progress_bar, work_silently
from evenhand.cli.picture_options import (
    AttributeOption,
    ClassifierOption,
    FacesOption,
    ModelOptions,
    ScoringOptions,
    declared_attributes,
    scoring_plan,
)
from evenhand.errors import BadInputError

__all__ = ["sample_command"]


def sample_command(
    model: Annotated[str, typer.Argument(help="miniature, unified:PATH_OR_ID, diffusers:PATH_OR_ID, images-api:NAME.")],
    out: Annotated[Path, typer.Option(help="Run folder; what is there is topped up.")],
    probe: Annotated[str, typer.Option(help="What is asked.")] = "occupations",
    data: Annotated[str, typer.Option(help="test, train or a file, for occupations.")] = "test",
    attribute: AttributeOption = "gender",
    samples: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 160,
    answers: Annotated[int, typer.Option(min=0, help="Answers about each occupation on an empty picture.")] = 100,
    balance: BalanceOption = None,
    strength: StrengthOption = None,
    quota: QuotaOption = False,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Let a model draw and answer, and store it; `evenhand score` looks at it later, on another machine if you like.

    With --quota the classifier reads every picture while the run is made.
    """
    from evenhand.cli.opening import open_to_draw
    from evenhand.ledger import Ledger
    from evenhand.pipeline import sample_pictures
    from evenhand.pipeline.drawing import run_name
    from evenhand.pipeline.picture_runs import open_plan

    attributes = declared_attributes(attribute)
    balancing = BalanceOptions(balance, strength, quota)
    balancing.check(attributes)
    if not quota and (classifier or faces):
        raise BadInputError("--classifier, --faces: sample looks at no picture but for --quota; give them to score.")
    with work_silently():
        reading = ScoringOptions(classifier, faces)
        labellers = open_plan(scoring_plan(model, attribute, reading)).labellers if quota else ()
        drawing = open_to_draw(
            model, option, probe=probe, data=data, attribute=attributes[0], samples=samples, folder=out
        )
        drawing = balancing.around(drawing, attributes, labellers, run=run_name(probe, seed))
        with progress_bar("pictures") as progress, progress_bar("answers ") as answering:
            sample_pictures(
                drawing,
                attributes=attributes,
                out=out,
                probe=probe,
                data=data,
                samples=samples,
                answers=answers,
                seed=seed,
                progress=progress,
                answering=answering,
            )
        stored = Ledger.open(out).samples()
    counts = {"samples": len(stored), "errors": sum(one.error is not None for one in stored)}
    if as_json:
        print_json({"run": str(out), **counts})
        return
    notes.print(f"stored in {out}: {counts['samples']} samples, {counts['errors']} of them failed")
    notes.print(f"what they show: evenhand score {out} --attribute {attribute} --classifier CLASSIFIER")
