"""Shares per prompt as pictures. In: rows of prompts, or pairs of answers and pictures. Out: deterministic SVG strings.

One row per prompt, however many there are: a plot of 160 prompts is tall, not tiny. Two groups share one panel, the
first one's share from left to right; more groups have a panel each, beside each other. Which side of the target an
interval lies on is told by the marker's shape as well as by its colour.
"""

from collections.abc import Sequence
from math import nan

from evenhand.errors import BadInputError
from evenhand.report.leanings import PromptRow, is_above, is_below
from evenhand.report.numbers import show_number
from evenhand.report.panels import Panel, Series, draw_panels, round_up, shown_group
from evenhand.report.svg import INK
from evenhand.report.understanding import Pair, Share

__all__ = ["GROUP_COLOURS", "gap_plot", "share_plot"]

# At least 20 apart in CIELAB, from each other and from the grey of unknown ones, in usual sight and in the three colour
# blindnesses as Machado et al. 2009 simulate them. The first two are not those that convention gives to two genders,
# none is a colour of skin.
GROUP_COLOURS = ("#cc6a00", "#6a3d9a", "#005028", "#00c878", "#0028f0", "#f078f0", "#780050", "#c80050", "#f0a000")
"""Of groups, in order; shown with the group's name, never alone."""

_NEAR = "#66717d"


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
    ends = (f"all {shown_group(groups[1])}", f"all {shown_group(groups[0])}") if two else None
    largest = 1.0 if two else round_up([one.high for row in order for one in row.shares])
    return draw_panels([row.title for row in order], panels, values=values, largest=largest, ends=ends, salt=salt)


def _share_panel(rows: Sequence[PromptRow], at: int, groups: Sequence[str], target: Sequence[float]) -> Panel:
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
        Series(tuple(kinds["near"]), _NEAR, "o", filled=False),
        Series(tuple(kinds["above"]), GROUP_COLOURS[at % len(GROUP_COLOURS)] if two else "#b35400", ">", filled=True),
        Series(tuple(kinds["below"]), lacking if two else "#5a3588", "<", filled=True),
    )
    bands = tuple(
        (float(y), row.shares[0].value, row.shares[0].value + row.unknown_share)
        for y, row in enumerate(rows)
        if two and row.shares and row.unknown_share > 0
    )
    title = f"share of {shown_group(groups[at])}" if two else shown_group(groups[at])
    return Panel(title, target[at], series, bands)


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
            Series(tuple((y, value, nan, nan) for y, value, _, _ in drawn), INK, "o", filled=True),
            Series(tuple((y, value, nan, nan) for y, value, _, _ in answered), "#0072b2", "D", filled=False),
        )
        title = f"share of {shown_group(groups[at])}" if two else shown_group(groups[at])
        panels.append(Panel(title, target[at], series, joined))
    values = [show_number(pair.gaps[0], "points") if pair.gaps else "undefined" for pair in order] if two else []
    ends = (f"all {shown_group(groups[1])}", f"all {shown_group(groups[0])}") if two else None
    reach = [one.value for pair in order for one in (*pair.asked_shares, *pair.drawn_shares)]
    largest = 1.0 if two else round_up(reach)
    titles = [pair.drawn.title for pair in order]
    return draw_panels(titles, panels, values=values, largest=largest, ends=ends, salt=salt)


def _mark(y: int, shares: Sequence[Share], at: int) -> tuple[float, float, float, float]:
    share = shares[at]
    return float(y), share.value, share.low, share.high
