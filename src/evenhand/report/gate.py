"""Whether a run is within bounds. In: estimates and the largest values allowed. Out: a verdict, judged on intervals.

A bound is *passed* where the whole interval lies at or below it, *failed* where the whole interval lies above it, and
*undecided* where it lies inside: more pictures are needed. Where the estimate is missing or not a number it is
*undefined*. Over all bounds the first of these holds:

1. ``fail`` (exit code 1): a bound is failed.
2. ``undefined`` (4): a bound is undefined.
3. ``caveated`` (3): a bound is undecided, or all are passed and the run has caveats.
4. ``pass`` (0): all bounds are passed and there is no caveat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Literal

from evenhand.errors import BadInputError
from evenhand.records import Estimate, Scored, ScoredPictures

__all__ = ["EXIT_CODES", "Bound", "Finding", "Outcome", "Verdict", "judge"]

Judgement = Literal["pass", "fail", "undecided", "undefined"]
"""Of one bound."""
Outcome = Literal["pass", "fail", "caveated", "undefined"]
"""Of a run."""

EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "caveated": 3, "undefined": 4}
"""What the command line exits with; 2 is wrong usage."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest value that is allowed.

    Attributes:
        attribute: Attribute or product, for example ``gender``.
        name: Of an estimate: ``RD``, ``TV``, ``RD_corrected``, ``MR_C`` ...; ``gap`` and the like are looked up among
            the answers where the pictures have no estimate of this name.
        largest: A finite number; every run would pass at infinity.

    Raises:
        BadInputError: ``largest`` is not finite.
    """

    attribute: str
    name: str
    largest: float

    def __post_init__(self) -> None:
        if not isfinite(self.largest):
            raise BadInputError(
                f"bound of {self.attribute}:{self.name}: got {self.largest}; allowed: a finite number, for example 0.3."
            )


@dataclass(frozen=True, slots=True)
class Finding:
    """One bound and what became of it; ``estimate`` is None where the run has none of this name."""

    bound: Bound
    outcome: Judgement
    estimate: Estimate | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All bounds of a run.

    Attributes:
        outcome: As the module says.
        findings: One per bound, same order.
        caveats: Of the run.
    """

    outcome: Outcome
    findings: tuple[Finding, ...]
    caveats: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Of the command line."""
        return EXIT_CODES[self.outcome]


def judge(run: Scored | ScoredPictures, bounds: Sequence[Bound]) -> Verdict:
    """Hold a run's intervals against bounds.

    Args:
        run: Scored captions or pictures.
        bounds: At least one; a run without bounds would always pass.

    Raises:
        BadInputError: No bounds.
    """
    if not bounds:
        raise BadInputError("a gate needs bounds, got none; give at least one, for example gender:RD<=0.3.")
    known = _estimates(run)
    findings = tuple(_finding(bound, known.get((bound.attribute, bound.name))) for bound in bounds)
    caveats = run.caveats if isinstance(run, ScoredPictures) else ()
    return Verdict(_overall(findings, caveats), findings, tuple(caveats))


def _estimates(run: Scored | ScoredPictures) -> dict[tuple[str, str], Estimate]:
    if isinstance(run, Scored):
        return {(run.attribute, estimate.name): estimate for estimate in run.estimates}
    found = {(name, one.name): one for name, answers in run.answers.items() for one in answers.estimates}
    return found | {(name, one.name): one for name, estimates in run.estimates.items() for one in estimates}


def _finding(bound: Bound, estimate: Estimate | None) -> Finding:
    if estimate is None or any(isnan(value) for value in (estimate.value, estimate.low, estimate.high)):
        return Finding(bound, "undefined", estimate)
    if estimate.high <= bound.largest:
        return Finding(bound, "pass", estimate)
    return Finding(bound, "fail" if estimate.low > bound.largest else "undecided", estimate)


def _overall(findings: Sequence[Finding], caveats: Sequence[str]) -> Outcome:
    outcomes = {finding.outcome for finding in findings}
    if "fail" in outcomes:
        return "fail"
    if "undefined" in outcomes:
        return "undefined"
    return "caveated" if "undecided" in outcomes or caveats else "pass"
