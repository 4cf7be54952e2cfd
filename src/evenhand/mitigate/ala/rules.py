"""The modes of ALA with their parameters. In: strengths. Out: objects that call the kernel's update.

``PaperRule`` is the published update, ``AlignRule`` acts only where the text contradicts the picture,
``NeutralRule`` takes every group's words back in favour of neutral ones and asks no picture.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.kernel import align_shift, neutral_shift, paper_shift

__all__ = ["AlignRule", "NeutralRule", "PaperRule", "Rule"]

STRONGEST = 100.0
"""Nats; beyond it a shift is a ban, and half-precision logits overflow."""


@runtime_checkable
class Rule(Protocol):
    """An update of listed tokens.

    Attributes:
        needs_claim: Whether a row without a claim of its picture is left alone.
        threshold: tau; a token opens the gate where its absolute direction reaches it.
    """

    @property
    def needs_claim(self) -> bool:
        """Whether a row without a claim of its picture is left alone."""
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
        neutral_forms: Float[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows tokens"]:
        """Nats to add per row and listed token."""
        ...


@dataclass(frozen=True, slots=True)
class PaperRule:
    """The published update: ``-strength (alpha - s) direction`` wherever the gate opens (ALA, lambda 2, tau 0.1)."""

    needs_claim: ClassVar[bool] = True
    strength: float = 2.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],
        direction: Float[Tensor, " tokens"],
        neutral_forms: Float[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.paper_shift``."""
        return paper_shift(alpha, s, direction, strength=self.strength)


@dataclass(frozen=True, slots=True)
class AlignRule:
    """Acts only on contradiction, and leaves a row alone whose picture makes no claim."""

    needs_claim: ClassVar[bool] = True
    strength: float = 6.0
    threshold: float = 0.1
    margin: float = 0.0

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)
        if not isfinite(self.margin) or abs(self.margin) > 1:
            raise BadInputError(f"margin: got {self.margin}; allowed: a number in [-1, 1], 0 by default.")

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],
        direction: Float[Tensor, " tokens"],
        neutral_forms: Float[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.align_shift``."""
        return align_shift(alpha, s, direction, strength=self.strength, margin=self.margin)


@dataclass(frozen=True, slots=True)
class NeutralRule:
    """Weakens every group's words and strengthens the neutral forms of the drafted one."""

    needs_claim: ClassVar[bool] = False
    strength: float = 6.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        _check(self.strength, self.threshold)

    def shift(
        self,
        alpha: Float[Tensor, " rows"],
        s: Float[Tensor, " rows"],  # noqa: ARG002
        direction: Float[Tensor, " tokens"],
        neutral_forms: Float[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.neutral_shift``."""
        return neutral_shift(alpha, direction, neutral_forms, strength=self.strength)


def _check(strength: float, threshold: float) -> None:
    if not isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise BadInputError(f"strength: got {strength}; allowed: a number of nats in [0, {STRONGEST:g}].")
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise BadInputError(f"threshold: got {threshold}; allowed: a number in (0, 1], 0.1 by default.")
