"""``evenhand demo``. In: nothing. Out: captions three ways and the miniature's pictures, two tables, one report."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from evenhand.cli.output import (
    comparison_as_dict,
    notes,
    pictures_as_dict,
    print_json,
    progress_bar,
    scored_as_dict,
    work_silently,
)
from evenhand.cli.runs import find_runs, score_runs

__all__ = ["demo_command"]

MODES = {"plain": "none", "align": "align", "neutral": "neutral"}
PICTURES = "miniature"
SAMPLES, ANSWERS = 32, 20
"""Pictures of each of the 50 test occupations, answers about each."""


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the four runs and the report.")] = Path("runs/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Caption photographs plainly, with align and with neutral; let the miniature draw; print tables and a report."""
    from evenhand.pipeline.picture_runs import PREVIEWS
    from evenhand.report.html import write_report
    from evenhand.report.terminal import comparison_table, estimates_table, picture_estimates_table

    with work_silently():
        _caption(out)
        _draw(out / PICTURES)
        found = score_runs(find_runs([out / name for name in (*MODES, PICTURES)]), previews=PREVIEWS)
        title = "What a captioner says, whom the miniature draws"
        path = write_report(found.texts, found.comparisons, out, title=title, pictures=found.pictures)
    if as_json:
        runs = [scored_as_dict(run) for run in found.texts]
        pairs = [comparison_as_dict(pair) for pair in found.comparisons]
        drawn = [pictures_as_dict(run) for run in found.pictures]
        print_json({"runs": runs, "comparisons": pairs, "pictures": drawn, "report": str(path)})
        return
    console = Console()
    console.print(estimates_table(found.texts))
    console.print(comparison_table(found.comparisons))
    console.print(picture_estimates_table(found.pictures))
    console.print(f"report: {path}", soft_wrap=True)


def _caption(out: Path) -> None:
    from evenhand.models.protocol import TextModel
    from evenhand.pipeline import audit
    from evenhand.registry import load

    with notes.status("loading the captioner (the first time Gemma is converted: about a minute)"):
        model = cast(TextModel, load("models", "captioner")())  # type: ignore[operator]
    for name, mitigation in MODES.items():
        with progress_bar(f"{name:8}") as progress:
            audit(
                model,
                probe="captioning",
                data="openpeople",
                out=out / name,
                mitigate=mitigation,
                progress=progress,
            )


def _draw(out: Path) -> None:
    from evenhand.attributes import load_attribute
    from evenhand.pipeline import ReadBy, ScoringPlan, audit_pictures

    plan = ScoringPlan(tuple(ReadBy(load_attribute(name), "avatars") for name in ("gender", "skin_tone")))
    with progress_bar("pictures") as progress, progress_bar("answers ") as answering:
        audit_pictures(
            PICTURES,
            plan=plan,
            out=out,
            samples=SAMPLES,
            answers=ANSWERS,
            previews=0,
            progress=progress,
            answering=answering,
        )
