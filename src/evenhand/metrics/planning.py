r"""How many pictures a prompt needs. In: a wanted half-width. Out: pictures a prompt, found by simulated audits.

The interval of RD narrows nearly as one over the root of the number of pictures, so a few rounds of simulated audits
with the interval itself find the number; nothing is assumed of its form.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float64

from evenhand.errors import BadInputError
from evenhand.metrics.distances import Distance, even_target
from evenhand.metrics.prompt_distances import mean_distance, measure_prompts
from evenhand.metrics.tally import Tally

__all__ = ["Plan", "expected_half_width", "pictures_needed"]

_TILTS = (0.0, 0.05, 0.1, 0.2, 0.4)
_MOST = 100_000
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What an audit would need.

    Attributes:
        pictures: For each prompt.
        half_width: Expected with that number, in units of RD.
    """

    pictures: int
    half_width: float


def pictures_needed(
    half_width: float,
    *,
    prompts: int,
    groups: int,
    seed: int,
    shares: Float64[np.ndarray, "prompts groups"] | None = None,
    level: float = 0.95,
    audits: int = 4,
) -> Plan:
    """Pictures a prompt for which the interval of the mean RD is, on average, no wider than wanted.

    Args:
        half_width: Wanted half of the interval's width, in units of RD (largest value 2/K).
        prompts: Number of prompts.
        groups: Number of declared groups.
        seed: Of the simulated audits, 0 or more.
        shares: Shares to expect per prompt, such as those of a small run. By default the widest of five tables, from
            even to 40 per cent more of one group.
        level: Coverage of the interval.
        audits: Simulated audits of each table in each round.

    Raises:
        BadInputError: An option that is not allowed, or more than 100000 pictures a prompt are needed.
    """
    if not 0.0 < half_width < 1.0 / groups or groups < 2 or prompts < 1 or audits < 1:
        raise BadInputError(
            f"plan: got a half-width of {half_width}, {prompts} prompts, {groups} groups and {audits} audits; allowed: "
            "a half-width above 0 and below 1/K, 1 prompt or more, 2 groups or more, 1 audit or more"
        )
    tables = _default_tables(prompts, groups) if shares is None else [shares]

    def widest(pictures: int) -> float:
        return max(expected_half_width(table, pictures, seed=seed, level=level, audits=audits) for table in tables)

    low, high, pictures = _FEWEST - 1, _MOST + 1, 100
    reached = {}
    while high - low > max(1, low // 50):
        reached[pictures] = widest(pictures)
        low, high = (pictures, high) if reached[pictures] > half_width else (low, pictures)
        guess = ceil(pictures * (reached[pictures] / half_width) ** 2)
        middle = (low + high) // 2 if high <= _MOST else low * 4
        pictures = min(max(guess if low < guess < high else middle, low + 1), high - 1)
    if high > _MOST:
        raise BadInputError(
            f"plan: a half-width of {half_width} needs more than {_MOST} pictures a prompt; allowed: fewer; ask for a "
            "wider one or more prompts"
        )
    return Plan(high, reached[high] if high in reached else widest(high))


def expected_half_width(
    shares: Float64[np.ndarray, "prompts groups"], pictures: int, *, seed: int, level: float = 0.95, audits: int = 10
) -> float:
    """Half the width of the interval of the mean RD, on average over simulated audits; prompts are fixed.

    Args:
        shares: True shares per prompt, each row sums to 1.
        pictures: For each prompt, 1 or more.
        seed: Of the audits, 0 or more.
        level: Coverage of the interval.
        audits: Number of them.

    Raises:
        BadInputError: Shares that do not sum to 1, or no pictures.
    """
    if pictures < 1 or (shares < 0).any() or not np.allclose(shares.sum(axis=1), 1.0):
        raise BadInputError(
            f"plan: got {pictures} pictures and shares that sum to {shares.sum(axis=1)[:3]}; allowed: 1 or more, sums 1"
        )
    rng = np.random.default_rng([seed])
    prompts, groups = shares.shape
    distance, widths = Distance("RD", even_target(groups)), []
    names, base = tuple(str(row) for row in range(prompts)), np.full(prompts, pictures)
    for audit in range(audits):
        counts = rng.multinomial(pictures, shares / shares.sum(axis=1, keepdims=True))
        counted = Tally("", tuple(map(str, range(groups))), "confident", names, counts, base, ({},) * prompts)
        parts = measure_prompts(counted, distance, alike=prompts, seed=audit, replicates=100)
        interval = mean_distance(parts, np.arange(prompts), sampled=False, level=level).interval
        widths.append(interval.high - interval.low)
    return float(np.mean(widths)) / 2


def _default_tables(prompts: int, groups: int) -> list[Float64[np.ndarray, "prompts groups"]]:
    even, one = np.full((prompts, groups), 1 / groups), np.eye(groups)[np.arange(prompts) % groups]
    return [(1 - tilt) * even + tilt * one for tilt in _TILTS]
