"""How a location is read. In: choices. Out: the same choices, kept in its folder as ``location.json``.

A location's folder holds run folders: ``neutral`` and, for each attribute, ``asked-ATTRIBUTE`` and
``labelled-ATTRIBUTE``.
"""

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from evenhand.errors import BadInputError, LedgerError
from evenhand.pipeline.plans import ScoringPlan, read_plan, write_plan
from evenhand.run_folder import RunFolder

__all__ = [
    "PLAN",
    "LocationPlan",
    "asked_folder",
    "labelled_folder",
    "neutral_folder",
    "read_location_plan",
    "write_location_plan",
]

PLAN = "location.json"
"""The file's name."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LocationPlan:
    """How a location is read.

    Attributes:
        scoring: What reads the pictures, as in an audit.
        margin: Smallest effect that matters, as a share of pictures, in (0, 1).
        guidance: w of drawing and of likelihoods; 1 is the model as it was trained.
        code_shape: Rows and columns of codes of the model that was opened; empty where it has none.
        labelled: Where labelled pictures came from; None where none were given.
    """

    scoring: ScoringPlan
    margin: float = 0.1
    guidance: float = 1.0
    code_shape: tuple[int, ...] = ()
    labelled: str | None = None

    def __post_init__(self) -> None:
        """Refuse choices that are not allowed."""
        if not 0 < self.margin < 1:
            raise BadInputError(f"margin: got {self.margin}; allowed: above 0 and below 1, a share of pictures.")
        if not isfinite(self.guidance):
            raise BadInputError(f"guidance: got {self.guidance}; allowed: a finite number; 1 is none.")


def neutral_folder(out: str | Path) -> Path:
    """The run of prompts that ask for nobody."""
    return Path(out) / "neutral"


def asked_folder(out: str | Path, attribute: str) -> Path:
    """The run of prompts that ask for each group."""
    return Path(out) / f"asked-{attribute}"


def labelled_folder(out: str | Path, attribute: str) -> Path:
    """Pictures labelled for an attribute, and what encoding and decoding makes of them."""
    return Path(out) / f"labelled-{attribute}"


def write_location_plan(out: str | Path, plan: LocationPlan) -> None:
    """Keep a plan; an earlier one is replaced. What reads the pictures is kept in the neutral run.

    Raises:
        LedgerError: The folder cannot be written to.
    """
    content = {
        "format": _FORMAT,
        "margin": plan.margin,
        "guidance": plan.guidance,
        "code_shape": list(plan.code_shape),
        "labelled": plan.labelled,
    }
    RunFolder(out).write(PLAN, (json.dumps(content, indent=2) + "\n").encode("ascii"))
    write_plan(neutral_folder(out), plan.scoring)


def read_location_plan(out: str | Path) -> LocationPlan:
    """The plan of a folder.

    Raises:
        LedgerError: There is none, or it is not one.
    """
    folder = RunFolder(out)
    if PLAN not in folder.names():
        raise LedgerError(f"{str(out)!r} has no {PLAN}: it is no location; make one with evenhand locate.")
    try:
        held = json.loads(folder.read(PLAN))
        if held["format"] != _FORMAT:
            raise ValueError(f"format {held['format']!r}, allowed: {_FORMAT}")
        shape = tuple(int(one) for one in held["code_shape"])
        given = held["labelled"]
        return LocationPlan(
            read_plan(neutral_folder(out)),
            float(held["margin"]),
            float(held["guidance"]),
            shape,
            None if given is None else str(given),
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInputError):
            raise
        raise LedgerError(
            f"{str(out)!r}: {PLAN} is not a plan ({type(error).__name__}: {error}); locate again."
        ) from error
