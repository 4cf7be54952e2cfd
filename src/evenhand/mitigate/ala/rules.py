"""The modes of ALA with their parameters. In: strengths. Out: objects that call the kernel's update.

``PaperRule`` is the published update, ``AlignRule`` acts only where the text contradicts the picture,
``NeutralRule`` takes every group's words back in favour of neutral ones and asks no picture.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.kernel import align_shift, neutral_shift, paper_shift

__all__ = ["AlignRule", "NeutralRule", "PaperRule", "Rule"]

StandIns = Literal["counterparts", "neutral_forms"]

STRONGEST = 100.0
"""Nats; beyond it a shift is a ban, and half-precision logits overflow."""


@runtime_checkable
class Rule(Protocol):
    """An update of listed tokens.

    Attributes:
        needs_claim: Whether a row without a claim of its picture is left alone.
        stand_ins: Which tokens may stand in a drafted one's place: a field of ``TokenWeights``.
        replace: Whether a drafted word that is taken back must become one of its stand-ins.
        threshold: tau; a token opens the gate where its absolute direction reaches it.
    """

    @property
    def needs_claim(self) -> bool:
        """Whether a row without a claim of its picture is left alone."""
        ...

    @property
    def stand_ins(self) -> StandIns:
        """Which tokens may stand in a drafted one's place: a field of ``TokenWeights``."""
        ...

    @property
    def replace(self) -> bool:
        """Whether a drafted word that is taken back must become one of its stand-ins."""
        ...

    @property
    def threshold(self) -> float:
        """tau; a token opens the gate where its absolute direction reaches it."""
        ...

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],
        direction: Float[Tensor, " tokens"],
        stand_ins: Bool[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows tokens"]:
        """Nats to add per row and listed token."""
        ...


@dataclass(frozen=True, slots=True)
class PaperRule:
    """The published update: ``-strength (alpha - s) direction`` wherever the gate opens (ALA, lambda 2, tau 0.1)."""

    needs_claim: ClassVar[bool] = True
    stand_ins: ClassVar[StandIns] = "counterparts"
    replace: ClassVar[bool] = False
    strength: float = 2.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],
        direction: Float[Tensor, " tokens"],
        stand_ins: Bool[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.paper_shift``."""
        return paper_shift(alpha, s, direction, strength=self.strength)


@dataclass(frozen=True, slots=True)
class AlignRule:
    """Acts only on contradiction, and leaves a row alone whose picture makes no claim.

    With ``replace`` a word that is taken back becomes its counterpart, or a neutral form where it has none (see
    ``kernel.lift_replacements``); a word with neither is left alone.
    """

    needs_claim: ClassVar[bool] = True
    stand_ins: ClassVar[StandIns] = "counterparts"
    strength: float = 6.0
    threshold: float = 0.1
    margin: float = 0.0
    replace: bool = True

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)
        if not isfinite(self.margin) or abs(self.margin) > 1:
            raise BadInputError(f"margin: got {self.margin}; allowed: a number in [-1, 1], 0 by default.")

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],
        direction: Float[Tensor, " tokens"],
        stand_ins: Bool[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.align_shift``."""
        return align_shift(alpha, s, direction, strength=self.strength, margin=self.margin)


@dataclass(frozen=True, slots=True)
class NeutralRule:
    """Weakens every group's words and strengthens the neutral forms of the drafted one.

    With ``replace`` a word that is taken back becomes one of its neutral forms; a word without any is left alone.
    """

    needs_claim: ClassVar[bool] = False
    stand_ins: ClassVar[StandIns] = "neutral_forms"
    strength: float = 6.0
    threshold: float = 0.1
    replace: bool = True

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],  # noqa: ARG002
        direction: Float[Tensor, " tokens"],
        stand_ins: Bool[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.neutral_shift``."""
        return neutral_shift(alpha, direction, stand_ins.to(alpha.dtype), strength=self.strength)


def _check(strength: float, threshold: float) -> None:
    if not isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise BadInputError(f"strength: got {strength}; allowed: a number of nats in [0, {STRONGEST:g}].")
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise BadInputError(f"threshold: got {threshold}; allowed: a number in (0, 1], 0.1 by default.")
