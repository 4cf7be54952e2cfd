"""``evenhand demo``. In: nothing. Out: photographs of synthetic people captioned three ways, a table, a report."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from evenhand.cli.output import (
    comparison_as_dict,
    notes,
    print_json,
    progress_bar,
    scored_as_dict,
    work_silently,
)
from evenhand.cli.report import score_and_compare

__all__ = ["demo_command"]

MODES = {"plain": "none", "align": "align", "neutral": "neutral"}


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the three runs and the report.")] = Path("runs/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Caption the photographs of `openpeople` plainly, with align and with neutral; print table and report."""
    from evenhand.models.protocol import TextModel
    from evenhand.pipeline import audit
    from evenhand.registry import load
    from evenhand.report.html import write_report
    from evenhand.report.terminal import comparison_table, estimates_table

    with work_silently():
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
        scored, comparisons = score_and_compare([out / name for name in MODES])
        path = write_report(scored, comparisons, out, title="Captions of openpeople: perceived gender")
    if as_json:
        runs = [scored_as_dict(run) for run in scored]
        pairs = [comparison_as_dict(pair) for pair in comparisons]
        print_json({"runs": runs, "comparisons": pairs, "report": str(path)})
        return
    console = Console()
    console.print(estimates_table(scored))
    console.print(comparison_table(comparisons))
    console.print(f"report: {path}", soft_wrap=True)
