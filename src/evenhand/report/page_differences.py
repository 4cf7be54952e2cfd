"""What differs between a written page and the one it should be. In: files, markup, JSON values. Out: differences.

Every figure's full-precision value and shown text is compared, every other text (the plots' too), every element and
attribute outside the plots, and every value of a JSON file. The drawing inside a plot depends on matplotlib's version
and is compared where it is the same.
"""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html.parser import HTMLParser
from pathlib import Path

from evenhand.errors import BadInputError

__all__ = [
    "Findings",
    "Mismatch",
    "compare_json",
    "compare_lines",
    "compare_page",
    "cut_figure",
    "list_mismatches",
    "read_page",
    "title_of",
]

_LISTED = 5
_LENGTH = 120
_LONGEST_ALIGNED = 2000
_BLANK = re.compile(r"[ \t\n\r\f]+")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_ABSENT = "(absent)"

Mismatch = tuple[str, str, str]
"""What differs, what is there, what should be."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What differs, and how many figures were compared."""

    mismatches: list[Mismatch]
    figures: int


def title_of(page: str) -> str:
    """The title of a page; empty where it has none."""
    title = _TITLE.search(page)
    return html.unescape(title.group(1)) if title else ""


def list_mismatches(mismatches: Sequence[Mismatch]) -> str:
    """The first few differences, and how many more there are."""
    first = "; ".join(
        f"{key}: in the report {cut_figure(got)}, from the ledger {cut_figure(due)}"
        for key, got, due in mismatches[:_LISTED]
    )
    return first + (f"; and {len(mismatches) - _LISTED} more" if len(mismatches) > _LISTED else "")


def compare_page(page: str, rendered: str) -> Findings:
    """Figures, texts, elements and drawings of a page against those of one rendered afresh."""
    actual, expected = _parse(page), _parse(rendered)
    mismatches = _compare_figures(actual, expected) + _compare_rest(actual, expected)
    return Findings(mismatches, len(expected.figures))


def cut_figure(text: str) -> str:
    """A value in a message, of bounded length."""
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "…"


def read_page(path: Path, *, name: str) -> str:
    """The text of a page.

    Args:
        path: The page.
        name: What such a page is called, for the message.

    Raises:
        BadInputError: It cannot be read as UTF-8 text.
    """
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read as a report ({error}); give the path of {name}") from error


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


def _compare_figures(actual: _Document, expected: _Document) -> list[Mismatch]:
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


def _compare_rest(actual: _Document, expected: _Document) -> list[Mismatch]:
    mismatches = _align("text or element", actual.rest, expected.rest)
    if actual.drawn_with == expected.drawn_with:
        mismatches += _align("drawing of the plot", actual.drawing, expected.drawing)
    return mismatches


def _align(name: str, got: Sequence[str], due: Sequence[str]) -> list[Mismatch]:
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


def compare_json(path: Path, values: object) -> Findings:
    """Every value of a JSON file against the values it should hold; numbers are counted as figures."""
    due = _leaves(path.name, values)
    numbers = sum(not isinstance(value, str | bool | None) for value in due.values())
    try:
        got = _leaves(path.name, json.loads(path.read_bytes().decode()))
    except (OSError, ValueError, RecursionError) as error:
        return Findings([(path.name, f"cannot be read ({error})", f"{len(due)} values")], numbers)
    shown = [{key: json.dumps(value, ensure_ascii=False) for key, value in leaves.items()} for leaves in (got, due)]
    mismatches = [
        (key, shown[0].get(key, _ABSENT), shown[1].get(key, _ABSENT))
        for key in dict.fromkeys([*due, *got])
        if shown[0].get(key) != shown[1].get(key)
    ]
    return Findings(mismatches, numbers)


def compare_lines(path: Path, due: str) -> list[Mismatch]:
    """Every line of a text file against those it should hold."""
    try:
        got = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        return [(path.name, f"cannot be read ({error})", f"{len(due)} characters")]
    return _align(path.name, got.split("\n"), due.split("\n"))
