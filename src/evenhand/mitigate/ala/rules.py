"""The modes of ALA with their parameters. In: one step. Out: nats to add to its listed tokens.

``PaperRule`` is the published update, ``AlignRule`` acts only where the text contradicts the picture, ``NeutralRule``
takes every group's words back in favour of neutral ones and asks no picture, ``NearestRule`` is the published update
with a strength that adapts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.kernel import (
    align_shift,
    contradiction,
    group_shift,
    move_draft,
    move_mass,
    neutral_shift,
    paper_shift,
)
from evenhand.mitigate.ala.proximal import proximal_shift
from evenhand.mitigate.ala.step import Move, Step
from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["AlignRule", "NearestRule", "NeutralRule", "PaperRule", "ReplacingRule", "Rule"]

STRONGEST = 100.0
"""Nats; beyond it a shift is a ban, and half-precision logits overflow."""

_EVEN = 1e-6
"""Shares that lie closer together are even: a text that carries nothing has 1/K in float32, not exactly."""


@runtime_checkable
class Rule(Protocol):
    """An update of listed tokens.

    Attributes:
        reads_claim: Whether it asks what the picture shows at all.
        needs_claim: Whether a row without a claim of its picture is left alone.
        needs_log_z: Whether it reads probabilities, not only scores.
        needs_before: Whether it asks what the text carries as it stands.
        replaces: Whether a word without a stand-in is left alone.
        threshold: tau; a token opens the gate where its weight reaches it.
    """

    @property
    def reads_claim(self) -> bool:
        """Whether it asks what the picture shows at all."""
        ...

    @property
    def needs_claim(self) -> bool:
        """Whether a row without a claim of its picture is left alone."""
        ...

    @property
    def needs_log_z(self) -> bool:
        """Whether it reads probabilities, not only scores."""
        ...

    @property
    def needs_before(self) -> bool:
        """Whether it asks what the text carries as it stands."""
        ...

    @property
    def replaces(self) -> bool:
        """Whether a word without a stand-in is left alone."""
        ...

    @property
    def threshold(self) -> float:
        """tau; a token opens the gate where its weight reaches it."""
        ...

    def move(self, step: Step) -> Move:
        """Nats to add to the step's listed tokens; the processor takes back what a guard forbids."""
        ...


@runtime_checkable
class ReplacingRule(Rule, Protocol):
    """A rule whose words can be replaced; what it does can be worked out beforehand (``plan``).

    ``fall`` and ``fall_of`` say the same, for devices and for CPU: whoever changes one changes the other. A rule
    without ``fall_of`` is no ``ReplacingRule``; it works, step by step, without a plan.
    """

    def fall(
        self,
        shares: Float[Tensor, "rows candidates groups"],
        wanted: Int[Tensor, " rows"],
        claimed: Bool[Tensor, " rows"],
    ) -> Float[Tensor, "rows candidates"]:
        """By how many nats each candidate falls, >= 0, if a token can take its place."""
        ...

    def fall_of(self, shares: Sequence[float], wanted: int, *, claimed: bool) -> float:
        """``fall`` of one candidate, in Python's numbers."""
        ...

    def targets(
        self,
        weights: TokenWeights,
        entry: Int[Tensor, "rows candidates"],
        group: Int[Tensor, "rows candidates"],
        wanted: Int[Tensor, " rows"],
        claimed: Bool[Tensor, " rows"],
    ) -> Int[Tensor, "rows candidates forms"]:
        """Columns of the tokens that may take each candidate's place, -1 for none."""
        ...


@dataclass(frozen=True, slots=True)
class PaperRule:
    """The published update: ``-strength (alpha - s) direction`` wherever the gate opens (ALA, lambda 2, tau 0.1)."""

    reads_claim: ClassVar[bool] = True
    needs_claim: ClassVar[bool] = True
    needs_log_z: ClassVar[bool] = False
    needs_before: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    strength: float = 2.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    def move(self, step: Step) -> Move:
        """See ``kernel.paper_shift``, and ``kernel.group_shift`` for more than two groups."""
        weights = step.weights
        if len(weights.groups) == 2:
            direction = weights.direction[step.state]
            return Move(None, paper_shift(step.alpha, step.s, direction, strength=self.strength))
        wanted = torch.nn.functional.one_hot(step.wanted, len(weights.groups)).to(step.listed.dtype)
        group, weight = weights.group[step.state], weights.weight[step.state]
        return Move(None, group_shift(step.shares[:, 0], wanted, group, weight, strength=self.strength))


@dataclass(frozen=True, slots=True)
class AlignRule:
    """Acts only on contradiction.

    With ``replace`` the probability of a contradicting word moves to its counterpart, or to a neutral form where it has
    none, and nothing else changes (``kernel.move_draft``); a word with neither is left alone. Without, listed words
    are shifted by a fixed strength (``kernel.align_shift``).

    Attributes:
        strength: lambda: a word that contradicts fully loses this many nats.
        threshold: tau.
        margin: m; how strongly the text must agree to be left alone. Negative values tolerate: with s = -1 and
            m = -0.3 nothing is done until alpha exceeds 0.3 (the one-sided target of toxicity).
        replace: Replace, or shift.
        abstain: What a row whose picture makes no claim gets: ``keep``, or ``neutral`` words.
    """

    reads_claim: ClassVar[bool] = True
    needs_log_z: ClassVar[bool] = False
    needs_before: ClassVar[bool] = False
    strength: float = 6.0
    threshold: float = 0.1
    margin: float = 0.0
    replace: bool = True
    abstain: Literal["keep", "neutral"] = "keep"

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)
        if not isfinite(self.margin) or abs(self.margin) > 1:
            raise BadInputError(f"margin: got {self.margin}; allowed: a number in [-1, 1], 0 by default.")
        if self.abstain not in ("keep", "neutral"):
            raise BadInputError(f"abstain: got {self.abstain!r}; allowed: keep, neutral.")

    @property
    def needs_claim(self) -> bool:
        """Whether a row without a claim of its picture is left alone."""
        return self.abstain == "keep"

    @property
    def replaces(self) -> bool:
        """Whether a word without a stand-in is left alone."""
        return self.replace

    def move(self, step: Step) -> Move:
        """See ``kernel.contradiction`` and ``kernel.move_draft``."""
        return _replace(step, self) if self.replace else self._shift(step)

    def fall(
        self,
        shares: Float[Tensor, "rows candidates groups"],
        wanted: Int[Tensor, " rows"],
        claimed: Bool[Tensor, " rows"],
    ) -> Float[Tensor, "rows candidates"]:
        """Lambda times the contradiction; without a claim nothing, or lambda times what the text carries."""
        nats = self.strength * contradiction(shares, wanted, margin=self.margin)
        if self.abstain == "neutral":
            return torch.where(claimed[:, None], nats, self.strength * _carried(shares))
        return nats * claimed[:, None]

    def fall_of(self, shares: Sequence[float], wanted: int, *, claimed: bool) -> float:
        """``fall`` of one candidate, in Python's numbers."""
        if claimed:
            others = max(share for group, share in enumerate(shares) if group != wanted)
            return self.strength * max(self.margin - shares[wanted] + others, 0.0)
        return self.strength * _carried_of(shares) if self.abstain == "neutral" else 0.0

    def targets(
        self,
        weights: TokenWeights,
        entry: Int[Tensor, "rows candidates"],
        group: Int[Tensor, "rows candidates"],
        wanted: Int[Tensor, " rows"],
        claimed: Bool[Tensor, " rows"],
    ) -> Int[Tensor, "rows candidates forms"]:
        """The wanted group's counterpart where there is one, else neutral forms; none for the wanted group's words.

        A text may contradict the picture by what it said before: its right word is not the one to take back.
        """
        at = entry.clamp(min=0)
        forms = weights.neutral_forms[at].long()
        other = weights.counterparts[at, wanted[:, None]].long()[..., None]
        alone = torch.cat([other, torch.full_like(forms[..., 1:], -1)], dim=2)
        targets = torch.where((other >= 0) & claimed[:, None, None], alone, forms)
        right = (group == wanted[:, None]) & claimed[:, None]
        return targets.masked_fill(right[..., None], -1)

    def _shift(self, step: Step) -> Move:
        if len(step.weights.groups) != 2:
            raise BadInputError("align without replacement knows two groups only; use replace=True or NearestRule.")
        direction = step.weights.direction[step.state]
        shift = align_shift(step.alpha, step.s, direction, strength=self.strength, margin=self.margin)
        if self.abstain == "neutral":
            shift = torch.where(step.claimed[:, None], shift, _neutral_shift(step, self.strength))
        return Move(None, shift)


@dataclass(frozen=True, slots=True)
class NeutralRule:
    """Takes back every group's words in favour of neutral ones.

    With ``replace`` a word's probability moves to the likeliest of its neutral forms, and nothing else changes; a word
    without any is left alone. Without, the groups' words are weakened and the drafted word's neutral forms
    strengthened by a fixed strength (``kernel.neutral_shift``).
    """

    reads_claim: ClassVar[bool] = False
    needs_claim: ClassVar[bool] = False
    needs_log_z: ClassVar[bool] = False
    needs_before: ClassVar[bool] = False
    strength: float = 6.0
    threshold: float = 0.1
    replace: bool = True

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    @property
    def replaces(self) -> bool:
        """Whether a word without a stand-in is left alone."""
        return self.replace

    def move(self, step: Step) -> Move:
        """See ``kernel.move_draft`` and ``kernel.neutral_shift``."""
        return _replace(step, self) if self.replace else Move(None, _neutral_shift(step, self.strength))

    def fall(
        self,
        shares: Float[Tensor, "rows candidates groups"],
        wanted: Int[Tensor, " rows"],  # noqa: ARG002
        claimed: Bool[Tensor, " rows"],  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates"]:
        """Lambda times what the text carries."""
        return self.strength * _carried(shares)

    def fall_of(self, shares: Sequence[float], wanted: int, *, claimed: bool) -> float:  # noqa: ARG002
        """``fall`` of one candidate, in Python's numbers."""
        return self.strength * _carried_of(shares)

    def targets(
        self,
        weights: TokenWeights,
        entry: Int[Tensor, "rows candidates"],
        group: Int[Tensor, "rows candidates"],  # noqa: ARG002
        wanted: Int[Tensor, " rows"],  # noqa: ARG002
        claimed: Bool[Tensor, " rows"],  # noqa: ARG002
    ) -> Int[Tensor, "rows candidates forms"]:
        """Neutral forms, whatever a picture shows."""
        return weights.neutral_forms[entry.clamp(min=0)].long()


@dataclass(frozen=True, slots=True)
class NearestRule:
    """The nearest distribution whose expected text carries what it should (``proximal.proximal_shift``).

    Attributes:
        pull: mu; how much nearer to the wanted text is worth, nats per squared unit.
        cap: Largest KL divergence of a step, nats.
        threshold: tau.
        neutral: Aim at a text that carries nothing, instead of what the picture says.
        contradiction: Act only where the text with the likeliest listed word contradicts the picture.
    """

    needs_log_z: ClassVar[bool] = True
    needs_before: ClassVar[bool] = True
    replaces: ClassVar[bool] = False
    pull: float = 20.0
    cap: float = 3.0
    threshold: float = 0.1
    neutral: bool = False
    contradiction: bool = True

    def __post_init__(self) -> None:
        _check(0.0, self.threshold)
        if not isfinite(self.pull) or not 0 < self.pull <= 1000:
            raise BadInputError(f"pull: got {self.pull}; allowed: a number in (0, 1000], 20 by default.")
        if not 0 <= self.cap < inf:
            raise BadInputError(f"cap: got {self.cap}; allowed: nats from 0, 3 by default.")

    @property
    def reads_claim(self) -> bool:
        """Whether it asks what the picture shows at all."""
        return not self.neutral

    @property
    def needs_claim(self) -> bool:
        """Whether a row without a claim of its picture is left alone."""
        return not self.neutral

    def move(self, step: Step) -> Move:
        """See ``proximal.proximal_shift``."""
        if step.log_z is None or step.before is None:
            raise BadInputError("NearestRule needs log_z and before; the host gives them where the rule says so.")
        groups = len(step.weights.groups)
        probability = (step.listed.gather(1, step.columns) - step.log_z[:, None]).exp()
        probability = torch.where(step.entry >= 0, probability, 0.0)
        if groups == 2:
            carried, otherwise = step.shares[..., :1] - step.shares[..., 1:], step.before[:, :1] - step.before[:, 1:]
            wanted = torch.zeros_like(otherwise) if self.neutral else torch.sign(step.s)[:, None]
        else:
            carried, otherwise = step.shares, step.before
            hot = torch.nn.functional.one_hot(step.wanted, groups).to(otherwise.dtype)
            wanted = torch.full_like(hot, 1 / groups) if self.neutral else hot
        solved = proximal_shift(probability, carried, otherwise, wanted, pull=self.pull, cap=self.cap)
        acts = torch.where(step.entry[:, 0] >= 0, 1.0, 0.0)
        if self.contradiction and not self.neutral:
            contradicts = contradiction(step.shares[:, :1], step.wanted, margin=0.0)[:, 0] > 0
            acts = acts * (contradicts & step.claimed)
        return Move(step.columns, solved.shift * acts[:, None])


def _carried(shares: Float[Tensor, "rows candidates groups"]) -> Float[Tensor, "rows candidates"]:
    """How much a text carries any group: |alpha| for two, the top share's lead over an even text in general."""
    groups = shares.shape[2]
    return (shares.amax(dim=2) * groups - 1).clamp(min=0) / (groups - 1)


def _carried_of(shares: Sequence[float]) -> float:
    """``_carried`` of one candidate, in Python's numbers."""
    lead = max(shares) * len(shares) - 1
    return lead / (len(shares) - 1) if lead > _EVEN else 0.0


def _neutral_shift(step: Step, strength: float) -> Float[Tensor, "rows tokens"]:
    forms = step.weights.neutral_forms[step.entry[:, 0].clamp(min=0)].long()
    marked = torch.zeros_like(step.listed)
    marked = marked.scatter_add(1, forms.clamp(min=0), (forms >= 0).to(marked.dtype)).clamp(max=1)
    sign = _carried(step.shares)[:, 0]
    return neutral_shift(sign, step.weights.weight[step.state], marked, strength=strength)


def _replace(step: Step, rule: ReplacingRule) -> Move:
    """Move each candidate's probability to the likeliest token that may take its place."""
    group = step.weights.group[step.state[:, None], step.columns]
    targets = rule.targets(step.weights, step.entry, group, step.wanted, step.claimed)
    rows, candidates, width = targets.shape
    scores = step.listed.gather(1, targets.clamp(min=0).reshape(rows, -1)).reshape(rows, candidates, width)
    best = torch.where(targets >= 0, scores, -inf).argmax(dim=2, keepdim=True)
    target = targets.gather(2, best)[..., 0]
    fall = rule.fall(step.shares, step.wanted, step.claimed)
    nats = torch.where((target >= 0) & (step.entry >= 0), fall, 0.0)
    target = target.clamp(min=0)
    if candidates > 1:
        return Move(None, move_mass(step.listed, step.columns, target, nats))
    pair = torch.cat([step.columns, target], dim=1)
    drafted, stand_in = step.listed.gather(1, pair).unbind(dim=1)
    return Move(pair, move_draft(drafted, stand_in, nats[:, 0]))


def _check(strength: float, threshold: float) -> None:
    if not isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise BadInputError(f"strength: got {strength}; allowed: a number of nats in [0, {STRONGEST:g}].")
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise BadInputError(f"threshold: got {threshold}; allowed: a number in (0, 1], 0.1 by default.")
