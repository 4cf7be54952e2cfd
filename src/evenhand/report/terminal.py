"""The answer in a terminal. In: scored runs or comparisons. Out: rich tables without control characters."""

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evenhand.records import Comparison, Estimate, PictureComparison, Scored, ScoredPictures
from evenhand.report.numbers import cut_text, estimate_form, plural_of, show_number, tally_changes
from evenhand.report.study_view import columns_of
from evenhand.studied import Studied

__all__ = [
    "changes_table",
    "comparison_table",
    "estimates_table",
    "picture_comparison_table",
    "picture_estimates_table",
    "study_table",
]

_LENGTH = 60


def estimates_table(runs: Sequence[Scored]) -> Table:
    """Names down, runs across; in a cell the value, its interval, the number of units and a floor above 0."""
    return _table([(run.run, {e.name: e for e in run.estimates}) for run in runs], title="Estimates")


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences and ratios down, pairs of runs across, the baseline named in every heading."""
    columns = [(f"{pair.other} against {pair.baseline}", {e.name: e for e in pair.estimates}) for pair in comparisons]
    return _table(columns, title="Paired comparisons")


def picture_estimates_table(pictures: Sequence[ScoredPictures]) -> Table:
    """Attributes and names down, runs across; answers and the quality of the pictures last."""
    columns = []
    for run in pictures:
        rows = {f"{name}: {e.name}": e for name, estimates in run.estimates.items() for e in estimates}
        asked = {f"{name}, answers: {e.name}": e for name, told in run.answers.items() for e in told.estimates}
        columns.append((run.run, rows | asked | {e.name: e for e in run.quality}))
    return _table(columns, title="Drawn pictures: perceived groups, means over the prompts")


def picture_comparison_table(comparisons: Sequence[PictureComparison]) -> Table:
    """Attributes with differences and ratios down, pairs of runs across, the baseline named in every heading."""
    columns = [
        (
            f"{pair.other} against {pair.baseline}",
            {f"{name}: {e.name}": e for name, estimates in pair.estimates.items() for e in estimates},
        )
        for pair in comparisons
    ]
    return _table(columns, title="Drawn pictures: paired comparisons")


def study_table(found: Studied, guidance: float) -> Table:
    """Arms down, what was measured across, at one guidance weight; below a disparity it stands as counted."""
    title = f"Guidance {guidance:g}: held-out occupations, perceived groups, means over the prompts"
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    columns = columns_of(found)
    for column in columns:
        table.add_column(Text(cut_text(column.title, _LENGTH)), justify="right")
    for row in (one for one in found.rows if one.guidance == guidance):
        seeds = f"\n{row.seeds} seeds" if row.seeds > 1 else ""
        cells = [_study_cell(row.values.get(one.key), row.values.get(one.below or "")) for one in columns]
        table.add_row(Text(row.arm, style="bold").append(seeds, style="dim"), *cells)
    return table


def _study_cell(estimate: Estimate | None, counted: Estimate | None) -> Text:
    if estimate is None:
        return Text("–")
    form = estimate_form(estimate)
    low, high = (show_number(end, f"{form}-bare") for end in (estimate.low, estimate.high))
    cell = Text(f"{show_number(estimate.value, form)}".replace(" ", "\u00a0") + f"\n[{low}, {high}]")
    if counted is not None:
        cell.append(f"\ncounted {show_number(counted.value, form)}", style="dim")
    return cell


def _table(columns: Sequence[tuple[str, Mapping[str, Estimate]]], *, title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("")
    for heading, _ in columns:
        table.add_column(Text(cut_text(heading, _LENGTH)), justify="right", no_wrap=True)
    names = dict.fromkeys(name for _, found in columns for name in found)
    for name in names:
        cells = [_cell(found.get(name)) for _, found in columns]
        table.add_row(Text(cut_text(name, _LENGTH), style="bold"), *cells)
    return table


def _cell(estimate: Estimate | None) -> Text:
    if estimate is None:
        return Text("–")
    form = estimate_form(estimate)
    low, high = (show_number(end, f"{form}-bare") for end in (estimate.low, estimate.high))
    units = f"{show_number(estimate.n, 'count')} {plural_of(cut_text(estimate.unit, _LENGTH), estimate.n)}"
    has_floor = math.isfinite(estimate.floor) and estimate.floor != 0 and form != "ratio"
    floor = f" · floor {show_number(estimate.floor, form)}" if has_floor else ""
    cell = Text(f"{show_number(estimate.value, form)} [{low}, {high}]")
    cell.append(f"\n{units}{floor}", style="dim")
    return cell


def changes_table(comparison: Comparison, *, rows: int = 20) -> Table:
    """The most frequent word changes of a comparison, and how many of each the mitigation reached."""
    counts = comparison.counts
    title = (
        f"{counts['captions_changed']} of {counts['captions']} captions changed; "
        f"{counts['changes_elsewhere']} of {counts['changes']} changes lie elsewhere than a corrected word"
    )
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    for heading in ("before", "after"):
        table.add_column(heading)
    for heading in ("times", "reached"):
        table.add_column(heading, justify="right")
    for old, new, times, reached in tally_changes(comparison.changes)[:rows]:
        shown = [Text(cut_text(words or "–", _LENGTH)) for words in (old, new)]
        table.add_row(*shown, show_number(times, "count"), show_number(reached, "count"))
    return table
