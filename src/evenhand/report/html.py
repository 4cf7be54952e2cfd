"""The report. In: scored runs and their comparisons. Out: one HTML file without scripts or outside resources.

Captions come first, drawn pictures after them; either part is there only if there are runs of it. Every number stands
in a ``<data>`` element (``elements.py``), so that ``evenhand.report.check`` can compare it with the ledger.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from evenhand.errors import BadInputError
from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures
from evenhand.report.captions import OPEN_CARDS, captions_context, check_captions
from evenhand.report.card import model_card
from evenhand.report.elements import SHOWN_CHARACTERS, number, plot_version, templates
from evenhand.report.folder import write_files
from evenhand.report.json_values import report_as_dict
from evenhand.report.numbers import estimate_form
from evenhand.report.pictures import check_pictures, pictures_context
from evenhand.report.plots import COLOURS

__all__ = ["OPEN_CARDS", "SHOWN_CHARACTERS", "render_report", "write_report"]


def write_report(
    runs: Sequence[Scored],
    comparisons: Sequence[Comparison],
    out: str | Path,
    *,
    title: str,
    pictures: Sequence[ScoredPictures] = (),
    picture_comparisons: Sequence[PictureComparison] = (),
) -> Path:
    """Write ``report.html`` and ``report.json`` into a folder, each whole or not at all.

    Where there are drawn pictures, ``model-card.md`` is written beside them.

    Args:
        runs: Captions, the baseline first.
        comparisons: The baseline against each other run.
        out: The folder; made where absent. A report in it is replaced.
        title: Heading of the report.
        pictures: Runs of drawn pictures.
        picture_comparisons: Two of them each, paired.

    Returns:
        The path of ``report.html``.

    Raises:
        BadInputError: As ``render_report``; or the folder cannot be written to.
    """
    page = render_report(runs, comparisons, title=title, pictures=pictures, picture_comparisons=picture_comparisons)
    values = report_as_dict(runs, comparisons, title=title, pictures=pictures, picture_comparisons=picture_comparisons)
    out = Path(out)
    files = {
        **({"model-card.md": model_card(runs, pictures)} if pictures else {}),
        "report.json": json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
        "report.html": page,
    }
    write_files(out, files)
    return out / "report.html"


def render_report(
    runs: Sequence[Scored],
    comparisons: Sequence[Comparison],
    *,
    title: str,
    pictures: Sequence[ScoredPictures] = (),
    picture_comparisons: Sequence[PictureComparison] = (),
) -> str:
    """The report as one HTML document; the same records give the same text.

    Args:
        runs: Captions, the baseline first.
        comparisons: The baseline against each other run.
        title: Heading of the report.
        pictures: Runs of drawn pictures.
        picture_comparisons: Two of them each, paired.

    Raises:
        BadInputError: No run at all, two runs of one name, a label too many or too few, or a comparison of an absent
            run or made twice; a comparison of captions of another baseline than the first.
    """
    if not runs and not pictures:
        raise BadInputError("a report needs at least one run, got none")
    check_captions(runs, comparisons)
    check_pictures(pictures, picture_comparisons)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            title=title,
            runs=runs,
            pictures=pictures,
            plot_version=plot_version(),
            colours=COLOURS,
            num=number,
            form=estimate_form,
            shown_characters=SHOWN_CHARACTERS,
            **(captions_context(runs, comparisons) if runs else {}),
            **(pictures_context(pictures, picture_comparisons) if pictures else {}),
        )
    )
