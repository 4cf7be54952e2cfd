"""Which words a gate listens to, and how finely. In: token weights and a rule. Out: the entries that may open it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Gating", "gating_entries"]


@dataclass(frozen=True, slots=True)
class Gating:
    """When a row is looked at where the next token is not simply the best one (sampling, beams).

    Attributes:
        mass: epsilon; the listed words' probability that opens the gate.
        mass_kept: The same once the text names a person by a listed or neutral word: an entity that was spoken of is
            followed with a finer ear (hysteresis), so that a rare pronoun does not undo it.
        measure_kl: Whether the trace says how many nats each step spent; costs one pass over the row's vocabulary.
    """

    mass: float = 0.01
    mass_kept: float = 0.001
    measure_kl: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.mass_kept <= self.mass < 1:
            raise BadInputError(
                f"gating: got mass {self.mass} and mass_kept {self.mass_kept}; allowed: 0 < mass_kept <= mass < 1."
            )


def gating_entries(weights: TokenWeights, rule: Rule) -> Int[Tensor, "states tokens"]:
    """The weights' entries with -1 wherever the gate must stay closed."""
    open_here = (weights.weight >= rule.threshold) & (weights.entry >= 0)
    if rule.replaces:
        # A word that must be replaced and has no stand-in in this tokenizer is left alone.
        usable = (weights.counterparts >= 0).any(dim=1) | (weights.neutral_forms >= 0).any(dim=1)
        open_here = open_here & usable[weights.entry.long().clamp(min=0)]
    return torch.where(open_here, weights.entry, -1).to(torch.int16)
