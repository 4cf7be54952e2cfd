"""Disparity over guidance. In: arms with an estimate at each weight. Out: one deterministic SVG string.

Lines of arms differ by colour and by marker.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evenhand.errors import BadInputError
from evenhand.records import Estimate
from evenhand.report.plots import COLOURS
from evenhand.report.svg import INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["guidance_plot"]

Points = Sequence[tuple[float, Estimate]]

_MARKERS = "osD^vPX"
# Inches.
_LEFT, _PANEL, _GAP, _TOP, _BODY, _BOTTOM, _LEGEND = 0.7, 2.6, 0.5, 0.4, 2.6, 0.55, 1.75


def guidance_plot(panels: Sequence[tuple[str, Sequence[tuple[str, Points]]]], *, salt: str = "evenhand") -> str:
    """A panel for each attribute: disparity, with its interval, against the guidance weight, a line for each arm.

    Args:
        panels: Title, and for each arm its points, weights ascending.
        salt: Part of the names inside the plot.

    Returns:
        An ``<svg>`` element to stand inside HTML.

    Raises:
        BadInputError: No panel, or one without points.
    """
    if not panels or not all(lines for _, lines in panels):
        raise BadInputError("nothing to draw: no arm has a disparity at any guidance weight")
    arms = list(dict.fromkeys(arm for _, lines in panels for arm, _ in lines))
    width = _LEFT + len(panels) * _PANEL + (len(panels) - 1) * _GAP + _LEGEND
    height = _TOP + _BODY + _BOTTOM

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(width, height)
        for at, (title, lines) in enumerate(panels):
            left = _LEFT + at * (_PANEL + _GAP)
            axes = figure.add_axes((left / width, _BOTTOM / height, _PANEL / width, _BODY / height))
            _panel(axes, title, lines, arms, first=at == 0)
        handles, names = figure.axes[0].get_legend_handles_labels()
        right = 1 - (_LEGEND - 0.15) / width
        figure.legend(handles, names, loc="center left", bbox_to_anchor=(right, 0.55), frameon=False, fontsize=9)

    return draw_svg(draw, salt=salt)


def _panel(axes: "Axes", title: str, lines: Sequence[tuple[str, Points]], arms: Sequence[str], *, first: bool) -> None:
    weights = sorted({weight for _, points in lines for weight, _ in points})
    span = (weights[-1] - weights[0]) or 1.0
    for arm, points in lines:
        at = arms.index(arm)
        apart = (at - (len(arms) - 1) / 2) * span * 0.012  # intervals of several arms lie beside each other
        xs, values = [weight + apart for weight, _ in points], [one.value for _, one in points]
        below = [one.value - one.low for _, one in points]
        above = [one.high - one.value for _, one in points]
        axes.errorbar(
            xs,
            values,
            yerr=[[max(0.0, one) for one in below], [max(0.0, one) for one in above]],
            label=arm,
            color=COLOURS[at % len(COLOURS)],
            marker=_MARKERS[at % len(_MARKERS)],
            markersize=5,
            linewidth=1.4,
            elinewidth=0.9,
        )
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("guidance weight", fontsize=9, color=MUTED)
    axes.set_ylabel("RD, noise taken off" if first else "", fontsize=9, color=MUTED)
    axes.set_xticks(weights, [f"{weight:g}" for weight in weights])
    axes.set_ylim(0, None)
    axes.set_xlim(weights[0] - 0.08 * span, weights[-1] + 0.08 * span)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
