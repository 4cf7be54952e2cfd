"""What goes where. In: results and work. Out: stdout holds the answer and nothing else, stderr everything else."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evenhand.records import Comparison, PictureComparison, Scored, ScoredPictures
from evenhand.report.numbers import estimate_as_dict

if TYPE_CHECKING:
    from evenhand.report.gate import Verdict

__all__ = [
    "comparison_as_dict",
    "notes",
    "picture_comparison_as_dict",
    "pictures_as_dict",
    "print_json",
    "progress_bar",
    "scored_as_dict",
    "verdict_as_dict",
    "work_silently",
]

notes = Console(stderr=True)
"""Where progress and remarks go."""


@contextmanager
def work_silently() -> Iterator[None]:
    """Send whatever libraries print on stdout to stderr, native code included, until the block ends."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with time left on stderr; call what is yielded with (done, wanted)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=notes)
    task = progress.add_task(what, total=None)

    def show(done: int, wanted: int) -> None:
        progress.start()  # not before the first answer can be waited for: an error before it stands alone
        progress.update(task, completed=done, total=wanted)

    try:
        yield show
    finally:
        progress.stop()


def print_json(value: object) -> None:
    """One JSON object on one line of stdout; NaN was made null before."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def scored_as_dict(scored: Scored) -> dict[str, object]:
    """``run``, ``estimates`` and ``counts``: the contract scripts rely on."""
    return {
        "run": scored.run,
        "estimates": [estimate_as_dict(estimate) for estimate in scored.estimates],
        "counts": dict(scored.counts),
    }


def comparison_as_dict(comparison: Comparison) -> dict[str, object]:
    """A comparison with every word change."""
    return {
        "baseline": comparison.baseline,
        "other": comparison.other,
        "estimates": [estimate_as_dict(estimate) for estimate in comparison.estimates],
        "changes": [
            {"prompt": c.prompt_id, "before": c.before, "after": c.after, "reached": c.reached}
            for c in comparison.changes
        ],
        "counts": dict(comparison.counts),
    }


def pictures_as_dict(scored: ScoredPictures) -> dict[str, Any]:
    """A run of drawn pictures as it stands in ``report.json``."""
    from evenhand.report.json_values import report_as_dict

    values: dict[str, Any] = report_as_dict([], [], title="", pictures=[scored])
    found: dict[str, Any] = values["pictures"][0]
    return found


def picture_comparison_as_dict(pair: PictureComparison, runs: tuple[ScoredPictures, ScoredPictures]) -> dict[str, Any]:
    """A comparison of drawn pictures as it stands in ``report.json``."""
    from evenhand.report.json_values import report_as_dict

    values: dict[str, Any] = report_as_dict([], [], title="", pictures=runs, picture_comparisons=[pair])
    found: dict[str, Any] = values["picture_comparisons"][0]
    return found


def verdict_as_dict(verdict: "Verdict") -> dict[str, object]:
    """``outcome``, ``exit_code``, ``findings`` and ``caveats``: the contract scripts rely on."""
    return {
        "outcome": verdict.outcome,
        "exit_code": verdict.exit_code,
        "findings": [
            {
                "attribute": finding.bound.attribute,
                "name": finding.bound.name,
                "at_most": finding.bound.largest,
                "outcome": finding.outcome,
                "estimate": None if finding.estimate is None else estimate_as_dict(finding.estimate),
            }
            for finding in verdict.findings
        ],
        "caveats": list(verdict.caveats),
    }
