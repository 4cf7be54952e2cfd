r"""How much of a caption is still the plain caption. In: pairs of captions. Out: a share per pair, and its mean.

Needs no references and no other program: it says how much a mitigation rewrote, not whether that was good.
"""

import re
from collections.abc import Sequence

import numpy as np

from evenhand.errors import BadInputError
from evenhand.metrics.draws import bootstrap_method, drawn_estimate, resample_sums
from evenhand.records import Estimate

__all__ = ["caption_similarity", "mean_similarity"]

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def caption_similarity(plain: str, other: str) -> float:
    r"""One less the share of words that must be put in, taken out or replaced to get from one caption to the other.

    .. math:: 1 - \frac{d(u, v)}{\max(|u|, |v|)}

    with :math:`d` Levenshtein's distance over words, case and punctuation left out. Range 0 (no word stands in its
    place) to 1 (the same words in the same order); two captions without words are the same. Symmetric.
    """
    first, second = ([word.lower() for word in _WORD.findall(text)] for text in (plain, other))
    longest = max(len(first), len(second))
    return 1.0 if longest == 0 else 1.0 - _distance(first, second) / longest


def mean_similarity(
    plain: Sequence[str],
    other: Sequence[str],
    unit: Sequence[str],
    *,
    unit_name: str,
    seed: int,
    level: float = 0.95,
    replicates: int = 4000,
) -> Estimate:
    """The mean of :func:`caption_similarity` over pairs, named ``similarity``; 1 where nothing changed.

    Raises:
        BadInputError: Lengths differ, or an option is not one that is allowed.
        TooFewSamplesError: Fewer than two units.
    """
    if len(plain) != len(other):
        raise BadInputError(f"captions: got {len(plain)} plain and {len(other)} others; give pairs")
    rows = np.array([[caption_similarity(a, b), 1.0] for a, b in zip(plain, other, strict=True)]).reshape(-1, 2)
    sums = resample_sums(rows, unit, seed=seed, replicates=replicates)
    return drawn_estimate(
        "similarity",
        float(sums.value[0] / sums.value[1]),
        np.minimum(1.0, sums.draws[:, 0] / sums.draws[:, 1]),
        level=level,
        n=sums.n,
        unit_name=unit_name,
        method=bootstrap_method(sums.n, unit_name, replicates),
        largest=1.0,
        floor=1.0,
    )


def _distance(first: Sequence[str], second: Sequence[str]) -> int:
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, counterpart in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(diagonal + (word != counterpart), row[j] + 1, row[j - 1] + 1)
    return row[-1]
