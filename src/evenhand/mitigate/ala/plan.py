"""What a replacing rule does, worked out beforehand. In: a rule, weights, shares per token. Out: two tables.

Under greedy decoding, where what a text carries follows from the drafted token alone, a rule's answer depends on the
drafted word and on what the picture claims, and on nothing else. Then a step that acts is two look-ups and one sum
of exponentials. The tables are filled by the rule's own ``replacement``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.mitigate.ala.kernel import log_moved
from evenhand.mitigate.ala.rules import Rule
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Plan", "plan_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Tables over entries and aims; an aim is a claimed group by index, or, last, no claim. The last entry is none.

    Attributes:
        moves: Nats to add to the drafted word (-0.0 for none), and the log of the share of its probability that moves.
        targets: Vocabulary ids of the tokens that may take its place; the likeliest does.
        shares: What the text carries with the word.
    """

    moves: Float[Tensor, "entries aims 2"]
    targets: Int[Tensor, "entries aims forms"]
    shares: Float[Tensor, "entries groups"]

    def to(self, device: torch.device) -> "Plan":
        """The same tables on a device."""
        return Plan(self.moves.to(device), self.targets.to(device), self.shares.to(device))


def plan_of(rule: Rule, weights: TokenWeights, by_token: Float[Tensor, "states tokens groups"] | None) -> Plan | None:
    """The plan of a rule, or None where a step must be looked at as a whole."""
    if by_token is None or not rule.replaces:
        return None
    entries, groups = len(weights.words), len(weights.groups)
    shares = torch.full((entries, groups), 1 / groups)
    placed = weights.entry >= 0
    shares[weights.entry[placed].long()] = by_token[placed].float()
    if not torch.equal(shares[weights.entry[placed].long()], by_token[placed].float()):
        return None  # the same word carries more in one state than in another
    aims = torch.arange(groups + 1).repeat(entries)
    entry = torch.arange(entries).repeat_interleave(groups + 1)[:, None]
    found = rule.replacement(weights, entry, shares[entry], aims.clamp(max=groups - 1), aims < groups)
    columns = found.targets[:, 0]
    first = columns.argmax(dim=1, keepdim=True)  # -1 stands for none; any real one takes its place
    some = columns.gather(1, first)
    nats = torch.where(some[:, 0] >= 0, found.nats[:, 0], 0.0)
    targets = weights.token_ids[torch.where(columns >= 0, columns, some.clamp(min=0))]
    moves = torch.stack([-nats, log_moved(nats)], dim=1).reshape(entries, groups + 1, 2)
    nothing = torch.tensor([-0.0, -torch.inf]).expand(1, groups + 1, 2)
    targets = targets.reshape(entries, groups + 1, -1)
    return Plan(
        moves=torch.cat([moves, nothing]),
        targets=torch.cat([targets, torch.zeros_like(targets[:1])]),
        shares=torch.cat([shares, torch.full((1, groups), 1 / groups)]),
    )
