"""Which words carry an attribute, as a picture. In: words, their weights and groups. Out: one deterministic SVG string.

ALA's third figure: the strongest words of each group as horizontal bars; two groups grow in two directions from one
line, the first declared one to the right, more than two stand side by side. Text stays text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Literal

from evenhand.errors import BadInputError
from evenhand.report.numbers import cut_text
from evenhand.report.plots import COLOURS
from evenhand.report.svg import INK, MUTED, RULE, draw_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["importance_plot"]

# Inches.
_WORD, _VALUE, _BARS, _EDGE = 1.45, 0.5, 2.2, 0.1
_TITLE, _HEAD, _ROW, _SCALE, _FOOT = 0.35, 0.4, 0.24, 0.28, 0.28
_WORD_LENGTH = 18

_Bar = tuple[str, float]
_Side = Literal["left", "right"]


def importance_plot(
    words: Sequence[str],
    weights: Sequence[float],
    owners: Sequence[str],
    *,
    groups: Sequence[str],
    attribute: str,
    top: int = 12,
    masked: bool = False,
) -> str:
    """The ``top`` strongest words of each group as bars of length beta, on one scale.

    Args:
        words: Words, or tokens as text.
        weights: Absolute importance of each, in [0, 1]; 0 is not drawn.
        owners: The group each stands for.
        groups: Declared groups, at least two.
        attribute: Name of the attribute.
        top: Bars per group at most; where weights are equal, in alphabetical order.
        masked: Show first letters alone, for words that must not be printed.

    Returns:
        An ``<svg>`` element without prologue, namespace or metadata, to stand inside HTML. The same words give the
        same bytes with the same version of matplotlib.

    Raises:
        BadInputError: Sizes that do not agree, an undeclared group, a weight outside [0, 1], or nothing to draw.
    """
    _check(words, weights, owners, groups, top)
    bars = {group: _strongest(words, weights, owners, group, top) for group in groups}
    if not any(bars.values()):
        raise BadInputError(f"nothing to draw: no word of {attribute!r} has a weight above 0.")
    if masked:
        bars = {group: [(word[:1] + "·" * (len(word) - 1), weight) for word, weight in b] for group, b in bars.items()}
    return draw_svg(lambda figure: _draw(figure, bars, attribute), salt="evenhand importance")


def _check(
    words: Sequence[str], weights: Sequence[float], owners: Sequence[str], groups: Sequence[str], top: int
) -> None:
    if not len(words) == len(weights) == len(owners):
        raise BadInputError(f"got {len(words)} words, {len(weights)} weights and {len(owners)} groups of them.")
    if len(groups) < 2 or len(set(groups)) != len(groups) or top < 1:
        raise BadInputError(f"groups {list(groups)}, top {top}; give at least two groups, each once, and a bar each.")
    if unknown := sorted(set(owners) - set(groups)):
        raise BadInputError(f"{unknown[0]!r} is not a group; allowed: {', '.join(groups)}.")
    if wrong := [weight for weight in weights if not isfinite(weight) or not 0 <= weight <= 1]:
        raise BadInputError(f"a weight is {wrong[0]}; allowed: numbers in [0, 1].")


def _strongest(
    words: Sequence[str], weights: Sequence[float], owners: Sequence[str], group: str, top: int
) -> list[_Bar]:
    own = [(w, float(b)) for w, b, owner in zip(words, weights, owners, strict=True) if owner == group and b > 0]
    return sorted(own, key=lambda bar: (-bar[1], bar[0]))[:top]


def _draw(figure: "Figure", bars: dict[str, list[_Bar]], attribute: str) -> None:
    """One panel per group, three beside each other; of two groups the second is on the left and grows leftwards."""
    groups = list(bars)
    mirrored = len(groups) == 2
    order = groups[::-1] if mirrored else groups
    columns, rows = min(3, len(groups)), max(map(len, bars.values()))
    longest = max(weight for own in bars.values() for _, weight in own)
    across, down = _WORD + _VALUE + _BARS + (0.0 if mirrored else _EDGE), _HEAD + rows * _ROW + _SCALE
    width = columns * across + 2 * _EDGE
    height = _TITLE + -(-len(groups) // columns) * down + _FOOT
    figure.set_size_inches(width, height)
    for place, group in enumerate(order):
        look = _Look(
            colour=COLOURS[1 + groups.index(group) % (len(COLOURS) - 1)],
            grows="left" if mirrored and place == 0 else "right",
            labels="right" if mirrored and place == 1 else "left",
        )
        left = _EDGE + place % columns * across + (0.0 if look.labels == "right" else _WORD + _VALUE)
        bottom = height - _TITLE - (place // columns + 1) * down + _SCALE
        axes = figure.add_axes((left / width, bottom / height, _BARS / width, rows * _ROW / height))
        _draw_panel(axes, group, bars[group], rows, longest, look)
    figure.text(_EDGE / width, 1 - 0.2 / height, f"Words that carry perceived {attribute}", color=INK, fontsize=12,
                fontweight="bold", va="center", parse_math=False)  # fmt: skip
    figure.text(0.5, 0.08 / height, "absolute importance |β|", color=MUTED, fontsize=9, ha="center", va="bottom")


@dataclass(frozen=True, slots=True)
class _Look:
    """A panel's colour, the way its bars grow, and the side of its words."""

    colour: str
    grows: _Side
    labels: _Side


def _draw_panel(axes: "Axes", group: str, bars: Sequence[_Bar], rows: int, longest: float, look: _Look) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rightward, mirrored = look.grows == "right", look.grows == look.labels
    axes.set_ylim(rows, 0)
    axes.set_xlim((0, longest) if rightward else (longest, 0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    # Where two panels meet, the right one alone writes the 0.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if rightward or x else ""))
    axes.tick_params(axis="x", length=0, colors=MUTED, labelsize=9, pad=4)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(0, color=MUTED, linewidth=1.2)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.barh([y + 0.5 for y in range(len(bars))], [weight for _, weight in bars], height=0.68, color=look.colour)
    for y, (word, weight) in enumerate(bars):
        _write(axes, 0.08, y + 0.5, f"{weight:.2f}", look.labels, MUTED)
        _write(axes, _VALUE, y + 0.5, cut_text(word, _WORD_LENGTH), look.labels, INK)
    name = cut_text(group, 20)
    head = f"perceived {name}" if not mirrored else f"perceived {name} →" if rightward else f"← perceived {name}"
    start = 0.05 / _BARS if rightward else 1 - 0.05 / _BARS
    axes.text(start, -0.11 / _ROW, head, transform=axes.get_yaxis_transform(), color=look.colour, fontsize=10,
              va="bottom", ha="left" if rightward else "right", fontweight="bold", parse_math=False)  # fmt: skip


def _write(axes: "Axes", inches: float, y: float, text: str, side: _Side, colour: str) -> None:
    """Text beside a panel, some inches from its left or right end."""
    x, aligned = (-inches / _BARS, "right") if side == "left" else (1 + inches / _BARS, "left")
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), color=colour, fontsize=9.5, va="center", ha=aligned,
              parse_math=False, clip_on=False)  # fmt: skip
