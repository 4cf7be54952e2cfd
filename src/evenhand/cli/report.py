"""``evenhand report``. In: run folders, a location, a study. Out: an HTML file and its numbers, or a check."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from evenhand.cli.output import notes, print_json, work_silently
from evenhand.cli.runs import ScoredRuns, find_runs, is_location, is_study, score_runs
from evenhand.errors import BadInputError

__all__ = ["default_title", "report_command"]


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the baseline first; or one folder of runs.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html; by default the runs' own.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Recompute every number of the report that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")] = False,
) -> None:
    """Write one self-contained HTML report of some runs, or check the one that is there against their ledgers."""
    from evenhand.pipeline.picture_runs import PREVIEWS
    from evenhand.report.check import check_report
    from evenhand.report.html import write_report

    if any(is_location(run) for run in runs):
        _report_location(runs, out, title, check=check, as_json=as_json)
        return
    if any(is_study(run) for run in runs):
        _report_study(runs, out, title, check=check, as_json=as_json)
        return
    folders = find_runs(runs)
    folder = out or (runs[0] if len(runs) == 1 else runs[0].resolve().parent)
    with work_silently():
        found = score_runs(folders, previews=PREVIEWS, reading="check" if check else "kept")
        if check:
            path = folder / "report.html"
            checked = check_report(
                path,
                found.texts,
                found.comparisons,
                pictures=found.pictures,
                picture_comparisons=found.picture_comparisons,
            )
        else:
            path = write_report(
                found.texts,
                found.comparisons,
                folder,
                title=title or default_title(found),
                pictures=found.pictures,
                picture_comparisons=found.picture_comparisons,
            )
    _tell(path, checked if check else None, as_json=as_json)


def _report_location(runs: Sequence[Path], out: Path | None, title: str | None, *, check: bool, as_json: bool) -> None:
    """The page of one location; no other run stands beside it."""
    from evenhand.locate.runs import read_location
    from evenhand.report.locate import check_location, write_location

    if len(runs) > 1:
        raise BadInputError(f"report: got {len(runs)} folders, one of them a location; allowed: a location alone.")
    folder = out or runs[0]
    with work_silently():
        found = read_location(runs[0], reading="check" if check else "kept")
        if check:
            path = folder / "locate.html"
            checked = check_location(path, found)
        else:
            path = write_location(found, folder, title=title or "Where the bias sits")
    _tell(path, checked if check else None, as_json=as_json)


def _report_study(runs: Sequence[Path], out: Path | None, title: str | None, *, check: bool, as_json: bool) -> None:
    """The page of one study; no other run stands beside it."""
    from evenhand.report.study import check_study, write_study
    from evenhand.train.study_read import read_study

    if len(runs) > 1:
        raise BadInputError(f"report: got {len(runs)} folders, one of them a study; allowed: a study alone.")
    folder = out or runs[0]
    with work_silently():
        found = read_study(runs[0], reading="check" if check else "kept")
        if check:
            path = folder / "study.html"
            checked = check_study(path, found)
        else:
            path = write_study(found, folder, title=title or f"What mitigates the bias of {found.model}")
    _tell(path, checked if check else None, as_json=as_json)


def _tell(path: Path, checked: int | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"report": str(path), **({} if checked is None else {"figures_checked": checked})})
    elif checked is not None:
        print(f"{path}: {checked} figures are what the ledger gives")
    else:
        print(path)
        notes.print("every number in it can be recomputed: add --check")


def default_title(found: ScoredRuns) -> str:
    """What a report of these runs is called."""
    if not found.pictures:
        return "Captions and perceived gender"
    if not found.texts:
        return "Whom a model draws"
    return "What models say and whom they draw"
