"""Groups without looking at pictures. In: a prompt's id and a seed. Out: the group asked for, always the same.

A seed of the run that was named, sample k of a prompt, has the k-th group of the prompt's own sequence: the first n
pictures of a prompt then hold each group as often as n and the target allow. Any other seed draws its group from the
target by itself.
"""

from collections.abc import Sequence
from hashlib import sha256
from json import dumps

import numpy as np

from evenhand.ledger import seed_of
from evenhand.mitigate.sampling.quota import drawn_group, next_group

__all__ = ["LONGEST", "PlannedGroups", "random_number"]

LONGEST = 10_000
"""Samples of a prompt whose seeds are known."""

_FIRST = 64


def random_number(prompt_id: str, seed: int) -> float:
    """A number in [0, 1) for a prompt and seed, unrelated to what a generator of that seed gives."""
    address = dumps(["group", prompt_id, seed], separators=(",", ":")).encode("ascii")
    return int.from_bytes(sha256(address).digest()[:6], "big") / 2**48


class PlannedGroups:
    """The sequence of groups of each prompt.

    Args:
        target: Wanted share of each group, of sum 1.
        run: Name that the seeds are made from (``ledger.seed_of``), or None.
    """

    def __init__(self, target: Sequence[float], *, run: str | None) -> None:
        self._target, self._run = tuple(target), run
        self._numbers: dict[str, dict[int, int]] = {}
        self._sequences: dict[str, list[int]] = {}

    def group(self, prompt_id: str, seed: int) -> int:
        """The place of the group asked for."""
        if self._run is None:
            return self._drawn(prompt_id, seed)
        k = self._number(self._run, prompt_id, seed)
        return self._drawn(prompt_id, seed) if k is None else self._sequence(prompt_id, k + 1)[k]

    def _number(self, run: str, prompt_id: str, seed: int) -> int | None:
        """Which sample of the prompt has this seed; None where none of the first ``LONGEST`` has."""
        known = self._numbers.setdefault(prompt_id, {})
        while seed not in known and len(known) < LONGEST:
            further = range(len(known), min(max(2 * len(known), _FIRST), LONGEST))
            known |= {seed_of(run, prompt_id, k): k for k in further}
        return known.get(seed)

    def _drawn(self, prompt_id: str, seed: int) -> int:
        return drawn_group(self._target, draw=random_number(prompt_id, seed))

    def _sequence(self, prompt_id: str, length: int) -> list[int]:
        """At least so many groups of a prompt."""
        held = self._sequences.setdefault(prompt_id, [])
        size = len(self._target)
        counts, nothing = np.bincount(held, minlength=size), np.zeros((size, size), dtype=np.int64)
        for k in range(len(held), length):
            drawn = random_number(prompt_id, seed_of(str(self._run), prompt_id, k))
            held.append(next_group(nothing, counts, self._target, draw=drawn))
            counts[held[-1]] += 1
        return held
