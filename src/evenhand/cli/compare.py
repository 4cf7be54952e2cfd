"""``evenhand compare``. In: two run folders of the same prompts. Out: paired differences, ratios and what changed."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evenhand.cli.output import comparison_as_dict, picture_comparison_as_dict, print_json, work_silently
from evenhand.cli.runs import score_runs
from evenhand.errors import BadInputError

__all__ = ["compare_command"]


def compare_command(
    before: Annotated[Path, typer.Argument(help="Run folder of the baseline.")],
    after: Annotated[Path, typer.Argument(help="Run folder to compare with it.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Compare two runs picture by picture, or prompt by prompt and seed by seed, with intervals of the differences."""
    from evenhand.report.terminal import changes_table, comparison_table, picture_comparison_table

    with work_silently():
        found = score_runs([before, after])
    if found.texts and found.pictures:
        raise BadInputError(
            f"{str(before)!r} and {str(after)!r}: one is of texts, the other of drawn pictures; compare like with like."
        )
    console = Console()
    for drawn in found.picture_comparisons:
        if as_json:
            print_json(picture_comparison_as_dict(drawn, (found.pictures[0], found.pictures[1])))
        else:
            console.print(picture_comparison_table([drawn]))
    for pair in found.comparisons:
        if as_json:
            print_json(comparison_as_dict(pair))
        else:
            console.print(comparison_table([pair]))
            console.print(changes_table(pair))
