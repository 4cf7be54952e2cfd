"""One number for several trainings that differ by their seed. In: an estimate each. Out: their mean, what they span."""

from collections.abc import Sequence
from dataclasses import replace
from math import fsum

from evenhand.errors import BadInputError
from evenhand.records import Estimate

__all__ = ["over_seeds"]


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds, and an interval from the lowest lower to the highest upper end of theirs.

    Three seeds say too little about all seeds for an interval of their mean: a Student interval of three is five times
    their standard error. What is told instead is where each of these trainings may lie, which holds for each of them at
    least as often as its own interval does. One seed is itself.

    Args:
        estimates: Of the same statistic, one a seed, at least one.

    Raises:
        BadInputError: None, or of different statistics or levels.
    """
    kinds = {(one.name, one.level, one.largest) for one in estimates}
    if len(kinds) != 1:
        told = ", ".join(sorted(f"{name} at {level:g}" for name, level, _ in kinds)) or "none"
        raise BadInputError(f"estimates: got {told}; allowed: one statistic at one level, of one seed and more.")
    if len(estimates) == 1:
        return estimates[0]
    return replace(
        estimates[0],
        value=fsum(one.value for one in estimates) / len(estimates),
        low=min(one.low for one in estimates),
        high=max(one.high for one in estimates),
        n=len(estimates),
        unit="seed",
        method="mean over seeds; the interval spans those of all seeds",
        floor=fsum(one.floor for one in estimates) / len(estimates),
    )
