r"""Which group is asked for next. In: what was asked and shown so far, a target, a random number. Out: a group.

With c the pictures shown of each group, t the target and :math:`\hat a_g` the shares of what is shown where g is asked
for, the next picture is expected to bring the counts nearest to the target, in the mean square, when it is asked from

.. math:: \arg\max_g \; \hat a_g \cdot d, \qquad d_h = t_h (n + 1) - c_h

So a group that is not obeyed is asked for more often, and one that is never obeyed takes nothing from the others. The
shares shown converge to those nearest to the target among all that the model can be made to show: this is the method
of Frank and Wolfe (1956, *Naval Research Logistics Quarterly* 3) with a step of 1/n. Pictures on their way count as
what they are expected to show. Pictures in which no group is read count as nothing; as often as that happens the next
group is drawn from the target itself, so that a group that cannot be read is not asked for ever.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from evenhand.errors import BadInputError

__all__ = ["PRIOR", "drawn_group", "followed", "next_group"]

PRIOR = 2.0
"""Pictures that are taken to have shown what was asked for, before any was seen."""

_ALIKE = 1e-9


def followed(seen: Int64[np.ndarray, "asked shown"]) -> Float64[np.ndarray, "asked shown"]:
    r"""What is expected to be shown where each group is asked for; rows sum to 1.

    .. math:: \hat a_{gh} = \frac{seen_{gh} + 2 [g = h]}{\sum_h seen_{gh} + 2}

    Args:
        seen: Pictures by the group asked for and the group shown.
    """
    counted = seen + PRIOR * np.eye(len(seen))
    shares: Float64[np.ndarray, "asked shown"] = counted / counted.sum(axis=1, keepdims=True)
    return shares


def drawn_group(target: Sequence[float], *, draw: float) -> int:
    """The place of a group drawn from the target; one whose target is 0 is never drawn.

    Args:
        target: Wanted share of each group, 0 or more, of sum 1.
        draw: In [0, 1).
    """
    ends = np.cumsum(target)
    place = int(np.searchsorted(ends, draw * ends[-1], side="right"))
    return min(place, int(np.flatnonzero(target)[-1]))


def next_group(
    seen: Int64[np.ndarray, "asked shown"],
    pending: Int64[np.ndarray, " asked"],
    target: Sequence[float],
    *,
    unread: int = 0,
    draw: float,
) -> int:
    """The place of the group to ask for.

    A group whose target is 0 is never asked for. Where nothing was seen, the groups follow each other so that every
    count is within 1 of its target for two groups, and every block of pictures is even for an even target.

    Args:
        seen: Pictures of one prompt by the group asked for and the group shown; those without a verdict are not in it.
        pending: Pictures asked for and not read yet, by group.
        target: Wanted share of each group, 0 or more, of sum 1.
        unread: Pictures in which no group was read, or that failed.
        draw: In [0, 1); decides whether the group is drawn, and chooses among groups that are equally wanted.

    Raises:
        BadInputError: A random number out of range.
    """
    if not 0 <= draw < 1:
        raise BadInputError(f"draw: got {draw}; allowed: at least 0 and below 1.")
    blind = unread / (unread + seen.sum() + PRIOR)
    if draw < blind:
        return drawn_group(target, draw=draw / blind)
    draw = (draw - blind) / (1 - blind)
    expected = followed(seen)
    wanted = np.asarray(target, dtype=np.float64)
    counts = seen.sum(axis=0) + pending @ expected
    lacking = wanted * (counts.sum() + 1) - counts
    gain = np.where(wanted > 0, expected @ lacking, -np.inf)
    best = gain.max()
    alike = np.flatnonzero(gain >= best - _ALIKE * (1 + abs(best)))
    return int(alike[min(int(draw * len(alike)), len(alike) - 1)])
