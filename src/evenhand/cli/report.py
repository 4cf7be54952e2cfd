"""``evenhand report``. In: run folders. Out: one HTML file and its numbers as JSON, or a check of both."""

from pathlib import Path
from typing import Annotated

import typer

from evenhand.cli.output import notes, print_json, work_silently
from evenhand.errors import BadInputError
from evenhand.ledger import Ledger
from evenhand.records import Comparison, Scored

__all__ = ["find_runs", "report_command", "score_and_compare"]


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the baseline first; or one folder of runs.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html; by default the runs' own.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "Captions and perceived gender",
    check: Annotated[bool, typer.Option("--check", help="Recompute every number of the report that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Write one self-contained HTML report of some runs, or check the one that is there against their ledgers."""
    from evenhand.report.check import check_report
    from evenhand.report.html import write_report

    folders = find_runs(runs)
    folder = out or (runs[0] if len(runs) == 1 else runs[0].resolve().parent)
    with work_silently():
        scored, comparisons = score_and_compare(folders)
        if check:
            path = folder / "report.html"
            checked = check_report(path, scored, comparisons)
        else:
            path = write_report(scored, comparisons, folder, title=title)
    if as_json:
        print_json({"report": str(path), **({"figures_checked": checked} if check else {})})
    elif check:
        print(f"{path}: {checked} figures are what the ledger gives")
    else:
        print(path)
        notes.print("every number in it can be recomputed: add --check")


def find_runs(given: list[Path]) -> list[Path]:
    """The run folders themselves, or those inside one folder: runs without mitigation first, then by name.

    Raises:
        BadInputError: No run folder is there.
    """
    found: list[Path] = []
    for path in given:
        if (path / "manifest.json").is_file():
            found.append(path)
            continue
        inside = sorted(child.parent for child in path.glob("*/manifest.json"))
        if not inside:
            raise BadInputError(f"{str(path)!r} is no run folder and holds none; make one with evenhand audit.")
        found += sorted(inside, key=lambda folder: (_is_mitigated(folder), folder.name))
    return found


def _is_mitigated(folder: Path) -> bool:
    return Ledger.open(folder).settings["mitigation"] is not None


def score_and_compare(folders: list[Path]) -> tuple[list[Scored], list[Comparison]]:
    """Every run scored, and every later run against the first."""
    from evenhand.pipeline import compare, score

    scored = [score(folder) for folder in folders]
    return scored, [compare(scored[0], other) for other in scored[1:]]
