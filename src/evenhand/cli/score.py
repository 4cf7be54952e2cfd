"""``evenhand score``. In: a run folder, perhaps other classifiers. Out: every number of it, made again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evenhand.cli.output import notes, pictures_as_dict, print_json, scored_as_dict, work_silently
from evenhand.cli.picture_options import (
    ClassifierOption,
    ConfusionOption,
    DenominatorOption,
    FacesOption,
    MinConfidenceOption,
    PromptsOption,
    QualityOption,
    scoring_plan,
)

__all__ = ["score_command"]


def score_command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    attribute: Annotated[
        str | None, typer.Option(help="Attributes to score anew, with commas; by default as the run was scored.")
    ] = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = "none",
    confusion: ConfusionOption = None,
    denominator: DenominatorOption = "face",
    min_confidence: MinConfidenceOption = 0.8,
    quality: QualityOption = None,
    prompts: PromptsOption = "fixed",
    fresh: Annotated[bool, typer.Option(help="Read every picture again; use no label that was kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Make every number of a run again from its folder; with --attribute, in another way, which is then kept."""
    from evenhand.pipeline import score, score_run
    from evenhand.pipeline.picture_runs import holds_pictures
    from evenhand.pipeline.plans import write_plan
    from evenhand.report.terminal import estimates_table, picture_estimates_table

    console = Console()
    if not holds_pictures(run):
        texts = score(run)
        print_json(scored_as_dict(texts)) if as_json else console.print(estimates_table([texts]))
        return
    plan = None
    if attribute is not None:
        plan = scoring_plan(
            _model_of(run),
            attribute,
            classifier=classifier,
            faces=faces,
            confusion=confusion,
            denominator=denominator,
            min_confidence=min_confidence,
            quality=quality,
            prompts=prompts,
        )
    with work_silently():
        found = score_run(run, plan, fresh=fresh)
        if plan is not None:
            write_plan(run, plan)
    if as_json:
        print_json(pictures_as_dict(found))
        return
    console.print(picture_estimates_table([found]))
    for caveat in found.caveats:
        notes.print(f"caveat: {caveat}", soft_wrap=True)


def _model_of(run: Path) -> str:
    from evenhand.ledger import Ledger

    model = Ledger.open(run).settings.get("model")
    return str(model.get("name", "")) if isinstance(model, dict) else ""
