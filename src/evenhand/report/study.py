"""The page of a study. In: ``Studied``. Out: one HTML file without scripts, its numbers as JSON; or their check.

Every number stands in a ``<data>`` element (``elements.py``), so that ``check_study`` can compare it with the records.
"""

import json
from pathlib import Path

from markupsafe import Markup

from evenhand.errors import BadInputError, ReportMismatchError
from evenhand.report.elements import SHOWN_CHARACTERS, number, plot_version, templates
from evenhand.report.folder import write_files
from evenhand.report.numbers import estimate_form, plain_text
from evenhand.report.page_differences import compare_json, compare_page, list_mismatches, read_page, title_of
from evenhand.report.record_values import as_json_values
from evenhand.report.study_plot import guidance_plot
from evenhand.report.study_view import ARM_TEXTS, columns_of, lines_of
from evenhand.studied import Studied

__all__ = ["check_study", "render_study", "study_as_dict", "write_study"]


def write_study(found: Studied, out: str | Path, *, title: str) -> Path:
    """Write ``study.html`` and ``study.json`` into a folder, each whole or not at all.

    Args:
        found: The study.
        out: The folder; made where absent. A page in it is replaced.
        title: Heading of the page.

    Returns:
        The path of ``study.html``.

    Raises:
        BadInputError: As ``render_study``; or the folder cannot be written to.
    """
    page = render_study(found, title=title)
    numbers = json.dumps(study_as_dict(found, title=title), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    write_files(Path(out), {"study.json": numbers, "study.html": page})
    return Path(out) / "study.html"


def study_as_dict(found: Studied, *, title: str) -> dict[str, object]:
    """What ``study.json`` holds: every field of the records, NaN and infinities as null."""
    return {"format": "evenhand study 1", "title": plain_text(title), "study": as_json_values(found)}


def render_study(found: Studied, *, title: str) -> str:
    """The page as one HTML document; the same record gives the same text.

    Raises:
        BadInputError: No arm was drawn.
    """
    if not found.rows:
        raise BadInputError("a study's page needs one drawn arm and more; go on with evenhand study.")
    panels = [
        (column.title.removeprefix("RD "), lines_of(found, column.key))
        for column in columns_of(found)
        if column.below is not None
    ]
    return (
        templates()
        .get_template("study.html.j2")
        .render(
            title=title,
            found=found,
            columns=columns_of(found),
            weights=sorted({row.guidance for row in found.rows}),
            texts=ARM_TEXTS,
            plot=Markup(guidance_plot(panels)),  # noqa: S704  (drawn here, text escaped by matplotlib)
            plot_version=plot_version(),
            num=number,
            form=estimate_form,
            shown_characters=SHOWN_CHARACTERS,
        )
    )


def check_study(html_path: Path, found: Studied) -> int:
    """Compare a written page with the record it claims to show.

    Args:
        html_path: ``study.html``; ``study.json`` is expected beside it.
        found: The record, made again.

    Returns:
        How many figures were compared.

    Raises:
        BadInputError: The page cannot be read, or the record makes none.
        ReportMismatchError: Something differs; the message lists the first few differences and their number.
    """
    page = read_page(html_path, name="study.html")
    title = title_of(page)
    parts = [
        compare_page(page, render_study(found, title=title)),
        compare_json(html_path.with_name("study.json"), study_as_dict(found, title=title)),
    ]
    mismatches = [one for part in parts for one in part.mismatches]
    if mismatches:
        raise ReportMismatchError(
            f"{html_path.name}: {len(mismatches)} difference(s) from the study's runs. {list_mismatches(mismatches)}. "
            "Write the page again with evenhand report."
        )
    return sum(part.figures for part in parts)
