"""What a study of mitigations found. In: nothing. Out: frozen records without behaviour.

A study draws the same held-out prompts with several models that were trained differently (arms), at several guidance
weights, and measures all of them alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from evenhand.records import Estimate

__all__ = ["Studied", "StudyCell", "StudyRow"]


@dataclass(frozen=True, slots=True)
class StudyCell:
    """What one model draws at one guidance weight.

    Attributes:
        arm: How it was trained: ``start``, ``prompt``, ``understanding``, ``sft``, ``paper``, ``bpo``.
        seed: Of its training; 0 where nothing is trained.
        guidance: w.
        run: The run folder, relative to the study's.
        pictures: Stored, of those wanted.
        values: ``ATTRIBUTE: RD`` (noise taken off), ``ATTRIBUTE: RD_observed`` (as counted), ``valid``, ``obeyed``,
            ``ATTRIBUTE: seen``, and the names of quality metrics -> estimate.
    """

    arm: str
    seed: int
    guidance: float
    run: str
    pictures: int
    values: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One arm at one guidance weight, its seeds together.

    Attributes:
        arm: As in the cells.
        guidance: w.
        seeds: How many.
        values: As in the cells: means over seeds, with intervals that span those of all seeds.
    """

    arm: str
    guidance: float
    seeds: int
    values: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Studied:
    """A study.

    Attributes:
        model: Name of what was trained.
        attributes: Perceived; products of two included.
        groups: Attribute -> its groups.
        prompts: Held out, that ask for nobody.
        samples: Pictures wanted of each prompt.
        asked: Pictures wanted of each prompt that asks for a group.
        level: Coverage the intervals aim at.
        trained: Arguments of every training that were given, as they are typed; the others are the defaults.
        cells: Arms in the order they are compared, then seeds, then guidance weights.
        rows: The same, seeds together.
        caveats: What a reader must know, one sentence each.
    """

    model: str
    attributes: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    prompts: int
    samples: int
    asked: int
    level: float
    trained: Mapping[str, str]
    cells: tuple[StudyCell, ...]
    rows: tuple[StudyRow, ...]
    caveats: tuple[str, ...]
