"""Whether a report tells the truth. In: a report file and the records. Out: a count of figures, or an error.

The expected report is rendered afresh from the records and compared with the file: every figure's
full-precision value and shown text, every other text (the plots' too), every element and attribute outside
the plots, every value in ``report.json`` and, where there are drawn pictures, every line of ``model-card.md``. The
drawing inside a plot depends on matplotlib's version and is compared where it is the same.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from html.parser import HTMLParser
from pathlib import Path

from evenhand.errors import BadInputError, ReportMismatchError
from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures
from evenhand.report.card import model_card
from evenhand.report.html import render_report
from evenhand.report.json_values import report_as_dict
from evenhand.report.numbers import plain_text

__all__ = ["check_report"]

_LISTED = 5
_LENGTH = 120
_LONGEST_ALIGNED = 2000
_BLANK = re.compile(r"[ \t\n\r\f]+")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_ABSENT = "(absent)"
_Mismatch = tuple[str, str, str]


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


@dataclass(frozen=True, slots=True)
class _Findings:
    """What differs, and how many figures were compared."""

    mismatches: list[_Mismatch]
    figures: int


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
        f"{_cut(here)!r} is called {_cut(there)!r} in the report" for part in called for here, there in part.items()
    )
    if called and not mismatches:
        raise ReportMismatchError(
            f"{html_path.name}: the run {renamed}; nothing else differs. Give the folder that name, or write the "
            "report again from its runs."
        )
    first = "; ".join(
        f"{key}: in the report {_cut(got)}, from the ledger {_cut(due)}" for key, got, due in mismatches[:_LISTED]
    )
    more = f"; and {len(mismatches) - _LISTED} more" if len(mismatches) > _LISTED else ""
    before = f"the run {renamed}. Beside the name: " if called else ""
    raise ReportMismatchError(
        f"{html_path.name}: {before}{len(mismatches)} difference(s) from the ledger. {first}{more}. "
        "Write the report again from its runs."
    )


def _compare(html_path: Path, records: _Records) -> _Findings:
    page = _read(html_path)
    title = _TITLE.search(page)
    shown = html.unescape(title.group(1)) if title else ""
    runs, pairs, pictures = records.runs, records.comparisons, records.pictures
    drawn_pairs = records.picture_comparisons
    rendered = render_report(runs, pairs, title=shown, pictures=pictures, picture_comparisons=drawn_pairs)
    values = report_as_dict(runs, pairs, title=shown, pictures=pictures, picture_comparisons=drawn_pairs)
    expected, actual, ledger = _parse(rendered), _parse(page), _leaves("report.json", values)
    mismatches = _compare_figures(actual, expected) + _compare_rest(actual, expected)
    mismatches += _compare_json(html_path.with_name("report.json"), ledger)
    if pictures:
        mismatches += _compare_card(html_path.with_name("model-card.md"), model_card(runs, pictures))
    numbers = sum(not isinstance(value, str | bool | None) for value in ledger.values())
    return _Findings(mismatches, len(expected.figures) + numbers)


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


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "…"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as a report ({error}); give the path of report.html") from error


class _Document(HTMLParser):
    """Figures and everything else of a page, in order.

    Attributes:
        figures: ``(key, value, shown text)`` of every ``<data>`` element.
        rest: Elements with attributes, texts, comments; a figure leaves its key here only.
        drawing: The elements inside the plots.
        drawn_with: What each plot says it was drawn with.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.figures: list[tuple[str, str, str]] = []
        self.rest: list[str] = []
        self.drawing: list[str] = []
        self.drawn_with: list[str] = []
        self._figure: tuple[str, str, list[str]] | None = None
        self._inside_plot = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "data" and self._figure is None:
            key, value = given.pop("data-key", None) or "", given.pop("value", None) or ""
            self._figure = (key, value, [])
            self._add(f"<data {key} {_listed(given)}>")
            return
        if "data-drawn-with" in given:
            self.drawn_with.append(given["data-drawn-with"] or "")
            given["data-drawn-with"] = None
        (self.drawing if self._inside_plot else self.rest).append(f"<{tag} {_listed(given)}>")
        self._inside_plot = self._inside_plot or tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        if tag == "data" and self._figure is not None:
            key, value, texts = self._figure
            self.figures.append((key, value, "".join(texts)))
            self._figure = None
        elif tag == "svg":
            self._inside_plot = False
        if not self._inside_plot:
            self._add(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        text = _BLANK.sub(" ", data).strip(" ")
        if self._figure is not None:
            self._figure[2].append(text)
        elif text:
            self._add(text)

    def handle_comment(self, data: str) -> None:
        if not self._inside_plot:
            self._add(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self._add(f"<!{decl}>")

    def unknown_decl(self, data: str) -> None:
        self._add(f"<![{data}]>")

    def handle_pi(self, data: str) -> None:
        self._add(f"<?{data}>")

    def _add(self, item: str) -> None:
        self.rest.append(item)


def _listed(attributes: dict[str, str | None]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in attributes.items())


def _parse(page: str) -> _Document:
    document = _Document()
    document.feed(page)
    document.close()
    return document


def _compare_figures(actual: _Document, expected: _Document) -> list[_Mismatch]:
    """Figures by key; the order is left to ``_compare_rest``, which sees the keys."""
    by_key = [_by_key(document.figures) for document in (actual, expected)]
    mismatches = []
    for key in dict.fromkeys([*by_key[1], *by_key[0]]):
        got, due = (found.get(key, []) for found in by_key)
        for n in range(max(len(got), len(due))):
            there, here = _figure(got, n), _figure(due, n)
            if there != here:
                mismatches.append((key, there, here))
    return mismatches


def _by_key(figures: Sequence[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for key, value, shown in figures:
        found.setdefault(key, []).append((value, shown))
    return found


def _figure(figures: Sequence[tuple[str, str]], n: int) -> str:
    return f"{figures[n][0]} shown as “{figures[n][1]}”" if n < len(figures) else _ABSENT


def _compare_rest(actual: _Document, expected: _Document) -> list[_Mismatch]:
    mismatches = _align("text or element", actual.rest, expected.rest)
    if actual.drawn_with == expected.drawn_with:
        mismatches += _align("drawing of the plot", actual.drawing, expected.drawing)
    return mismatches


def _align(name: str, got: Sequence[str], due: Sequence[str]) -> list[_Mismatch]:
    """Items that differ, after the equal start and end are taken off; very long differences count as one."""
    start = 0
    while start < min(len(got), len(due)) and got[start] == due[start]:
        start += 1
    end = 0
    while end < min(len(got), len(due)) - start and got[-1 - end] == due[-1 - end]:
        end += 1
    got, due = got[start : len(got) - end], due[start : len(due) - end]
    if not got and not due:
        return []
    if max(len(got), len(due)) > _LONGEST_ALIGNED:
        return [(name, got[0] if got else _ABSENT, due[0] if due else _ABSENT)]
    pieces = SequenceMatcher(None, due, got, autojunk=False).get_opcodes()
    return [
        (name, " ".join(got[c:d]) or _ABSENT, " ".join(due[a:b]) or _ABSENT)
        for kind, a, b, c, d in pieces
        if kind != "equal"
    ]


_Leaf = str | int | float | bool | None


def _leaves(path: str, value: object) -> dict[str, _Leaf]:
    """Path -> scalar of a JSON value; empty lists and objects are leaves too."""
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, part in inner for key, leaf in _leaves(f"{path}/{name}", part).items()}
    if value is None or isinstance(value, str | int | float):
        return {path: value}
    return {path: json.dumps(value)}


def _compare_json(path: Path, due: dict[str, _Leaf]) -> list[_Mismatch]:
    try:
        got = _leaves("report.json", json.loads(path.read_bytes().decode()))
    except (OSError, ValueError, RecursionError) as error:
        return [(path.name, f"cannot be read ({error})", f"{len(due)} values")]
    shown = [{key: json.dumps(value, ensure_ascii=False) for key, value in leaves.items()} for leaves in (got, due)]
    return [
        (key, shown[0].get(key, _ABSENT), shown[1].get(key, _ABSENT))
        for key in dict.fromkeys([*due, *got])
        if shown[0].get(key) != shown[1].get(key)
    ]


def _compare_card(path: Path, due: str) -> list[_Mismatch]:
    try:
        got = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        return [(path.name, f"cannot be read ({error})", f"{len(due)} characters")]
    return _align(path.name, got.split("\n"), due.split("\n"))
