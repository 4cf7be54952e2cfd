"""What the page of a location shows of one attribute. In: the record. Out: rows, matrices and spans to lay out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from evenhand.errors import BadInputError
from evenhand.located import Evidence, Example, Located, LocatedPrompt, Part, Probe
from evenhand.records import Estimate
from evenhand.report.locate_maps import Map, lay_maps
from evenhand.report.locate_plots import curve_plot, flow_plot, flow_sources
from evenhand.report.numbers import Setting, estimate_form, tabulate_mappings

__all__ = ["PLOTTED", "Cell", "Matrix", "Span", "View", "located_form", "size_form", "view_location"]

PLOTTED = 24
"""Prompts in the first plot; the others stand in one that is opened."""

_SHADED, _WHITE_ABOVE = (0, 114, 178), 0.62


def located_form(estimate: Estimate) -> str:
    """As ``estimate_form``; TV is a share of pictures here, and a share that may lie below 0 is shown in points."""
    form = "share" if estimate.name in ("TV", "TV bound") else estimate_form(estimate)
    return "points" if form == "share" and estimate.low < 0 else form


def size_form(estimate: Estimate) -> str:
    """Of a part's size, a share of pictures whatever its name: ``share``, or ``points`` where it has a sign."""
    return "points" if estimate.low < 0 or estimate.name.endswith(" difference") else "share"


@dataclass(frozen=True, slots=True)
class Span:
    """An interval on an axis, in percent of its length."""

    left: float
    width: float
    dot: float
    ticks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix: pictures, their share of the row, and the shade of it."""

    column: str
    count: int
    share: float
    background: str
    light: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counted pairs: rows by their name, and the names of the columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    @property
    def total(self) -> int:
        """All pictures."""
        return sum(cell.count for _, cells in self.rows for cell in cells)

    @property
    def same(self) -> int:
        """Pictures of one name in both."""
        return sum(cell.count for row, cells in self.rows for cell in cells if cell.column == row)


@dataclass(frozen=True, slots=True)
class View:
    """One attribute of one run, as its page lays it out.

    Attributes:
        found: The record.
        axis: What the spans of the parts lie on: from, to.
        spans: Part -> its size; absent where it could not be measured.
        verdicts: Verdict -> parts.
        evidence: Part -> ``for``, ``against``, ``open`` -> findings.
        sources: Which shares there are of prompts: ``codes``, ``shown``, ``answered``.
        plots: Of the shares per prompt: the farthest from the target, then the others; either may be missing.
        plotted: Prompts in each of ``plots``.
        turned: What codes say, what pictures show; None without either.
        fidelity: Group -> span of its fidelity, on 0 to 1.
        said: Labels and what the classifier says.
        flips: Before and after the round trip.
        probes: Of the model's places.
        controls: Of controls.
        curves: How accuracy grows, or None.
        maps: Kind -> heat maps.
        examples: Kind -> pictures.
        partly: Prompts that are partly aligned.
        asked: Prompts that were asked about.
        bounds: Names of the bounds, in order.
        settings: By path.
        methods: How each interval was made, and of what.
    """

    found: Located
    axis: tuple[float, float]
    spans: Mapping[str, Span]
    verdicts: Mapping[str, Sequence[str]]
    evidence: Mapping[str, Mapping[str, Sequence[Evidence]]]
    sources: Sequence[str]
    plots: Sequence[Markup]
    plotted: Sequence[int]
    turned: Matrix | None
    fidelity: Mapping[str, Span]
    said: Matrix | None
    flips: Matrix | None
    probes: Sequence[Probe]
    controls: Sequence[Probe]
    curves: Markup | None
    maps: Mapping[str, Sequence[Map]]
    examples: Mapping[str, Sequence[Example]]
    partly: Sequence[LocatedPrompt]
    asked: Sequence[LocatedPrompt]
    bounds: Sequence[str]
    settings: Sequence[Setting]
    methods: Sequence[tuple[str, Sequence[str]]]


def view_location(found: Located, *, salt: str) -> View:
    """Lay out one attribute.

    Args:
        found: The record.
        salt: Part of the names inside the plots; another one for every attribute of a page.

    Raises:
        BadInputError: Groups and targets of unequal number, or a heat map without a number for each code.
    """
    if not found.groups or len(found.groups) != len(found.target):
        raise BadInputError(
            f"location of {found.attribute!r}: {len(found.groups)} groups and {len(found.target)} targets; allowed: "
            "one target for every group; locate again"
        )
    axis = _axis(found)
    plots, plotted = _flow(found, salt)
    trip = found.round_trip
    asked = [prompt for prompt in found.prompts if prompt.partly_aligned is not None]
    drawn_curves = any(probe.curve for probe in found.probes)
    return View(
        found=found,
        axis=axis,
        spans={part.name: _span(part.size, axis, found.margin) for part in found.parts if part.size is not None},
        verdicts=_by(found.parts),
        evidence={part.name: _speaks(part.evidence) for part in found.parts},
        sources=flow_sources(found.prompts),
        plots=plots,
        plotted=plotted,
        turned=_matrix(found.turned, found.groups),
        fidelity={group: _span(one, (0.0, 1.0), 0.0) for group, one in found.fidelity.items()},
        said=_matrix(trip.said, found.groups) if trip else None,
        flips=_matrix(trip.flips, found.groups) if trip else None,
        probes=[probe for probe in found.probes if not probe.control],
        controls=[probe for probe in found.probes if probe.control],
        curves=Markup(curve_plot(found.probes, salt=f"curves {salt}")) if drawn_curves else None,  # noqa: S704
        maps=lay_maps(found.maps),
        examples={kind: [one for one in found.examples if one.kind == kind] for kind in _kinds(found.examples)},
        partly=[prompt for prompt in asked if prompt.partly_aligned],
        asked=asked,
        bounds=tuple(dict.fromkeys(one.name for bounds in found.two_samples.values() for one in bounds)),
        settings=tabulate_mappings([found.settings]),
        methods=_methods(found),
    )


def _kinds(examples: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(one.kind for one in examples))


def _by(parts: Sequence[Part]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(part.verdict, []).append(part.name)
    return found


def _speaks(evidence: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    found: dict[str, list[Evidence]] = {"for": [], "against": [], "open": []}
    for one in evidence:
        found.setdefault(one.speaks, []).append(one)
    return found


def _axis(found: Located) -> tuple[float, float]:
    """From the least to the largest of all ends, 0 and twice the margin, rounded outwards to 5 points."""
    ends = [end for part in found.parts if part.size for end in (part.size.low, part.size.high, part.size.value)]
    finite = [0.0, 2 * found.margin, *(end for end in ends if isfinite(end))]
    low, high = min(finite), max(finite)
    if low < 0:
        low = min(low, -2 * found.margin)
    return -_up(-low), max(_up(high), 0.05)


def _up(value: float) -> float:
    steps = int(value * 20)
    return (steps if steps >= value * 20 - 1e-9 else steps + 1) / 20


def _span(estimate: Estimate, axis: tuple[float, float], margin: float) -> Span:
    def place(value: float) -> float:
        share = (value - axis[0]) / (axis[1] - axis[0]) if isfinite(value) else 0.0
        return 100 * min(max(share, 0.0), 1.0)

    left, right = place(estimate.low), place(estimate.high)
    ticks = [tick for tick in (-margin, margin) if margin and axis[0] <= tick <= axis[1]]
    return Span(left, right - left, place(estimate.value), tuple(place(tick) for tick in ticks))


def _flow(found: Located, salt: str) -> tuple[list[Markup], list[int]]:
    if not flow_sources(found.prompts):
        return [], []
    farthest = sorted(found.prompts, key=lambda prompt: -_distance(prompt, found))
    parts = [farthest[:PLOTTED], farthest[PLOTTED:]]
    laid = [sorted(part, key=lambda prompt: _place(prompt, found)) for part in parts if flow_sources(part)]
    plots = [
        Markup(flow_plot(part, found.groups, found.target, salt=f"flow {salt} {at}"))  # noqa: S704
        for at, part in enumerate(laid)
    ]
    return plots, [len(part) for part in laid]


def _distance(prompt: LocatedPrompt, found: Located) -> float:
    """TV of the shares shown, else of those by likelihood, to the target; -1 where neither is known."""
    shares = prompt.shown or prompt.codes
    if not shares:
        return -1.0
    wanted = zip(found.groups, found.target, strict=True)
    return sum(abs(shares[group].value - share) for group, share in wanted if group in shares) / 2


def _place(prompt: LocatedPrompt, found: Located) -> tuple[float, str]:
    """By the share of the first of two groups, else of the group that is drawn most; those without one last."""
    sums = {
        group: sum((one.shown or one.codes)[group].value for one in found.prompts if group in (one.shown or one.codes))
        for group in found.groups
    }
    first = found.groups[0] if len(found.groups) == 2 else max(found.groups, key=lambda group: sums[group])
    shares = prompt.shown or prompt.codes
    return (-shares[first].value if first in shares else 2.0), prompt.name


def _matrix(table: Mapping[str, Mapping[str, int]], groups: Sequence[str]) -> Matrix | None:
    """Declared groups first, then reasons by name; None where nothing was counted."""
    if not any(count for row in table.values() for count in row.values()):
        return None
    others = sorted({name for row in table.values() for name in row} - set(groups))
    columns = (*groups, *others)
    names = [*(group for group in groups if group in table), *sorted(set(table) - set(groups))]
    return Matrix(columns, tuple((name, _cells(table[name], columns)) for name in names))


def _cells(row: Mapping[str, int], columns: Sequence[str]) -> tuple[Cell, ...]:
    total = sum(row.values())
    cells = []
    for column in columns:
        count = row.get(column, 0)
        share = count / total if total else 0.0
        shade = "#" + "".join(f"{round(255 + share * (part - 255)):02x}" for part in _SHADED)
        cells.append(Cell(column, count, share, shade, share > _WHITE_ABOVE))
    return tuple(cells)


def _methods(found: Located) -> list[tuple[str, list[str]]]:
    """Every interval method, with what was made with it."""
    named: dict[str, list[str]] = {}
    for what, estimates in _estimates(found).items():
        for one in estimates:
            if one.method:
                named.setdefault(one.method, []).append(what)
    for heat in found.maps:
        named.setdefault(heat.method, []).append("heat maps")
    return [(method, list(dict.fromkeys(of))) for method, of in named.items()]


def _estimates(found: Located) -> dict[str, list[Estimate]]:
    """What a reader calls it -> its estimates."""
    trip = found.round_trip
    return {
        "verdicts": [part.size for part in found.parts if part.size],
        "distances to the target": list(found.totals.values()),
        "shares by likelihood": [one for prompt in found.prompts for one in prompt.codes.values()],
        "shares shown": [one for prompt in found.prompts for one in prompt.shown.values()],
        "shares answered": [one for prompt in found.prompts for one in prompt.answered.values()],
        "shown less by likelihood": list(found.shift.values()),
        "asked and shown": list(found.fidelity.values()),
        "asked and by likelihood": list(found.obeyed.values()),
        "gap": list(found.gap),
        "agreement": [found.agreement] if found.agreement else [],
        "divergences": [one for prompt in found.prompts for one in prompt.divergence.values()],
        "bounds": [one for bounds in found.two_samples.values() for one in bounds],
        "probes": [probe.accuracy for probe in found.probes],
        "recall gaps": [probe.recall_gap for probe in found.probes],
        "round trip": list(trip.change.values()) if trip else [],
    }
