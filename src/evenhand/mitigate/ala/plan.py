"""What a replacing rule does, worked out beforehand. In: a rule, weights, shares per token. Out: tables.

Under greedy decoding one word is drafted, and which tokens may take its place depends on the word and on what the
picture claims alone. Where what a text carries follows from the drafted word too, so does by how much it falls: then
a step that acts is two look-ups and one sum of exponentials. The tables are filled by the rule itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.mitigate.ala.kernel import log_moved
from evenhand.mitigate.ala.rules import ReplacingRule, Rule
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Plan", "moves_of", "plan_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Tables over entries and aims; an aim is a claimed group by index, or, last, no claim. The last entry is none.

    Attributes:
        rule: Says by how much a word falls, where that depends on the text.
        targets: Vocabulary ids of the tokens that may take a word's place; the likeliest does.
        possible: 1 where there is any, else 0.
        group: Index of the group a word carries; 0 for none.
        moves: Nats to add to the drafted word (-0.0 for none), and the log of the share of its probability that
            moves; None where they depend on the text.
        shares: What the text carries with the word; None where it depends on the text.
    """

    rule: ReplacingRule
    targets: Int[Tensor, "entries aims forms"]
    possible: Float[Tensor, "entries aims"]
    group: Int[Tensor, " entries"]
    moves: Float[Tensor, "entries aims 2"] | None
    shares: Float[Tensor, "entries groups"] | None

    def to(self, device: torch.device) -> "Plan":
        """The same tables on a device."""
        targets, possible, group = self.targets.to(device), self.possible.to(device), self.group.to(device)
        moves, shares = (None if table is None else table.to(device) for table in (self.moves, self.shares))
        return Plan(self.rule, targets, possible, group, moves, shares)


def moves_of(fall: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows 2"]:
    """What ``kernel.hand_over`` takes, from the nats by which words fall."""
    return torch.stack([-fall, log_moved(fall)], dim=-1)


def plan_of(rule: Rule, weights: TokenWeights, by_token: Float[Tensor, "states tokens groups"] | None) -> Plan | None:
    """The plan of a rule, or None for one that replaces nothing."""
    if not isinstance(rule, ReplacingRule) or not rule.replaces:
        return None
    entries, groups = len(weights.words), len(weights.groups)
    aims = torch.arange(groups + 1).repeat(entries)
    wanted, claimed = aims.clamp(max=groups - 1), aims < groups
    entry = torch.arange(entries).repeat_interleave(groups + 1)[:, None]
    group = _groups(weights)
    columns = rule.targets(weights, entry, group[entry], wanted, claimed)[:, 0]
    some = columns.amax(dim=1, keepdim=True)  # -1 stands for none; any real one may fill its place
    targets = weights.token_ids[torch.where(columns >= 0, columns, some.clamp(min=0))]
    targets = _with_none(targets.reshape(entries, groups + 1, -1))
    possible = _with_none((some >= 0).float().reshape(entries, groups + 1))
    shares, group = _shares(weights, by_token), _with_none(group.clamp(min=0))
    if shares is None:
        return Plan(rule, targets, possible, group, None, None)
    fall = rule.fall(shares[entry], wanted, claimed).reshape(entries, groups + 1)
    moves = moves_of(_with_none(fall) * possible)
    return Plan(rule, targets, possible, group, moves, _with_none(shares) + _even(shares))


def _groups(weights: TokenWeights) -> Int[Tensor, " entries"]:
    """The group of each entry's word."""
    groups = torch.full((len(weights.words),), -1, dtype=torch.int64)
    placed = weights.entry >= 0
    groups[weights.entry[placed].long()] = weights.group[placed].long()
    return groups


def _shares(weights: TokenWeights, by_token: Tensor | None) -> Float[Tensor, "entries groups"] | None:
    """What each entry carries; None where that depends on the text, or on the state its word is met in."""
    if by_token is None:
        return None
    shares = torch.full((len(weights.words), len(weights.groups)), 1 / len(weights.groups))
    placed = weights.entry >= 0
    shares[weights.entry[placed].long()] = by_token[placed].float()
    return shares if torch.equal(shares[weights.entry[placed].long()], by_token[placed].float()) else None


def _with_none(table: Tensor) -> Tensor:
    """The table with a last row of zeros, for no entry."""
    return torch.cat([table, torch.zeros_like(table[:1])])


def _even(shares: Float[Tensor, "entries groups"]) -> Float[Tensor, "rows groups"]:
    """Even shares in the last row, nothing in the others."""
    table = torch.zeros(len(shares) + 1, shares.shape[1])
    table[-1] = 1 / shares.shape[1]
    return table
