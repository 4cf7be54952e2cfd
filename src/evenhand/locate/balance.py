"""Equally many pictures of each group. In: labels, strata. Out: the rows of a balanced sample.

A probe of unbalanced pictures is right as often as the largest group is large; and where groups differ in another
attribute (more women among the light than among the dark), it may read that one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from evenhand.errors import BadInputError, TooFewSamplesError

__all__ = ["FEWEST", "balanced_rows"]

FEWEST = 10
"""Pictures of each group that a probe needs."""


def balanced_rows(
    labels: Sequence[str],
    *,
    groups: tuple[str, ...],
    strata: Sequence[str] | None = None,
    at_most: int | None = None,
    seed: int,
) -> Int64[np.ndarray, " chosen"]:
    """Rows with equally many pictures of each group, and of each group in each stratum; ascending.

    As many as the smallest cell holds; which ones is drawn with the seed. With the same seed, a sample of fewer is part
    of a sample of more. Rare strata are left out where that keeps more pictures: one odd picture must not cost all.

    Args:
        labels: The group of each picture.
        groups: All groups.
        strata: What else each picture shows; None balances groups alone.
        at_most: Pictures of a group, over all strata; None takes all there are.
        seed: Of the draw, 0 or more.

    Raises:
        BadInputError: Fewer than two groups, a label that is none of them, lengths that differ, or a negative seed.
        TooFewSamplesError: Fewer than ``FEWEST`` pictures of a group are left.
    """
    if seed < 0:
        raise BadInputError(f"seed: got {seed}; allowed: 0 and more.")
    if len(groups) < 2 or len(set(groups)) != len(groups):
        raise BadInputError(f"groups: got {groups}; allowed: two and more, each once.")
    unknown = sorted(set(labels) - set(groups))
    if unknown:
        raise BadInputError(f"labels: got {', '.join(map(repr, unknown[:5]))}; allowed: {', '.join(groups)}.")
    if strata is not None and len(strata) != len(labels):
        raise BadInputError(f"strata: got {len(strata)} for {len(labels)} labels; give one each.")
    parts = [""] * len(labels) if strata is None else list(strata)
    kinds = sorted(set(parts)) or [""]
    cells: dict[tuple[str, str], list[int]] = {(group, kind): [] for kind in kinds for group in groups}
    for row, (group, kind) in enumerate(zip(labels, parts, strict=True)):
        cells[group, kind].append(row)
    least = {kind: min(len(cells[group, kind]) for group in groups) for kind in kinds}
    common = sorted(kinds, key=lambda kind: (-least[kind], kind))
    several = max(range(1, len(common) + 1), key=lambda n: (n * least[common[n - 1]], -n))
    if least[common[several - 1]]:
        kinds = sorted(common[:several])
        cells = {cell: rows for cell, rows in cells.items() if cell[1] in kinds}
    smallest = min(cells, key=lambda cell: len(cells[cell]))
    share = len(cells[smallest])
    if at_most is not None:
        share = min(share, at_most // len(kinds))
    if share * len(kinds) < FEWEST:
        where = f" in {smallest[1]!r}" if strata is not None else ""
        raise TooFewSamplesError(
            f"labelled pictures: {len(cells[smallest])} of {smallest[0]!r}{where}, so {share * len(kinds)} of each "
            f"group; allowed: {FEWEST} and more. Add pictures{', or balance groups alone' if where else ''}."
        )
    drawn_by = np.random.default_rng([seed])
    chosen = [drawn_by.permutation(np.array(rows))[:share] for rows in cells.values()]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
