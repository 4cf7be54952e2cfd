"""Rows of marks in panels beside each other. In: titles of rows, panels of shares. Out: a deterministic SVG string.

However many rows there are, each has its height. Every panel has one axis, from 0 to the largest share, and a target.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan
from typing import TYPE_CHECKING, Any

from evenhand.report.numbers import cut_text, plain_text, show_number
from evenhand.report.svg import INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ROW", "Panel", "Series", "draw_panels", "round_up", "short_titles", "shown_group"]

ROW = 0.2
"""Height of a row with one mark, in inches."""

_UNKNOWN = "#c9d1d9"

# Inches.
_NAME, _EDGE, _GAP, _VALUE = 2.75, 0.2, 0.32, 1.85
_WIDTH = 9.6
_HEAD, _FOOT, _TIER = 0.46, 0.3, 0.3
_PANELS = 6
_NAME_LENGTH, _TAIL, _GROUP_LENGTH = 36, 12, 18
_MARKER = 5.2


@dataclass(frozen=True, slots=True)
class Series:
    """Marks of one kind in a panel: ``(row, value, low, high)``."""

    marks: tuple[tuple[float, float, float, float], ...]
    colour: str
    marker: str
    filled: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One column: its title, what is wanted, its marks, and bands ``(row, from, to)`` of what is unknown."""

    title: str
    target: float
    series: tuple[Series, ...]
    bands: tuple[tuple[float, float, float], ...] = ()


def short_titles(titles: Sequence[str]) -> list[str]:
    """Titles of at most 36 characters; those that would then look alike keep both ends."""
    shown = [cut_text(title, _NAME_LENGTH) for title in titles]
    alike = Counter(shown)
    return [
        one if alike[one] == 1 else f"{plain_text(title[: _NAME_LENGTH - _TAIL - 1])}…{plain_text(title[-_TAIL:])}"
        for title, one in zip(titles, shown, strict=True)
    ]


def shown_group(name: str) -> str:
    """A group's name of at most 18 characters."""
    return cut_text(name.replace(" x ", " × "), _GROUP_LENGTH)


def round_up(values: Sequence[float]) -> float:
    """The next tenth, at most 1."""
    return min(1.0, ceil(max([0.1, *(value for value in values if isfinite(value))]) * 10 - 1e-9) / 10)


def draw_panels(
    titles: Sequence[str],
    panels: Sequence[Panel],
    *,
    values: Sequence[str] = (),
    largest: float = 1.0,
    ends: tuple[str, str] | None = None,
    row: float = ROW,
    salt: str = "evenhand",
) -> str:
    """Tiers of at most six panels, each tier with the rows' titles on its left.

    Args:
        titles: Of the rows, top down.
        panels: From left to right.
        values: A text per row, on the right of it; none where empty.
        largest: Right end of every axis.
        ends: What the left and the right end of the only axis mean.
        row: Height of a row, in inches.
        salt: Part of the names inside the plot; another one for every plot of a page.

    Returns:
        An ``<svg>`` element to stand inside HTML.
    """
    tiers = -(-len(panels) // _PANELS)
    across = -(-len(panels) // tiers)
    body = len(titles) * row
    height = tiers * (_HEAD + body + _FOOT) + (tiers - 1) * _TIER
    room = _WIDTH - _NAME - _EDGE - (_VALUE if values else 0.0)
    width = (room - (across - 1) * _GAP) / across

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(_WIDTH, height)
        for place, panel in enumerate(panels):
            tier, column = divmod(place, across)
            top = tier * (_HEAD + body + _FOOT + _TIER) + _HEAD
            left = _NAME + column * (width + _GAP)
            axes = figure.add_axes((left / _WIDTH, 1 - (top + body) / height, width / _WIDTH, body / height))
            _style(axes, panel, len(titles), largest, ends, row)
            _mark_rows(axes, panel)
            if column == 0:
                _write(axes, -0.14 / width, short_titles(titles), "right", INK)
            if values:
                _write(axes, 1 + 0.16 / width, values, "left", MUTED)

    return draw_svg(draw, salt=salt)


def _style(axes: "Axes", panel: Panel, rows: int, largest: float, ends: tuple[str, str] | None, row: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlim(-0.02 * largest, 1.02 * largest)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10 if ends else 4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: show_number(round(float(x), 6), "share0")))
    axes.tick_params(axis="x", length=0, colors=MUTED, labelsize=8.5, pad=4, labeltop=bool(ends), top=False)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    lines = [(y, 0.0, largest) for y in range(rows)]
    axes.plot(*_segments(lines), color="#eef1f4", linewidth=0.8, zorder=0.5)
    axes.plot([panel.target] * 2, [-0.5, rows - 0.5], color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)
    text: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "parse_math": False,
        "clip_on": False,
        "va": "bottom",
    }
    shown = f"target {show_number(panel.target, 'share0')}"
    if ends is None:
        axes.text(0, -0.5 - 0.22 / row, panel.title, ha="left", color=INK, fontsize=9.5, fontweight="bold", **text)
        axes.text(0, -0.5 - 0.05 / row, shown, ha="left", color=MUTED, fontsize=8.5, **text)
        return
    for x, side, what in ((0.0, "left", f"← {ends[0]}"), (1.0, "right", f"{ends[1]} →")):
        axes.text(x, -0.5 - 0.26 / row, what, ha=side, color=INK, fontsize=9.5, fontweight="bold", **text)
    middle = (panel.target + 0.02 * largest) / (1.04 * largest)
    axes.text(middle, -0.5 - 0.26 / row, shown, ha="center", color=MUTED, fontsize=9, **text)


def _mark_rows(axes: "Axes", panel: Panel) -> None:
    """Bands, then intervals, then markers, each kind as one line, which keeps large plots quick and small."""
    if panel.bands:
        axes.plot(*_segments(panel.bands), color=_UNKNOWN, linewidth=5, solid_capstyle="butt", zorder=2)
    for series in panel.series:
        spans = [(y, low, high) for y, _, low, high in series.marks if isfinite(low) and isfinite(high)]
        if spans:
            axes.plot(*_segments(spans), color=series.colour, linewidth=1.6, solid_capstyle="butt", clip_on=False,
                      zorder=3)  # fmt: skip
        if series.marks:
            axes.plot(
                [value for _, value, _, _ in series.marks],
                [y for y, _, _, _ in series.marks],
                marker=series.marker,
                markersize=_MARKER,
                color=series.colour,
                markerfacecolor=series.colour if series.filled else "white",
                markeredgewidth=1.2,
                linestyle="none",
                clip_on=False,
                zorder=4,
            )


def _segments(spans: Sequence[tuple[float, float, float]]) -> tuple[list[float], list[float]]:
    """Horizontal lines as one line with breaks."""
    xs = [x for _, low, high in spans for x in (low, high, nan)]
    return xs, [y for row, _, _ in spans for y in (row, row, nan)]


def _write(axes: "Axes", x: float, texts: Sequence[str], side: str, colour: str) -> None:
    for y, text in enumerate(texts):
        axes.text(
            x,
            y,
            text,
            transform=axes.get_yaxis_transform(),
            horizontalalignment=side,
            verticalalignment="center",
            color=colour,
            fontsize=9,
            parse_math=False,
            clip_on=False,
        )
