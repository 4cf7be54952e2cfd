"""Contact sheets. In: a run of drawn pictures. Out: per prompt the previews, each with what the classifiers say of it.

Below every preview stands a bar per attribute, as in figure 3 of arXiv 2502.03429: its colour is the predicted group,
its length the confidence, and both stand below it in words. A picture without a group has a hatched bar and the reason.
Products of attributes have no bar of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from evenhand.records import Estimate, Label, Prompt, Sample, ScoredPictures
from evenhand.report.disparity_plots import GROUP_COLOURS
from evenhand.report.elements import data_address
from evenhand.report.leanings import PromptRow

__all__ = ["Bar", "Cell", "Sheet", "contact_sheets", "group_colours", "simple_attributes"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What one classifier says of one picture; ``colour`` is an index into ``GROUP_COLOURS``, None without a group."""

    attribute: str
    text: str
    colour: int | None
    confidence: float

    @property
    def width(self) -> str:
        """Of the bar, in percent."""
        return f"{100 * min(max(self.confidence, 0.0), 1.0) if isfinite(self.confidence) else 0.0:.4g}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One preview: a data address, or None where it is no JPEG."""

    k: int
    picture: str | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One prompt.

    Attributes:
        prompt: The prompt.
        title: As in the tables.
        row: Of the first attribute.
        disparity: RD of the first attribute, or None.
        cells: Pictures shown, by their number.
        hidden: Pictures that were drawn and are not shown.
        errors: Pictures that could not be drawn.
        error: The first one's message, or None.
    """

    prompt: Prompt
    title: str
    row: PromptRow
    disparity: Estimate | None
    cells: tuple[Cell, ...]
    hidden: int
    errors: int
    error: str | None


def simple_attributes(run: ScoredPictures) -> tuple[str, ...]:
    """The attributes a classifier reads; the others are products of them."""
    return tuple(name for name in run.groups if name in run.classifiers) or tuple(run.groups)[:1]


def group_colours(run: ScoredPictures) -> dict[tuple[str, str], int]:
    """``(attribute, group)`` -> index into ``GROUP_COLOURS``; attributes go on where the one before them ended."""
    pairs = [(name, group) for name in simple_attributes(run) for group in run.groups[name]]
    return {pair: place % len(GROUP_COLOURS) for place, pair in enumerate(pairs)}


def contact_sheets(run: ScoredPictures, rows: Sequence[PromptRow]) -> list[Sheet]:
    """One sheet per prompt, the largest RD of the first attribute first; undefined ones last.

    Args:
        run: The run.
        rows: Of its first attribute.
    """
    names, colours = simple_attributes(run), group_colours(run)
    told = {name: {(label.prompt_id, label.k): label for label in run.labels[name]} for name in names}
    samples: dict[str, list[Sample]] = {prompt.id: [] for prompt in run.prompts}
    for sample in run.samples:
        samples.setdefault(sample.prompt_id, []).append(sample)
    sheets = [_sheet(run, row, samples[row.prompt.id], told, colours) for row in rows]
    return sorted(sheets, key=_unevenness)


def _unevenness(sheet: Sheet) -> float:
    known = sheet.disparity is not None and isfinite(sheet.disparity.value)
    return -sheet.disparity.value if known and sheet.disparity else 1.0


def _sheet(
    run: ScoredPictures,
    row: PromptRow,
    samples: Sequence[Sample],
    told: Mapping[str, Mapping[tuple[str, int], Label]],
    colours: Mapping[tuple[str, str], int],
) -> Sheet:
    cells = []
    for sample in samples:
        at = (sample.prompt_id, sample.k)
        if at in run.previews:
            labels = [found[at] for found in told.values() if at in found]
            bars = tuple(_bar(label, colours) for label in labels)
            cells.append(Cell(sample.k, data_address(run.previews[at]), bars))
    errors = [sample.error for sample in samples if sample.error is not None]
    return Sheet(
        prompt=row.prompt,
        title=row.title,
        row=row,
        disparity=row.distances.get("RD"),
        cells=tuple(cells),
        hidden=max(0, len(samples) - len(errors) - len(cells)),
        errors=len(errors),
        error=errors[0] if errors else None,
    )


def _bar(label: Label, colours: Mapping[tuple[str, str], int]) -> Bar:
    if label.group is None:
        return Bar(label.attribute, label.reason or "unknown", None, label.confidence)
    return Bar(label.attribute, label.group, colours.get((label.attribute, label.group), 0), label.confidence)
