"""``evenhand audit``. In: a model, a probe, data. Out: a run folder, its estimates as a table or as JSON, a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from evenhand.cli.balance import BalanceOption, BalanceOptions, QuotaOption, StrengthOption
from evenhand.cli.output import notes, pictures_as_dict, print_json, progress_bar, scored_as_dict, work_silently
from evenhand.cli.picture_options import (
    AttributeOption,
    ClassifierOption,
    ConfusionOption,
    DenominatorOption,
    FacesOption,
    MinConfidenceOption,
    ModelOptions,
    PromptsOption,
    QualityOption,
    ScoringOptions,
    scoring_plan,
)
from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.pipeline.plans import ScoringPlan

__all__ = ["audit_command", "one_model"]


def audit_command(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A registered name (`evenhand list`), a captioner's folder or hf:PATH_OR_ID; draws: miniature, "
            "unified:PATH_OR_ID, diffusers:PATH_OR_ID, images-api:NAME.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The same, as an option.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Texts: a folder with labels.csv, or `openpeople`. Pictures: test, train, a file."),
    ] = None,
    probe: Annotated[str | None, typer.Option(help="What is asked: captioning; occupations of what draws.")] = None,
    mitigate: Annotated[str, typer.Option(help="none, or a registered name (texts).")] = "none",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/MODEL-PROBE[-MITIGATE].")] = None,
    attribute: AttributeOption = "gender",
    samples: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 160,
    answers: Annotated[int, typer.Option(min=0, help="Answers about each occupation on an empty picture.")] = 100,
    classifier: ClassifierOption = None,
    faces: FacesOption = None,
    confusion: ConfusionOption = None,
    denominator: DenominatorOption = None,
    min_confidence: MinConfidenceOption = None,
    quality: QualityOption = None,
    prompts: PromptsOption = None,
    balance: BalanceOption = None,
    strength: StrengthOption = None,
    quota: QuotaOption = False,
    option: ModelOptions = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Ask a model, store what it says or draws, print how uneven that is. A run that was stopped goes on."""
    from evenhand.pipeline.opening import draws

    asked = one_model(named, model)
    options = ScoringOptions(classifier, faces, confusion, denominator, min_confidence, quality, prompts)
    balancing = BalanceOptions(balance, strength, quota)
    if not draws(asked):
        given = (*options.given(), *balancing.given(), *(("--option",) if option else ()))
        _refuse_what_draws(asked, probe, data, given)
        _audit_texts(asked, data, probe or "captioning", mitigate, out, attribute, seed, as_json=as_json)
        return
    if mitigate != "none":
        raise BadInputError(f"--mitigate: got {mitigate!r}; {asked} draws, and what mitigates texts cannot act there.")
    plan = scoring_plan(asked, attribute, options)
    balancing.check([one.attribute for one in plan.read_by])
    _audit_pictures(
        asked,
        plan,
        data or "test",
        probe or "occupations",
        out,
        samples,
        answers,
        option,
        balancing,
        seed,
        as_json=as_json,
    )


def one_model(named: str | None, model: str | None) -> str:
    """The model's name, given as an argument or as an option.

    Raises:
        BadInputError: Neither or both are given.
    """
    given = [one for one in (named, model) if one is not None]
    if len(given) != 1:
        raise BadInputError(f"model: got {given or 'none'}; name one, as MODEL or with --model (`evenhand list`).")
    return given[0]


def _refuse_what_draws(model: str, probe: str | None, data: str | None, given: tuple[str, ...]) -> None:
    """Refuse what is for drawn pictures alone in an audit of texts, where it would be ignored."""
    does = f"model {model!r} is asked about pictures"
    todo = "a model that draws is registered under evenhand.image_models"
    if given:
        raise BadInputError(
            f"{', '.join(given)}: {does}, and this is for a model that draws; {todo}; else leave it out."
        )
    if probe is None and data is not None and (data in ("test", "train") or Path(data).is_file()):
        raise BadInputError(
            f"--data: got {data!r}; {does}: allowed: a folder of pictures with labels.csv, or openpeople; {todo}."
        )


def _audit_texts(
    model: str,
    data: str | None,
    probe: str,
    mitigate: str,
    out: Path | None,
    attribute: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    from evenhand.pipeline import audit
    from evenhand.report.terminal import estimates_table

    if data is None:
        raise BadInputError("--data: nothing is given; name a folder of pictures with labels.csv, or openpeople.")
    folder = out or Path("runs") / f"{Path(model).name}-{probe}-{mitigate}"
    with work_silently(), progress_bar(f"{Path(model).name} · {mitigate}") as progress:
        scored = audit(
            model,
            probe=probe,
            data=data,
            out=folder,
            mitigate=mitigate,
            attribute=attribute,
            seed=seed,
            progress=progress,
        )
    if scored.counts["errors"]:
        notes.print(f"{scored.counts['errors']} of {scored.counts['pictures']} pictures failed; see the run's report.")
    if as_json:
        print_json(scored_as_dict(scored))
        return
    Console().print(estimates_table([scored]))
    notes.print(f"stored in {folder}; a report: evenhand report {folder}")


def _audit_pictures(
    model: str,
    plan: "ScoringPlan",
    data: str,
    probe: str,
    out: Path | None,
    samples: int,
    answers: int,
    option: list[str] | None,
    balancing: BalanceOptions,
    seed: int,
    *,
    as_json: bool,
) -> None:
    from evenhand.cli.opening import open_to_draw
    from evenhand.pipeline import audit_pictures
    from evenhand.pipeline.drawing import run_name
    from evenhand.pipeline.picture_runs import open_plan
    from evenhand.report.html import write_report
    from evenhand.report.terminal import picture_estimates_table

    folder = out or Path("runs") / f"{model.replace(':', '-').replace('/', '-')}-{probe}{balancing.suffix}"
    with work_silently():
        opened = open_plan(plan)
        first = plan.read_by[0].attribute
        drawing = open_to_draw(model, option, probe=probe, data=data, attribute=first, samples=samples, folder=folder)
        attributes = [one.attribute for one in plan.read_by]
        drawing = balancing.around(drawing, attributes, opened.labellers, run=run_name(probe, seed))
        with progress_bar("pictures") as progress, progress_bar("answers ") as answering:
            scored = audit_pictures(
                drawing,
                plan=opened,
                out=folder,
                probe=probe,
                data=data,
                samples=samples,
                answers=answers,
                seed=seed,
                progress=progress,
                answering=answering,
            )
        path = write_report([], [], folder, title=f"Whom {drawing.name} draws", pictures=[scored])
    if as_json:
        print_json({**pictures_as_dict(scored), "report": str(path)})
        return
    Console().print(picture_estimates_table([scored]))
    for caveat in scored.caveats:
        notes.print(f"caveat: {caveat}", soft_wrap=True)
    print(f"report: {path}")
