r"""Misclassification as the papers print it. In: declared and said group per picture. Out: ``a ± b`` in per cent.

To set a run beside published tables only. SFID and ALA draw pictures with replacement, compute the rates of each draw
in per cent, round them to two decimals and print the middle of the 2.5th and 97.5th percentile and half the distance
between them, which is neither the value on the data nor a standard deviation. Pictures are drawn one by one, also
where several show one scene; :func:`evenhand.metrics.misclassification.misclassification` is what reports use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.metrics.confusion import confusion

__all__ = ["PrintedRate", "printed_misclassification", "printed_rate"]


@dataclass(frozen=True, slots=True)
class PrintedRate:
    """One ``a ± b`` of a table.

    Attributes:
        name: For example ``MR_C``.
        midpoint: Middle of the interval, per cent.
        half_width: Half its width, percentage points.
    """

    name: str
    midpoint: float
    half_width: float


def printed_rate(name: str, draws: Float64[np.ndarray, " draws"]) -> PrintedRate:
    """The middle and the half width of the interval from the 2.5th to the 97.5th percentile of the draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return PrintedRate(name, float(low + high) / 2, float(high - low) / 2)


def printed_misclassification(
    truth: Sequence[str],
    said: Sequence[str],
    *,
    groups: tuple[str, str],
    seed: int,
    draws: int = 100,
    size: int = 1000,
) -> tuple[PrintedRate, ...]:
    r"""``MR_<first group>``, ``MR_<second group>``, ``MR_O`` and ``MR_C`` as ``a ± b``, in per cent.

    .. math:: MR_C = \sqrt{MR_O^2 + (MR_{second} - MR_{first})^2}

    As in the released code, MR_C is computed from rates before rounding, and a group without a picture in a draw has
    rate 0 there.

    Args:
        truth: Declared group per picture.
        said: Group the caption names, or ``both``, ``neutral``, ``none``, which are never errors.
        groups: The two declared groups, in order.
        seed: Of the draws, 0 or more.
        draws: Number of draws: 100 in SFID, 1000 in ALA.
        size: Pictures per draw: 1000 in SFID, the smaller of 10,000 and all in ALA.

    Raises:
        BadInputError: Lengths differ, a group or an answer is not one that is allowed, or an option below 1 (seed: 0).
        TooFewSamplesError: No pictures.
    """
    table = confusion(truth, said, groups=groups)
    if len(groups) != 2 or min(draws, size) < 1 or seed < 0:
        raise BadInputError(
            f"printed rates: got {len(groups)} groups, {draws} draws of {size}, seed {seed}; allowed: two groups, 1 or "
            "more, seed 0 or more"
        )
    if not truth:
        raise TooFewSamplesError("printed rates: got 0 pictures, at least 1 is needed; add pictures")
    first, second = groups
    wrong = {first: table[first][second], second: table[second][first]}
    members = {group: sum(table[group].values()) for group in groups}
    # A draw of pictures with replacement, counted by kind.
    kinds = np.array([kind for group in groups for kind in (wrong[group], members[group] - wrong[group])])
    counts = np.random.default_rng([seed]).multinomial(size, kinds / kinds.sum(), size=draws).astype(np.float64)
    first_of, second_of = counts[:, :2].sum(axis=1), counts[:, 2:].sum(axis=1)
    rate_first = counts[:, 0] / np.maximum(first_of, 1.0)
    rate_second = counts[:, 2] / np.maximum(second_of, 1.0)
    overall = (counts[:, 0] + counts[:, 2]) / size
    composite = np.hypot(overall, rate_second - rate_first)
    columns = {f"MR_{first}": rate_first, f"MR_{second}": rate_second, "MR_O": overall, "MR_C": composite}
    return tuple(printed_rate(name, np.round(100 * column, 2)) for name, column in columns.items())
