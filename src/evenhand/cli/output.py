"""What goes where. In: results and work. Out: stdout holds the answer and nothing else, stderr everything else."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evenhand.records import Comparison, Scored
from evenhand.report.numbers import estimate_as_dict

__all__ = ["comparison_as_dict", "notes", "print_json", "progress_bar", "scored_as_dict", "work_silently"]

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
