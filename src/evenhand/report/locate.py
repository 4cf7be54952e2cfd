"""The page of a location. In: ``Located`` records. Out: one HTML file with pictures, without scripts; or its check.

Every number stands in a ``<data>`` element (``elements.py``) or is text of a plot, so that ``check_location`` can
compare it with the records. ``locate.json`` stands beside the page.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evenhand.errors import BadInputError, ReportMismatchError
from evenhand.located import Located
from evenhand.report.elements import SHOWN_CHARACTERS, data_address, number, plot_version, templates
from evenhand.report.folder import write_files
from evenhand.report.locate_maps import SHADES
from evenhand.report.locate_values import location_as_dict
from evenhand.report.locate_view import located_form, size_form, view_location
from evenhand.report.numbers import plain_text
from evenhand.report.page_differences import (
    Findings,
    compare_json,
    compare_page,
    cut_figure,
    list_mismatches,
    read_page,
    title_of,
)

__all__ = ["check_location", "location_as_dict", "render_location", "write_location"]


def write_location(found: Sequence[Located], out: str | Path, *, title: str) -> Path:
    """Write ``locate.html`` and ``locate.json`` into a folder, each whole or not at all.

    Args:
        found: One per attribute.
        out: The folder; made where absent. A page in it is replaced.
        title: Heading of the page.

    Returns:
        The path of ``locate.html``.

    Raises:
        BadInputError: As ``render_location``; or the folder cannot be written to.
    """
    page = render_location(found, title=title)
    values = location_as_dict(found, title=title)
    numbers = json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    write_files(Path(out), {"locate.json": numbers, "locate.html": page})
    return Path(out) / "locate.html"


def render_location(found: Sequence[Located], *, title: str) -> str:
    """The page as one HTML document; the same records give the same text.

    Args:
        found: One per attribute.
        title: Heading of the page.

    Raises:
        BadInputError: No attribute at all, one attribute of one run twice, groups and targets of unequal number, or a
            heat map without a number for each code.
    """
    names = [(one.run, one.attribute) for one in found]
    if not names or len(set(names)) < len(names):
        raise BadInputError(
            f"a page needs at least one location and each attribute of a run once, got {names}; locate one attribute"
        )
    return (
        templates()
        .get_template("locate.html.j2")
        .render(
            title=title,
            views=[view_location(one, salt=str(at)) for at, one in enumerate(found)],
            levels=sorted({one.level for one in found}),
            shades=SHADES,
            plot_version=plot_version(),
            num=number,
            form=located_form,
            size_form=size_form,
            picture_address=data_address,
            shown_characters=SHOWN_CHARACTERS,
        )
    )


def check_location(html_path: Path, found: Sequence[Located]) -> int:
    """Compare a written page with the records it claims to show.

    Args:
        html_path: ``locate.html``; ``locate.json`` is expected beside it.
        found: The records the page was written from, made again.

    Returns:
        How many figures were compared: ``<data>`` elements in the page plus numbers in ``locate.json``.

    Raises:
        BadInputError: ``html_path`` cannot be read as UTF-8 text, or the records make no page.
        ReportMismatchError: Something differs; the message lists the first few differences and their number. A run
            that the page calls by another name is told first, and only what differs beside the name is listed.
    """
    first = _compare(html_path, found)
    if not first.mismatches:
        return first.figures
    called = _other_names(html_path.with_name("locate.json"), found)
    mismatches, before = first.mismatches, ""
    if called:
        renamed = [replace(one, run=name) for one, name in zip(found, called, strict=True)]
        mismatches = _compare(html_path, renamed).mismatches
        told = dict.fromkeys((one.run, name) for one, name in zip(found, called, strict=True) if one.run != name)
        names = ", ".join(f"{cut_figure(here)!r} is called {cut_figure(there)!r} in the report" for here, there in told)
        if not mismatches:
            raise ReportMismatchError(
                f"{html_path.name}: the run {names}; nothing else differs. Give the folder that name, or locate again."
            )
        before = f"the run {names}. Beside the name: "
    raise ReportMismatchError(
        f"{html_path.name}: {before}{len(mismatches)} difference(s) from the ledger. {list_mismatches(mismatches)}. "
        "Write the page again from its runs."
    )


def _compare(html_path: Path, found: Sequence[Located]) -> Findings:
    page = read_page(html_path, name="locate.html")
    title = title_of(page)
    parts = [
        compare_page(page, render_location(found, title=title)),
        compare_json(html_path.with_name("locate.json"), location_as_dict(found, title=title)),
    ]
    return Findings([one for part in parts for one in part.mismatches], sum(part.figures for part in parts))


def _other_names(path: Path, found: Sequence[Located]) -> list[str]:
    """What the page calls each run; empty where it calls them as they are, or does not fit the records."""
    try:
        told = json.loads(path.read_bytes().decode())["locations"]
        there = [(str(one["run"]), str(one["attribute"])) for one in told]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []
    here = [(plain_text(one.run), plain_text(one.attribute)) for one in found]
    fits = [name for _, name in there] == [name for _, name in here] and len(set(there)) == len(there)
    if not fits or there == here:
        return []
    return [one.run if plain_text(one.run) == run else run for one, (run, _) in zip(found, there, strict=True)]
