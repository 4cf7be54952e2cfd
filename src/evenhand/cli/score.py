"""``evenhand score``. In: a run folder, perhaps other classifiers. Out: every number of it, made again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    ScoringOptions,
    changed_plan,
    scoring_plan,
)
from evenhand.errors import BadInputError, LedgerError

if TYPE_CHECKING:
    from evenhand.pipeline.plans import ScoringPlan

__all__ = ["score_command"]


def score_command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    attribute: Annotated[
        str | None,
        typer.Option(help="Attributes in place of the run's, with commas; then --classifier too."),
    ] = None,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    confusion: ConfusionOption = None,
    denominator: DenominatorOption = None,
    min_confidence: MinConfidenceOption = None,
    quality: QualityOption = None,
    prompts: PromptsOption = None,
    fresh: Annotated[bool, typer.Option(help="Read every picture again; use no label that was kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Make every number of a run again from its folder, as it was scored last; what is said otherwise is then kept."""
    from evenhand.pipeline import score_run
    from evenhand.pipeline.picture_runs import holds_pictures
    from evenhand.report.terminal import picture_estimates_table

    options = ScoringOptions(classifier, faces, confusion, denominator, min_confidence, quality, prompts)
    given = (*(() if attribute is None else ("--attribute",)), *options.given())
    if not holds_pictures(run):
        _score_texts(run, given, as_json=as_json)
        return
    plan = _plan(run, attribute, options) if given else None
    with work_silently():
        found = score_run(run, plan, reading="anew" if fresh else "kept")
    if as_json:
        print_json(pictures_as_dict(found))
    else:
        Console().print(picture_estimates_table([found]))
        for caveat in found.caveats:
            notes.print(f"caveat: {caveat}", soft_wrap=True)
    if plan is not None:
        _keep(run, plan)


def _score_texts(run: Path, given: Sequence[str], *, as_json: bool) -> None:
    from evenhand.pipeline import score
    from evenhand.report.terminal import estimates_table

    if given:
        raise BadInputError(
            f"{', '.join(given)}: {str(run)!r} is a run of texts, which are read by the words of its own attribute; "
            "leave it out, or give a run of drawn pictures."
        )
    texts = score(run)
    if as_json:
        print_json(scored_as_dict(texts))
    else:
        Console().print(estimates_table([texts]))


def _plan(run: Path, attribute: str | None, options: ScoringOptions) -> "ScoringPlan":
    """What is said over what the folder holds; a folder without a plan needs attributes."""
    from evenhand.pipeline.plans import read_plan

    if attribute is None:
        stored = read_plan(run)
        plan = changed_plan(stored, options)
        for old, new in zip(stored.read_by, plan.read_by, strict=True):
            if old.confusion is not None and new.confusion is None:
                notes.print(
                    f"the errors of {old.classifier} are not those of what reads {old.attribute.name} now: they are "
                    f"left out; give --confusion {old.attribute.name}=FILE.json",
                    soft_wrap=True,
                )
        return plan
    try:
        kept = read_plan(run)
    except LedgerError:  # none yet, or one that cannot be read: this one takes its place
        kept = None
    return scoring_plan(_model_of(run), attribute, options, stored=kept)


def _keep(run: Path, plan: "ScoringPlan") -> None:
    from evenhand.pipeline.plans import write_plan

    try:
        write_plan(run, plan)
    except LedgerError as error:
        notes.print(f"how this was scored is not kept: {error}", soft_wrap=True, markup=False)


def _model_of(run: Path) -> str:
    from evenhand.ledger import Ledger

    model = Ledger.open(run).settings.get("model")
    return str(model.get("name", "")) if isinstance(model, dict) else ""
