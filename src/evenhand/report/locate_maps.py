"""Heat maps over the grid of codes. In: a ``HeatMap`` and the end of its scale. Out: SVG, and what to say of it.

Drawn by hand, cells of one shade as one path: a map of 1,024 codes takes some 20 kB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from markupsafe import Markup

from evenhand.errors import BadInputError
from evenhand.located import HeatMap

__all__ = ["SHADES", "Map", "heat_svg", "lay_maps"]

_ENDS = ((0.0, (247, 249, 251)), (0.35, (158, 202, 225)), (0.7, (33, 113, 181)), (1.0, (8, 39, 86)))
_LEVELS = 32


def _shade(level: int) -> str:
    at = level / (_LEVELS - 1)
    for (left, one), (right, other) in pairwise(_ENDS):
        if at <= right:
            part = (at - left) / (right - left)
            return "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in zip(one, other, strict=True))
    return "#082756"


SHADES = tuple(_shade(level) for level in range(_LEVELS))
"""From 0 to the largest value, darker with every step."""


@dataclass(frozen=True, slots=True)
class Map:
    """One heat map and what is said of it.

    Attributes:
        map: The record.
        svg: The drawing.
        total: Sum over the codes, in nats.
        row: Of the largest value, from 1 at the top.
        column: Of the largest value, from 1 on the left.
        largest: The largest value.
        low: Its interval's lower end.
        high: Its interval's upper end.
        clear: Codes whose interval lies above 0.
    """

    map: HeatMap
    svg: Markup
    total: float
    row: int
    column: int
    largest: float
    low: float
    high: float
    clear: int


def lay_maps(maps: Sequence[HeatMap]) -> Mapping[str, Sequence[Map]]:
    """Kind -> its maps, all shaded on one scale, which ends at their largest value.

    Raises:
        BadInputError: A map without codes, or with more or fewer numbers than codes.
    """
    for one in maps:
        codes = one.rows * one.columns
        if not codes or {len(one.values), len(one.low), len(one.high)} != {codes}:
            raise BadInputError(
                f"heat map {one.what!r} of {one.pair}: {one.rows} x {one.columns} codes, {len(one.values)} values and "
                f"{len(one.low)} and {len(one.high)} ends; allowed: one of each for every code; locate again"
            )
    laid: dict[str, list[Map]] = {}
    for what in dict.fromkeys(one.what for one in maps):
        alike = [one for one in maps if one.what == what]
        end = max([value for one in alike for value in one.values if isfinite(value)], default=0.0)
        laid[what] = [_lay(one, end) for one in alike]
    return laid


def _lay(heat: HeatMap, end: float) -> Map:
    values = [value if isfinite(value) else float("-inf") for value in heat.values]
    at = values.index(max(values))
    return Map(
        map=heat,
        svg=Markup(heat_svg(heat, end)),  # noqa: S704
        total=sum(value for value in heat.values if isfinite(value)),
        row=at // heat.columns + 1,
        column=at % heat.columns + 1,
        largest=heat.values[at],
        low=heat.low[at],
        high=heat.high[at],
        clear=sum(low > 0 for low in heat.low),
    )


def heat_svg(heat: HeatMap, end: float) -> str:
    """A map as an ``<svg>`` element: a square a code, shaded from 0 to ``end``; a dot where the interval reaches 0."""
    shaded: dict[int, list[str]] = {}
    dots = []
    for place, value in enumerate(heat.values):
        y, x = divmod(place, heat.columns)
        share = value / end if end > 0 and isfinite(value) else 0.0
        level = round(min(max(share, 0.0), 1.0) * (_LEVELS - 1))
        shaded.setdefault(level, []).append(f"M{x} {y}h1v1h-1z")
        if not heat.low[place] > 0:
            dots.append(f"M{x + 0.42:.2f} {y + 0.42:.2f}h.16v.16h-.16z")
    cells = "".join(f'<path fill="{SHADES[level]}" d="{"".join(shaded[level])}"/>' for level in sorted(shaded))
    marks = f'<path fill="#97a2ae" d="{"".join(dots)}"/>' if dots else ""
    box = f"0 0 {heat.columns} {heat.rows}"
    return f'<svg viewBox="{box}" shape-rendering="crispEdges">{cells}{marks}</svg>'
