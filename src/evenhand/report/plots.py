"""Estimates as a picture. In: scored runs and the names to draw. Out: one deterministic SVG string."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evenhand.errors import BadInputError
from evenhand.records import Estimate, Scored
from evenhand.report.numbers import cut_text, estimate_form, show_number
from evenhand.report.svg import INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "forest_plot"]

# After Okabe and Ito's colour-blind safe set, https://jfly.uni-koeln.de/color/; the baseline's grey is ours.
COLOURS = ("#3b4652", "#0072b2", "#d55e00", "#00795a", "#a8457e", "#2b83ad", "#8a6d00")
_MARKERS = "osD^vPX"

# Inches.
_LEFT, _MIDDLE, _RIGHT = 2.3, 4.8, 2.45
_ROW, _GAP, _TOP, _BOTTOM = 0.25, 0.17, 0.05, 0.34
_NAME_LENGTH, _RUN_LENGTH = 14, 18


def forest_plot(runs: Sequence[Scored], names: Sequence[str]) -> str:
    """A forest plot: per name a row for each run, with value, interval, and the floor as a grey tick.

    Args:
        runs: The first is the baseline.
        names: Names of estimates, in the order drawn; a run that lacks one has no row for it.

    Returns:
        An ``<svg>`` element without prologue, namespace or metadata, to stand inside HTML. The same records
        give the same bytes with the same version of matplotlib.

    Raises:
        BadInputError: No run has an estimate of any of the names.
    """
    rows = _lay_out(runs, names)
    if not rows:
        raise BadInputError(f"nothing to draw: no run has an estimate named {', '.join(names) or '(none given)'}")
    body = rows[-1][0] + _ROW
    width, height = _LEFT + _MIDDLE + _RIGHT, _TOP + body + _BOTTOM

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(width, height)
        axes = figure.add_axes((_LEFT / width, _BOTTOM / height, _MIDDLE / width, body / height))
        axes.set_ylim(body, 0)
        _style(axes, [estimate for _, _, _, _, estimate in rows])
        for y, first, index, run, estimate in rows:
            _draw_row(axes, y + _ROW / 2, first, index, run, estimate)

    return draw_svg(draw)


_Row = tuple[float, bool, int, str, Estimate]


def _lay_out(runs: Sequence[Scored], names: Sequence[str]) -> list[_Row]:
    """``(top in inches, first of its name, index of the run, run, estimate)`` per row, top down."""
    rows: list[_Row] = []
    y = 0.0
    for name in names:
        first = True
        for index, run in enumerate(runs):
            for estimate in run.estimates:
                if estimate.name == name:
                    y += _GAP if first and rows else 0.0
                    rows.append((y, first, index, run.run, estimate))
                    y += _ROW
                    first = False
    return rows


def _style(axes: "Axes", estimates: Sequence[Estimate]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ends = [end for e in estimates for end in (e.value, e.low, e.high, e.floor) if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.05, *ends])
    margin = 0.03 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    form = "share0" if all(estimate_form(e) == "share" for e in estimates) else "given"
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: show_number(round(float(x), 6), form)))
    axes.tick_params(axis="x", length=0, colors=MUTED, labelsize=9, pad=5)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("none")


def _draw_row(axes: "Axes", y: float, first: bool, index: int, run: str, estimate: Estimate) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
    if math.isfinite(estimate.floor):
        axes.plot([estimate.floor] * 2, [y - 0.095, y + 0.095], color="#8894a0", linewidth=1.8, zorder=3.5)
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
    if math.isfinite(estimate.value):
        axes.plot(
            [estimate.value],
            [y],
            marker=marker,
            markersize=6.5,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.8,
            linestyle="none",
            zorder=4,
        )
    if first:
        _write(axes, -_LEFT + 0.02, y, cut_text(estimate.name, _NAME_LENGTH), "left", INK, weight="bold")
    _write(axes, -0.14, y, cut_text(run, _RUN_LENGTH), "right", colour)
    form = estimate_form(estimate)
    _write(axes, _MIDDLE + 0.82, y, show_number(estimate.value, form), "right", INK, weight="bold")
    ends = " – ".join(show_number(end, f"{form}-bare") for end in (estimate.low, estimate.high))
    _write(axes, _MIDDLE + 0.96, y, f"[{ends}]", "left", MUTED)


def _write(axes: "Axes", inches: float, y: float, text: str, side: str, colour: str, weight: str = "normal") -> None:
    axes.text(
        inches / _MIDDLE,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        horizontalalignment=side,
        verticalalignment="center",
        color=colour,
        fontsize=9.5,
        fontweight=weight,
        parse_math=False,
        clip_on=False,
    )
