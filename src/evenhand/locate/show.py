"""Pictures for the page. In: run folders and what is said of their pictures. Out: a few small pictures of each kind.

First those that changed: codes that stand for one group and a picture that shows another. Then some that did not.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evenhand.ledger import Ledger
from evenhand.located import Example
from evenhand.pictures import decode_picture, preview
from evenhand.pipeline.labels import PREVIEW_SIDE
from evenhand.records import Label

__all__ = ["Shown", "pick", "show"]

_CHANGED, _SAME = 8, 4

Shown = tuple[str, str, str, tuple[tuple[str, int], ...]]
"""Title, what was said before, what is said of the picture, and which samples are shown."""


def pick(
    before: Mapping[tuple[str, int], str],
    after: Sequence[Label],
    titles: Mapping[str, str],
    *,
    beside: Mapping[tuple[str, int], tuple[str, int]] | None = None,
) -> list[Shown]:
    """Which pictures are shown: at most one of each prompt, group and kind, changed ones first.

    Args:
        before: Sample -> what its codes stand for, what was asked for, or its label.
        after: What the pictures show.
        titles: Prompt id -> name.
        beside: Sample -> another sample, shown in front of it.
    """
    changed: list[Shown] = []
    same: list[Shown] = []
    seen: set[tuple[str, str, str]] = set()
    for label in after:
        key = (label.prompt_id, label.k)
        if label.group is None or key not in before:
            continue
        kind = (label.prompt_id, before[key], label.group)
        if kind in seen:
            continue
        seen.add(kind)
        samples = (beside[key], key) if beside and key in beside else (key,)
        row = (titles.get(label.prompt_id, ""), before[key], label.group, samples)
        (changed if before[key] != label.group else same).append(row)
    return [*_spread(changed, _CHANGED), *_spread(same, _SAME)]


def show(kind: str, folder: str | Path, rows: Iterable[Shown]) -> list[Example]:
    """The examples with their pictures, as small JPEGs.

    Raises:
        CorruptLedgerError: A picture is not what was written.
    """
    rows = list(rows)
    wanted = {key for *_, keys in rows for key in keys}
    found = {
        (one.prompt_id, one.k): preview(decode_picture(one.image), side=PREVIEW_SIDE, quality=80)
        for one in (Ledger.open(folder).drawn() if wanted else ())
        if (one.prompt_id, one.k) in wanted and one.image is not None
    }
    return [
        Example(kind, title, before, after, tuple(found[key] for key in keys)) for title, before, after, keys in rows
    ]


def _spread(rows: Sequence[Shown], most: int) -> list[Shown]:
    """Up to so many of them, from every part of the list, every pair of groups in turn."""
    by_pair: dict[tuple[str, str], list[Shown]] = {}
    for row in rows:
        by_pair.setdefault((row[1], row[2]), []).append(row)
    found: list[Shown] = []
    each = -(-most // max(len(by_pair), 1))
    for own in by_pair.values():
        step = max(1, len(own) // each)
        found += own[::step][:each]
    return found[:most]
