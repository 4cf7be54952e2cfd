"""What the page of a study shows. In: ``Studied``. Out: columns, and the names of what stands in them.

A disparity's cell holds it twice: with the noise of the sample taken off, and below it as it was counted.
"""

from dataclasses import dataclass

from evenhand.records import Estimate
from evenhand.studied import Studied

__all__ = ["ARM_TEXTS", "Column", "columns_of", "lines_of"]

ARM_TEXTS = {
    "start": "the model before training",
    "prompt": "asked for diversity in the prompt",
    "understanding": "finetuned to say who is shown",
    "sft": "finetuned on balanced pictures",
    "paper": "sft, then the published second stage",
    "bpo": "Balanced Preference Optimization, evenhand's default",
}
"""Arm -> what it is."""

_BELOW = {"RD": "RD_observed"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: What it is called.
        key: Name of the estimate.
        below: Name of the estimate that stands below it, or nothing.
    """

    title: str
    key: str
    below: str | None = None


def columns_of(found: Studied) -> tuple[Column, ...]:
    """What any row has, disparities first, in the order they were measured."""
    names = dict.fromkeys(name for row in found.rows for name in row.values)
    laid = []
    for name in names:
        attribute, _, statistic = name.rpartition(": ")
        if statistic in _BELOW.values():
            continue
        below = f"{attribute}: {_BELOW[statistic]}" if statistic in _BELOW else None
        laid.append(Column(_title(attribute, statistic), name, below))
    return tuple(laid)


def lines_of(found: Studied, key: str) -> list[tuple[str, list[tuple[float, Estimate]]]]:
    """Arm -> (guidance weight, estimate), weights ascending; arms without it are left out."""
    rows = sorted((row for row in found.rows if key in row.values), key=lambda row: row.guidance)
    arms = dict.fromkeys(row.arm for row in found.rows)
    told = [(arm, [(row.guidance, row.values[key]) for row in rows if row.arm == arm]) for arm in arms]
    return [(arm, points) for arm, points in told if points]


def _title(attribute: str, statistic: str) -> str:
    who = attribute.replace("_", " ").replace(" x ", " × ")
    if not attribute:
        return statistic
    return f"RD {who}" if statistic == "RD" else f"{statistic}: {who}"
