"""Shares per prompt as pictures. In: rows of prompts, or pairs of answers and pictures. Out: deterministic SVG strings.

One row per prompt, however many there are: a plot of 160 prompts is tall, not tiny. Two groups share one panel, the
first one's share from left to right; more groups have a panel each, beside each other. Which side of the target an
interval lies on is told by the marker's shape as well as by its colour.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan
from typing import TYPE_CHECKING, Any

from evenhand.errors import BadInputError
from evenhand.report.leanings import PromptRow, is_above, is_below
from evenhand.report.numbers import cut_text, plain_text, show_number
from evenhand.report.svg import INK, MUTED, RULE, draw_svg
from evenhand.report.understanding import Pair, Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GROUP_COLOURS", "gap_plot", "share_plot"]

# At least 20 apart in CIELAB, from each other and from the grey of unknown ones, in usual sight and in the three colour
# blindnesses as Machado et al. 2009 simulate them. The first two are not those that convention gives to two genders,
# none is a colour of skin.
GROUP_COLOURS = ("#cc6a00", "#6a3d9a", "#005028", "#00c878", "#0028f0", "#f078f0", "#780050", "#c80050", "#f0a000")
"""Of groups, in order; shown with the group's name, never alone."""

_NEAR = "#66717d"
_UNKNOWN = "#c9d1d9"

# Inches.
_NAME, _EDGE, _GAP, _VALUE = 2.75, 0.2, 0.32, 1.85
_WIDTH = 9.6
_ROW, _HEAD, _FOOT, _TIER = 0.2, 0.46, 0.3, 0.3
_PANELS = 6
_NAME_LENGTH, _TAIL, _GROUP_LENGTH = 36, 12, 18
_MARKER = 5.2


@dataclass(frozen=True, slots=True)
class _Series:
    """Marks of one kind in a panel: ``(row, value, low, high)``."""

    marks: tuple[tuple[float, float, float, float], ...]
    colour: str
    marker: str
    filled: bool


@dataclass(frozen=True, slots=True)
class _Panel:
    """One column: its title, what is wanted, its marks, and bands ``(row, from, to)`` of what is unknown."""

    title: str
    target: float
    series: tuple[_Series, ...]
    bands: tuple[tuple[float, float, float], ...] = ()


def share_plot(
    rows: Sequence[PromptRow], groups: Sequence[str], target: Sequence[float], *, salt: str = "evenhand"
) -> str:
    """The share of each group in each prompt's pictures, with intervals and the target.

    Rows are sorted by the share of the first group where there are two, else by the share of the group that is seen
    most; prompts without a picture in the denominator come last, without a mark.

    Args:
        rows: One per prompt.
        groups: Declared groups.
        target: Wanted share of each.
        salt: Part of the names inside the plot; another one for every plot of a page.

    Returns:
        An ``<svg>`` element to stand inside HTML.

    Raises:
        BadInputError: No prompt has a share.
    """
    if not any(row.shares for row in rows):
        raise BadInputError("nothing to draw: no prompt has a picture in the denominator")
    two = len(groups) == 2
    most = 0 if two else max(range(len(groups)), key=lambda at: sum(row.counts[at] for row in rows))
    order = sorted(rows, key=lambda row: (-row.shares[most].value if row.shares else 2.0, row.title))
    panels = [_share_panel(order, at, groups, target) for at in ([0] if two else range(len(groups)))]
    values = [_shown_share(row) for row in order] if two else []
    ends = (f"all {_group(groups[1])}", f"all {_group(groups[0])}") if two else None
    largest = 1.0 if two else _round_up([one.high for row in order for one in row.shares])
    return draw_svg(
        lambda figure: _draw(figure, [row.title for row in order], panels, values, largest, ends), salt=salt
    )


def _share_panel(rows: Sequence[PromptRow], at: int, groups: Sequence[str], target: Sequence[float]) -> _Panel:
    two = len(groups) == 2
    kinds: dict[str, list[tuple[float, float, float, float]]] = {"above": [], "below": [], "near": []}
    for y, row in enumerate(rows):
        if row.shares:
            above = is_above(row, at, target[at])
            below = is_below(row, at, target[at]) or (two and is_above(row, 1, target[1]))
            kind = "above" if above else "below" if below else "near"
            share = row.shares[at]
            kinds[kind].append((y, share.value, share.low, share.high))
    # With two groups less of the first is more of the second; with more, it is a lack of this one.
    lacking = GROUP_COLOURS[1] if two else INK
    series = (
        _Series(tuple(kinds["near"]), _NEAR, "o", filled=False),
        _Series(tuple(kinds["above"]), GROUP_COLOURS[at % len(GROUP_COLOURS)] if two else "#b35400", ">", filled=True),
        _Series(tuple(kinds["below"]), lacking if two else "#5a3588", "<", filled=True),
    )
    bands = tuple(
        (float(y), row.shares[0].value, row.shares[0].value + row.unknown_share)
        for y, row in enumerate(rows)
        if two and row.shares and row.unknown_share > 0
    )
    title = f"share of {_group(groups[at])}" if two else _group(groups[at])
    return _Panel(title, target[at], series, bands)


def _shown_share(row: PromptRow) -> str:
    if not row.shares:
        return "undefined"
    share = row.shares[0]
    low, high = (show_number(end, "share0-bare") for end in (share.low, share.high))
    return f"{show_number(share.value, 'share0')} [{low}–{high}] of {show_number(row.base, 'count')}"


def gap_plot(pairs: Sequence[Pair], groups: Sequence[str], target: Sequence[float], *, salt: str = "evenhand") -> str:
    """Shares among answers beside shares among pictures, joined by a line, prompt by prompt.

    Args:
        pairs: Of prompts; those in which either names no group have no mark.
        groups: Declared groups; two share one panel.
        target: Wanted share of each.
        salt: Part of the names inside the plot; another one for every plot of a page.

    Returns:
        An ``<svg>`` element to stand inside HTML.

    Raises:
        BadInputError: No prompt names a group in both.
    """
    if not any(pair.gaps for pair in pairs):
        raise BadInputError("nothing to draw: no prompt names a group in both answers and pictures")
    two = len(groups) == 2
    order = sorted(pairs, key=lambda pair: (-pair.gaps[0] if pair.gaps else 2.0, pair.drawn.title))
    panels = []
    for at in [0] if two else range(len(groups)):
        answered = tuple(_mark(y, pair.asked_shares, at) for y, pair in enumerate(order) if pair.gaps)
        drawn = tuple(_mark(y, pair.drawn_shares, at) for y, pair in enumerate(order) if pair.gaps)
        joined = tuple((a[0], min(a[1], d[1]), max(a[1], d[1])) for a, d in zip(answered, drawn, strict=True))
        series = (
            _Series(tuple((y, value, nan, nan) for y, value, _, _ in drawn), INK, "o", filled=True),
            _Series(tuple((y, value, nan, nan) for y, value, _, _ in answered), "#0072b2", "D", filled=False),
        )
        title = f"share of {_group(groups[at])}" if two else _group(groups[at])
        panels.append(_Panel(title, target[at], series, joined))
    values = [show_number(pair.gaps[0], "points") if pair.gaps else "undefined" for pair in order] if two else []
    ends = (f"all {_group(groups[1])}", f"all {_group(groups[0])}") if two else None
    reach = [one.value for pair in order for one in (*pair.asked_shares, *pair.drawn_shares)]
    largest = 1.0 if two else _round_up(reach)
    titles = [pair.drawn.title for pair in order]
    return draw_svg(lambda figure: _draw(figure, titles, panels, values, largest, ends), salt=salt)


def _short_titles(titles: Sequence[str]) -> list[str]:
    """Titles of at most 36 characters; those that would then look alike keep both ends."""
    shown = [cut_text(title, _NAME_LENGTH) for title in titles]
    alike = Counter(shown)
    return [
        one if alike[one] == 1 else f"{plain_text(title[: _NAME_LENGTH - _TAIL - 1])}…{plain_text(title[-_TAIL:])}"
        for title, one in zip(titles, shown, strict=True)
    ]


def _group(name: str) -> str:
    return cut_text(name.replace(" x ", " × "), _GROUP_LENGTH)


def _mark(y: int, shares: Sequence[Share], at: int) -> tuple[float, float, float, float]:
    share = shares[at]
    return float(y), share.value, share.low, share.high


def _round_up(values: Sequence[float]) -> float:
    """The next tenth, at most 1."""
    return min(1.0, ceil(max([0.1, *(value for value in values if isfinite(value))]) * 10 - 1e-9) / 10)


def _draw(
    figure: "Figure",
    titles: Sequence[str],
    panels: Sequence[_Panel],
    values: Sequence[str],
    largest: float,
    ends: tuple[str, str] | None,
) -> None:
    """Tiers of at most six panels, each tier with the prompts' names on its left."""
    tiers = -(-len(panels) // _PANELS)
    across = -(-len(panels) // tiers)
    body = len(titles) * _ROW
    height = tiers * (_HEAD + body + _FOOT) + (tiers - 1) * _TIER
    figure.set_size_inches(_WIDTH, height)
    room = _WIDTH - _NAME - _EDGE - (_VALUE if values else 0.0)
    width = (room - (across - 1) * _GAP) / across
    for place, panel in enumerate(panels):
        tier, column = divmod(place, across)
        top = tier * (_HEAD + body + _FOOT + _TIER) + _HEAD
        left = _NAME + column * (width + _GAP)
        axes = figure.add_axes((left / _WIDTH, 1 - (top + body) / height, width / _WIDTH, body / height))
        _style(axes, panel, len(titles), largest, ends)
        _mark_rows(axes, panel)
        if column == 0:
            _write(axes, -0.14 / width, _short_titles(titles), "right", INK)
        if values:
            _write(axes, 1 + 0.16 / width, values, "left", MUTED)


def _style(axes: "Axes", panel: _Panel, rows: int, largest: float, ends: tuple[str, str] | None) -> None:
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
        axes.text(0, -0.5 - 0.22 / _ROW, panel.title, ha="left", color=INK, fontsize=9.5, fontweight="bold", **text)
        axes.text(0, -0.5 - 0.05 / _ROW, shown, ha="left", color=MUTED, fontsize=8.5, **text)
        return
    for x, side, what in ((0.0, "left", f"← {ends[0]}"), (1.0, "right", f"{ends[1]} →")):
        axes.text(x, -0.5 - 0.26 / _ROW, what, ha=side, color=INK, fontsize=9.5, fontweight="bold", **text)
    middle = (panel.target + 0.02 * largest) / (1.04 * largest)
    axes.text(middle, -0.5 - 0.26 / _ROW, shown, ha="center", color=MUTED, fontsize=9, **text)


def _mark_rows(axes: "Axes", panel: _Panel) -> None:
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
