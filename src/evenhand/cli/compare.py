"""``evenhand compare``. In: two run folders of the same prompts. Out: paired differences, ratios and word changes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evenhand.cli.output import comparison_as_dict, print_json, work_silently

__all__ = ["compare_command"]


def compare_command(
    before: Annotated[Path, typer.Argument(help="Run folder of the baseline.")],
    after: Annotated[Path, typer.Argument(help="Run folder to compare with it.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Compare two runs picture by picture, with intervals of the differences."""
    from evenhand.pipeline import compare, score
    from evenhand.report.terminal import changes_table, comparison_table

    with work_silently():
        comparison = compare(score(before), score(after))
    if as_json:
        print_json(comparison_as_dict(comparison))
        return
    console = Console()
    console.print(comparison_table([comparison]))
    console.print(changes_table(comparison))
