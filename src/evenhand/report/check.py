"""Whether a report tells the truth. In: a report file and the records. Out: a count of figures, or an error.

The expected report is rendered afresh from the records and compared with the file: every figure's
full-precision value and shown text, every other text (the plots' too), every element and attribute outside
the plots, every value in ``report.json`` and, where there are drawn pictures, every line of ``model-card.md``. The
drawing inside a plot depends on matplotlib's version and is compared where it is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.errors import ReportMismatchError
from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures
from evenhand.report.card import model_card
from evenhand.report.html import render_report
from evenhand.report.json_values import report_as_dict
from evenhand.report.numbers import plain_text
from evenhand.report.page_differences import (
    Findings,
    compare_json,
    compare_lines,
    compare_page,
    cut_figure,
    list_mismatches,
    read_page,
    title_of,
)

__all__ = ["check_report"]


@dataclass(frozen=True, slots=True)
class _Records:
    """What a report is written from."""

    runs: Sequence[Scored]
    comparisons: Sequence[Comparison]
    pictures: Sequence[ScoredPictures]
    picture_comparisons: Sequence[PictureComparison]

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Of the runs of captions and of the runs of pictures, as a report shows them."""
        return [plain_text(run.run) for run in self.runs], [plain_text(run.run) for run in self.pictures]


def check_report(
    html_path: Path,
    runs: Sequence[Scored],
    comparisons: Sequence[Comparison],
    *,
    pictures: Sequence[ScoredPictures] = (),
    picture_comparisons: Sequence[PictureComparison] = (),
) -> int:
    """Compare a written report with the records it claims to show.

    Args:
        html_path: ``report.html``; ``report.json`` is expected beside it, and ``model-card.md`` where there are drawn
            pictures.
        runs: The runs the report was written from, scored again.
        comparisons: Their comparisons, made again.
        pictures: Its runs of drawn pictures, scored again.
        picture_comparisons: Their comparisons, made again.

    Returns:
        How many figures were compared: ``<data>`` elements in the page plus numbers in ``report.json``.

    Raises:
        BadInputError: ``html_path`` cannot be read as UTF-8 text, or the records make no report.
        ReportMismatchError: Something differs; the message lists the first few differences and their number. Runs that
            the report calls by other names are told first, and only what differs beside their names is listed.
    """
    records = _Records(runs, comparisons, pictures, picture_comparisons)
    found = _compare(html_path, records)
    if not found.mismatches:
        return found.figures
    called = _other_names(html_path.with_name("report.json"), records)
    mismatches = _compare(html_path, _rename(records, called)).mismatches if called else found.mismatches
    renamed = ", ".join(
        f"{cut_figure(here)!r} is called {cut_figure(there)!r} in the report"
        for part in called
        for here, there in part.items()
    )
    if called and not mismatches:
        raise ReportMismatchError(
            f"{html_path.name}: the run {renamed}; nothing else differs. Give the folder that name, or write the "
            "report again from its runs."
        )
    before = f"the run {renamed}. Beside the name: " if called else ""
    raise ReportMismatchError(
        f"{html_path.name}: {before}{len(mismatches)} difference(s) from the ledger. "
        f"{list_mismatches(mismatches)}. "
        "Write the report again from its runs."
    )


def _compare(html_path: Path, records: _Records) -> Findings:
    page = read_page(html_path, name="report.html")
    shown = title_of(page)
    runs, pairs, pictures = records.runs, records.comparisons, records.pictures
    drawn_pairs = records.picture_comparisons
    rendered = render_report(runs, pairs, title=shown, pictures=pictures, picture_comparisons=drawn_pairs)
    values = report_as_dict(runs, pairs, title=shown, pictures=pictures, picture_comparisons=drawn_pairs)
    found = [compare_page(page, rendered), compare_json(html_path.with_name("report.json"), values)]
    mismatches = [one for part in found for one in part.mismatches]
    if pictures:
        mismatches += compare_lines(html_path.with_name("model-card.md"), model_card(runs, pictures))
    return Findings(mismatches, sum(part.figures for part in found))


def _other_names(path: Path, records: _Records) -> tuple[Mapping[str, str], ...]:
    """Name here -> name in the report, of captions and of pictures; empty where none differs or they do not fit."""
    try:
        told = json.loads(path.read_bytes().decode())
        there = [[str(run["run"]) for run in told.get(part, [])] for part in ("runs", "pictures")]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return ()
    here = records.names
    if [len(part) for part in there] != [len(part) for part in here] or there == list(here):
        return ()
    if any(
        set(old) == set(new) or len(set(new)) < len(new) for old, new in zip(here, there, strict=True) if old != new
    ):
        return ()
    called = [dict(zip(old, new, strict=True)) for old, new in zip(here, there, strict=True)]
    return tuple({old: new for old, new in part.items() if old != new} for part in called)


def _rename(records: _Records, called: tuple[Mapping[str, str], ...]) -> _Records:
    captions, drawn = called

    def name(run: str, names: Mapping[str, str]) -> str:
        return names.get(plain_text(run), run)

    return _Records(
        [replace(run, run=name(run.run, captions)) for run in records.runs],
        [
            replace(one, baseline=name(one.baseline, captions), other=name(one.other, captions))
            for one in records.comparisons
        ],
        [replace(run, run=name(run.run, drawn)) for run in records.pictures],
        [
            replace(one, baseline=name(one.baseline, drawn), other=name(one.other, drawn))
            for one in records.picture_comparisons
        ],
    )
