"""How a run of pictures is scored. In: choices. Out: the same choices, kept in the run folder as ``scoring.json``.

Kept beside the samples, so that ``evenhand score RUN`` makes the same numbers again without being told how.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evenhand.attributes import attribute_from_settings, measuring_settings
from evenhand.errors import ArtefactError, BadInputError, LedgerError
from evenhand.metrics.correction import ConfusionMatrix
from evenhand.metrics.tally import DENOMINATORS
from evenhand.records import Attribute
from evenhand.run_folder import RunFolder

__all__ = ["PLAN", "ReadBy", "ScoringPlan", "check_attributes", "load_confusion", "read_plan", "write_plan"]

PLAN = "scoring.json"
"""The file's name."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ReadBy:
    """One attribute and what reads it.

    Attributes:
        attribute: Its groups and target.
        classifier: ``NAME`` or ``NAME:ARGUMENT`` of the registry's ``picture_classifiers``.
        faces: ``none``, or a name of the registry's ``face_stages``: ``unknown`` or ``largest`` is what several faces
            make of a picture.
        confusion: Counts on a labelled set, row the true group, column the one said, in the attribute's order; None
            leaves the classifier's errors in.
    """

    attribute: Attribute
    classifier: str
    faces: str = "none"
    confusion: tuple[tuple[int, ...], ...] | None = None

    def matrix(self) -> ConfusionMatrix | None:
        """The counts as the metric takes them.

        Raises:
            BadInputError: They do not fit the groups.
            TooFewSamplesError: A group without labelled pictures.
        """
        if self.confusion is None:
            return None
        return ConfusionMatrix(self.attribute.groups, np.array(self.confusion, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """How a run is scored.

    Attributes:
        read_by: One per attribute, at least one.
        denominator: What shares are shares of: ``all``, ``face`` or ``confident``.
        min_confidence: Below it a label is unknown under ``confident``, in [0, 1].
        quality: ``NAME:ARGUMENT`` of the registry's ``quality``.
        level: Coverage the intervals aim at, in (0, 1).
        prompts: ``fixed``: intervals are for these very prompts, only pictures could have been others. ``sampled``: for
            the prompts these were drawn from.
    """

    read_by: tuple[ReadBy, ...]
    denominator: str = "face"
    min_confidence: float = 0.8
    quality: tuple[str, ...] = field(default=())
    level: float = 0.95
    prompts: str = "fixed"

    def __post_init__(self) -> None:
        """Refuse choices that are not allowed."""
        check_attributes([one.attribute for one in self.read_by])
        if self.denominator not in DENOMINATORS:
            raise BadInputError(f"denominator: got {self.denominator!r}; allowed: {', '.join(DENOMINATORS)}.")
        if self.prompts not in ("fixed", "sampled"):
            raise BadInputError(f"prompts: got {self.prompts!r}; allowed: fixed, sampled.")
        if not 0 <= self.min_confidence <= 1 or not 0 < self.level < 1:
            raise BadInputError(
                f"got min_confidence {self.min_confidence}, level {self.level}; allowed: [0, 1] and (0, 1)."
            )


def check_attributes(attributes: Sequence[Attribute]) -> None:
    """Refuse none, and one that is there twice.

    Raises:
        BadInputError: What the summary says.
    """
    names = [one.name for one in attributes]
    if not names or len(set(names)) < len(names):
        raise BadInputError(f"attributes: got {', '.join(names) or 'none'}; allowed: at least one, each once.")


def write_plan(run: str | Path, plan: ScoringPlan) -> None:
    """Keep a plan in a run folder; an earlier one is replaced.

    Raises:
        LedgerError: The folder cannot be written to.
    """
    content = {
        "format": _FORMAT,
        "read_by": [
            {
                "attribute": measuring_settings(one.attribute),
                "classifier": one.classifier,
                "faces": one.faces,
                "confusion": None if one.confusion is None else [list(row) for row in one.confusion],
            }
            for one in plan.read_by
        ],
        "denominator": plan.denominator,
        "min_confidence": plan.min_confidence,
        "quality": list(plan.quality),
        "level": plan.level,
        "prompts": plan.prompts,
    }
    RunFolder(run).write(PLAN, (json.dumps(content, indent=2) + "\n").encode("ascii"))


def read_plan(run: str | Path) -> ScoringPlan:
    """The plan of a run folder.

    Raises:
        LedgerError: There is none, or it is not one.
    """
    folder = RunFolder(run)
    if PLAN not in folder.names():
        raise LedgerError(
            f"{str(run)!r} has no {PLAN}: it is not said what reads its pictures; do: evenhand score RUN --attribute "
            "NAME --classifier NAME=CLASSIFIER"
        )
    try:
        held = json.loads(folder.read(PLAN))
        if held["format"] != _FORMAT:
            raise ValueError(f"format {held['format']!r}, allowed: {_FORMAT}")
        return ScoringPlan(
            read_by=tuple(_read_by(one) for one in held["read_by"]),
            denominator=held["denominator"],
            min_confidence=held["min_confidence"],
            quality=tuple(held["quality"]),
            level=held["level"],
            prompts=held["prompts"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"{type(error).__name__}: {str(error)[:200]}"
        raise LedgerError(
            f"{str(run)!r}: {PLAN} is not a scoring plan ({why}); do: score again with --attribute and --classifier"
        ) from error


def load_confusion(path: str | Path, attribute: Attribute) -> tuple[tuple[int, ...], ...]:
    """The confusion counts of a JSON file: ``{"groups": [...], "counts": [[...], ...]}``, rows the true groups.

    A fitted head's ``classifier.json`` is read too; what it holds under ``confusion`` is taken. Rows and columns are
    brought into the attribute's order.

    Raises:
        BadInputError: No such file.
        ArtefactError: Not such counts, or of other groups.
    """
    try:
        held: Any = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise BadInputError(f"confusion {str(path)!r} cannot be read: {error.strerror}; give a JSON file.") from error
    except ValueError as error:
        raise ArtefactError(f"confusion {str(path)!r} is not JSON ({error}); measure it again.") from error
    found = _within(held, "counts")
    groups, counts = (found.get(key) if found else None for key in ("groups", "counts"))
    listed = isinstance(groups, list) and isinstance(counts, list)
    if not listed or sorted(map(str, groups or [])) != sorted(attribute.groups):
        raise ArtefactError(
            f"confusion {str(path)!r}: got the groups {groups}; allowed: groups and counts of "
            f"{', '.join(attribute.groups)}."
        )
    whole = [isinstance(row, list) and all(type(n) is int and n >= 0 for n in row) for row in counts or []]
    if not all(whole) or [len(row) for row in counts or []] != [len(attribute.groups)] * len(attribute.groups):
        raise ArtefactError(f"confusion {str(path)!r}: counts are whole numbers of 0 or more, a row for each group.")
    order = [(groups or []).index(group) for group in attribute.groups]
    return tuple(tuple((counts or [])[row][column] for column in order) for row in order)


def _within(held: Any, key: str) -> Mapping[str, Any] | None:
    """The first object, at any depth, that has the key."""
    if not isinstance(held, dict):
        return None
    if key in held:
        return held
    return next((found for one in held.values() if (found := _within(one, key)) is not None), None)


def _read_by(held: Mapping[str, Any]) -> ReadBy:
    counts = held["confusion"]
    if not all(isinstance(held[key], str) for key in ("classifier", "faces")):
        raise TypeError("classifier and faces are texts")
    size = len(held["attribute"]["groups"])
    if counts is not None and [len(row) for row in counts] != [size] * size:
        raise ValueError("confusion has not a row and a column for each group")
    return ReadBy(
        attribute_from_settings(held["attribute"]),
        held["classifier"],
        held["faces"],
        None if counts is None else tuple(tuple(int(one) for one in row) for row in counts),
    )
