"""Tuples as a trainer takes them. In: a checked set, a family. Out: rows of ids, codes and reference; batches.

Everything is one tuple: its prefix, its K pictures, its reference. The groups' axis is there from the first row to the
loss, so that pictures of different prompts are never compared.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.tuples import TupleSet
from evenhand.models.unified.family import Family

__all__ = ["Batch", "Row", "TupleRows", "batched", "happens", "pictures_looked_at"]


class Row(TypedDict):
    """One tuple: its index in the set, ids that ask for a picture of nobody, codes, reference in nats."""

    index: int
    prefix: tuple[int, ...]
    mixed: tuple[tuple[int, ...], ...]
    codes: Int[Tensor, "groups codes"]
    reference: Float[Tensor, " groups"]


class Batch(TypedDict):
    """Tuples together."""

    indices: list[int]
    prefixes: list[tuple[int, ...]]
    mixed: list[tuple[tuple[int, ...], ...]]
    codes: Int[Tensor, "tuples groups codes"]
    reference: Float[Tensor, "tuples groups"]


class TupleRows(Dataset[Row]):
    """A set of tuples as rows.

    Args:
        tuples: Checked against the model.
        family: Makes the prefixes; equal prompts are tokenised once.
        reference: Log-probability of each picture under the prompt that asks for its group; zeros where it is not used.
    """

    def __init__(
        self, tuples: TupleSet, family: Family, reference: Float[Tensor, "tuples groups"] | None = None
    ) -> None:
        known = {prompt: family.prefix(prompt) for prompt in dict.fromkeys(one.prompt for one in tuples.tuples)}
        asking = {
            text: family.prefix(text) for text in dict.fromkeys(t for one in tuples.tuples for t in one.asked if t)
        }
        self._prefixes = [known[one.prompt] for one in tuples.tuples]
        self._mixed = [tuple(asking[text] for text in one.asked if text) for one in tuples.tuples]
        self._codes = [one.codes for one in tuples.tuples]
        if reference is None:
            reference = torch.zeros(len(self._codes), len(tuples.groups))
        if reference.shape != (len(self._codes), len(tuples.groups)):
            raise BadInputError(
                f"reference: got shape {tuple(reference.shape)}; allowed: ({len(self._codes)}, {len(tuples.groups)}), "
                "one number for each picture."
            )
        self._reference = reference

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: int) -> Row:
        return {
            "index": index,
            "prefix": self._prefixes[index],
            "mixed": self._mixed[index],
            "codes": torch.from_numpy(self._codes[index]).long(),
            "reference": self._reference[index],
        }


def batched(rows: Sequence[Row]) -> Batch:
    """Rows as one batch."""
    return {
        "indices": [row["index"] for row in rows],
        "prefixes": [row["prefix"] for row in rows],
        "mixed": [row["mixed"] for row in rows],
        "codes": torch.stack([row["codes"] for row in rows]),
        "reference": torch.stack([row["reference"] for row in rows]),
    }


def pictures_looked_at(number: int, groups: int, *, seed: int, step: int, index: int) -> tuple[int, ...]:
    """Which pictures of a tuple the mixture's likelihood is taken of: each as likely as the others, none twice.

    A pure function, as ``happens``.
    """
    drawn = _drawn("pictures", seed, step, index)
    chosen = torch.multinomial(torch.full((groups,), 1 / groups), min(number, groups), generator=drawn)
    return tuple(chosen.tolist())


def happens(share: float, *, what: str, seed: int, step: int, index: int) -> bool:
    """Whether something is done with a tuple at a step: a pure function, the same in every process and after a resume.

    Args:
        share: Of tuples it is done with, in [0, 1].
        what: Things of other names happen independently.
        seed: Of the run.
        step: Of the optimizer.
        index: Of the tuple in its set.
    """
    return bool(torch.rand((), generator=_drawn(what, seed, step, index)) < share)


def _drawn(what: str, seed: int, step: int, index: int) -> torch.Generator:
    named = sha256(f"{what}/{seed}/{step}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(named[:7], "big"))
