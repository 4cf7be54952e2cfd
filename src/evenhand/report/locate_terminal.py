"""Where the bias sits, in a terminal. In: a location. Out: a rich table without control characters."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from evenhand.located import Located, Part
from evenhand.report.locate_view import size_form
from evenhand.report.numbers import cut_text, show_number

__all__ = ["verdict_table"]

_LENGTH, _WHY = 40, 300
_STYLES = {"biased": "bold red", "not enough evidence": "dim"}


def verdict_table(found: Located) -> Table:
    """Parts down: verdict, size with its interval, and why; the margin stands in the title."""
    margin = show_number(found.margin, "share")
    title = f"{cut_text(found.run, _LENGTH)}, perceived {cut_text(found.attribute, _LENGTH)}: margin {margin}"
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    for heading, width in (("part", 8), ("verdict", 10), ("size", 14)):
        table.add_column(heading, max_width=width)
    table.add_column("why", ratio=1)
    for part in found.parts:
        verdict = Text(cut_text(part.verdict, _LENGTH), style=_STYLES.get(part.verdict, ""))
        name = Text(cut_text(part.name, _LENGTH), style="bold")
        table.add_row(name, verdict, _size(part), Text(cut_text(part.why, _WHY)))
    return table


def _size(part: Part) -> Text:
    if part.size is None:
        return Text("–")
    form = size_form(part.size)
    low, high = (show_number(end, f"{form}-bare") for end in (part.size.low, part.size.high))
    size = Text(show_number(part.size.value, form))
    return size.append(f"\n[{low}, {high}]", style="dim")
