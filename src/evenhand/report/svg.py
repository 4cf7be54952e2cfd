"""A figure as text. In: a function that draws. Out: one deterministic ``<svg>`` element to stand inside HTML.

Drawn with matplotlib's object-oriented interface under its own defaults, whatever the user's settings are; text stays
text, so that its numbers can be checked.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "RULE", "draw_svg"]

INK, MUTED, RULE = "#1d2733", "#566270", "#d9dfe6"
"""Colours of the page: text, text beside it, lines."""

_NAMESPACES = re.compile(r' xmlns(:\w+)?="[^"]*"')
_NUMBERED = re.compile(r' id="(figure|axes|matplotlib\.axis|xtick|ytick|patch|line2d|text)_\d+"')


def draw_svg(draw: "Callable[[Figure], None]", *, salt: str = "evenhand") -> str:
    """What ``draw`` puts on an empty figure, without prologue, namespace, metadata or numbered names.

    Args:
        draw: Sets the figure's size and draws on it.
        salt: Part of the names inside the element.

    Returns:
        An ``<svg>`` element; the same drawing gives the same bytes with the same version of matplotlib, which escapes
        all text it writes.
    """
    from matplotlib import rc_context, rcParamsDefault
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    defaults: dict[Any, Any] = {key: value for key, value in rcParamsDefault.items() if not key.startswith("backend")}
    chosen: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": ["DejaVu Sans"],
        "font.size": 10,
    }
    stream = io.StringIO()
    with rc_context({**defaults, **chosen}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(facecolor="none")
        draw(figure)
        FigureCanvasSVG(figure)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", facecolor="none", metadata=metadata)
    document = stream.getvalue()
    svg = document[document.index("<svg") :].strip()
    head = svg.index(">")
    return _NAMESPACES.sub("", svg[:head]) + _NUMBERED.sub("", svg[head:])
