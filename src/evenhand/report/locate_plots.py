"""Plots of a location. In: neutral prompts, or probes. Out: deterministic SVG strings.

Per prompt, who the codes draw, who the pictures show and who the answers name stand below each other, told apart by
the marker's shape as well as by its colour; per probe, how its accuracy grows with the pictures it was fitted to.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from evenhand.errors import BadInputError
from evenhand.located import LocatedPrompt, Probe
from evenhand.records import Estimate
from evenhand.report.numbers import cut_text, show_number
from evenhand.report.panels import ROW, Panel, Series, draw_panels, round_up, shown_group
from evenhand.report.plots import COLOURS
from evenhand.report.svg import INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve_plot", "flow_plot", "flow_sources"]

_SOURCES = (("codes", "#b35400", "s", True), ("shown", INK, "o", True), ("answered", "#0072b2", "D", False))
_PITCH = 0.26
_MARKERS = "osD^vPX"
_CONTROL = "#8a95a1"

# Inches.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _BODY = 9.6, 0.75, 2.6, 0.3, 0.55, 2.9


def flow_sources(prompts: Sequence[LocatedPrompt]) -> list[str]:
    """Which of ``codes``, ``shown`` and ``answered`` any prompt has, in this order."""
    return [name for name, _, _, _ in _SOURCES if any(_shares(prompt, name) for prompt in prompts)]


def flow_plot(
    prompts: Sequence[LocatedPrompt], groups: Sequence[str], target: Sequence[float], *, salt: str = "evenhand"
) -> str:
    """Each prompt's shares by likelihood, among pictures and among answers, with intervals and the target.

    Args:
        prompts: One row each, in this order.
        groups: Declared groups; two share one panel, more have a panel each.
        target: Wanted share of each.
        salt: Part of the names inside the plot; another one for every plot of a page.

    Returns:
        An ``<svg>`` element to stand inside HTML.

    Raises:
        BadInputError: No prompt has a share.
    """
    sources = flow_sources(prompts)
    if not sources:
        raise BadInputError("nothing to draw: no prompt has a share by likelihood, among pictures or among answers")
    two = len(groups) == 2
    panels = [
        Panel(
            f"share of {shown_group(groups[at])}" if two else shown_group(groups[at]),
            target[at],
            tuple(_series(prompts, groups[at], sources)),
        )
        for at in ([0] if two else range(len(groups)))
    ]
    highs = [mark[3] for panel in panels for series in panel.series for mark in series.marks]
    return draw_panels(
        [prompt.name for prompt in prompts],
        panels,
        values=[_said(prompt, groups[0], sources) for prompt in prompts] if two else [],
        largest=1.0 if two else round_up(highs),
        ends=(f"all {shown_group(groups[1])}", f"all {shown_group(groups[0])}") if two else None,
        row=ROW + 0.065 * (len(sources) - 1),
        salt=salt,
    )


def _shares(prompt: LocatedPrompt, source: str) -> Mapping[str, Estimate]:
    return {"codes": prompt.codes, "shown": prompt.shown, "answered": prompt.answered}[source]


def _series(prompts: Sequence[LocatedPrompt], group: str, sources: Sequence[str]) -> list[Series]:
    laid = []
    for name, colour, marker, filled in _SOURCES:
        if name in sources:
            apart = (sources.index(name) - (len(sources) - 1) / 2) * _PITCH
            marks = [(y + apart, _shares(prompt, name).get(group)) for y, prompt in enumerate(prompts)]
            found = tuple((y, one.value, one.low, one.high) for y, one in marks if one is not None)
            laid.append(Series(found, colour, marker, filled))
    return laid


def _said(prompt: LocatedPrompt, group: str, sources: Sequence[str]) -> str:
    shares = [_shares(prompt, name).get(group) for name in sources]
    return " · ".join("–" if one is None else show_number(one.value, "share0") for one in shares)


def curve_plot(probes: Sequence[Probe], *, salt: str = "evenhand") -> str:
    """Accuracy by the number of pictures fitted to, a line per place; controls are grey and dashed.

    Args:
        probes: Those without a curve are left out.
        salt: Part of the names inside the plot; another one for every plot of a page.

    Returns:
        An ``<svg>`` element to stand inside HTML.

    Raises:
        BadInputError: No probe has a curve.
    """
    drawn = [probe for probe in probes if probe.curve]
    if not drawn:
        raise BadInputError("nothing to draw: no probe was fitted to several numbers of pictures")
    height = _TOP + _BODY + _BOTTOM

    def draw(figure: "Figure") -> None:
        figure.set_size_inches(_WIDTH, height)
        room = (_LEFT / _WIDTH, _BOTTOM / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, _BODY / height)
        axes = figure.add_axes(room)
        _style(axes, drawn)
        inks = iter(range(len(drawn)))
        colours = [_CONTROL if probe.control else COLOURS[next(inks) % len(COLOURS)] for probe in drawn]
        for at, (probe, colour) in enumerate(zip(drawn, colours, strict=True)):
            _line(axes, probe, colour, _MARKERS[at % len(_MARKERS)])
        _label(axes, drawn, colours)

    return draw_svg(draw, salt=salt)


def _style(axes: "Axes", probes: Sequence[Probe]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    sizes = sorted({size for probe in probes for size in probe.curve})
    lows = [one.low for probe in probes for one in probe.curve.values() if isfinite(one.low)]
    floor = min([*lows, *(probe.majority for probe in probes)])
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] * 0.92, sizes[-1] * 1.06)
    axes.set_ylim(max(0.0, floor - 0.05), 1.02)
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: show_number(round(float(x)), "count")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: show_number(round(float(y), 6), "share0")))
    axes.tick_params(length=0, colors=MUTED, labelsize=8.5, pad=5)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("labelled pictures fitted to", fontsize=9, color=MUTED)
    axes.set_title("accuracy on other pictures", fontsize=9.5, fontweight="bold", color=INK, loc="left", pad=8)
    axes.plot(axes.get_xlim(), [probes[0].majority] * 2, color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1.5)


def _line(axes: "Axes", probe: Probe, colour: str, marker: str) -> None:
    sizes = sorted(probe.curve)
    values = [probe.curve[size].value for size in sizes]
    style = "dotted" if probe.control else "solid"
    axes.plot(
        sizes,
        values,
        color=colour,
        linestyle=style,
        linewidth=1.4,
        marker=marker,
        markersize=5,
        clip_on=False,
        zorder=3,
    )
    for size in sizes:
        one = probe.curve[size]
        if isfinite(one.low) and isfinite(one.high):
            axes.plot([size, size], [one.low, one.high], color=colour, linewidth=1.0, alpha=0.55, zorder=2)


def _label(axes: "Axes", probes: Sequence[Probe], colours: Sequence[str]) -> None:
    """Names at the ends of the lines, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    step = (high - low) * 0.16 / _BODY
    ends = [
        (probe.curve[max(probe.curve)].value, probe.place, colours[at], _MARKERS[at % len(_MARKERS)])
        for at, probe in enumerate(probes)
    ]
    ends.append((probes[0].majority, "largest group (majority)", INK, "None"))
    ends.sort(key=lambda end: end[0] if isfinite(end[0]) else low)
    places, y = [], low - step
    for value, _, _, _ in ends:
        y = max(value if isfinite(value) else low, y + step)
        places.append(y)
    cap = high
    for at in reversed(range(len(places))):
        places[at] = min(places[at], cap)
        cap = places[at] - step
    text: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
    for y, (_, name, colour, marker) in zip(places, ends, strict=True):
        axes.plot([1.03], [y], marker=marker, color=colour, markersize=5, **text)
        axes.text(1.05, y, cut_text(name, 34), va="center", color=colour, fontsize=9, parse_math=False, **text)
