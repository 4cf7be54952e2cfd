"""The modes of ALA with their parameters. In: strengths. Out: objects that call the kernel's update.

``PaperRule`` is the published update, ``AlignRule`` acts only where the text contradicts the picture,
``NeutralRule`` takes every group's words back in favour of neutral ones and asks no picture.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float
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

    def replacements(
        self, counterparts: Bool[Tensor, "rows tokens"], neutral_forms: Bool[Tensor, "rows tokens"]
    ) -> Bool[Tensor, "rows tokens"] | None:
        """The tokens that must stand in a drafted token's place once it is taken back; None where any may."""
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

    def replacements(
        self,
        counterparts: Bool[Tensor, "rows tokens"],
        neutral_forms: Bool[Tensor, "rows tokens"],
    ) -> None:
        """None: the published update has a fixed strength."""


@dataclass(frozen=True, slots=True)
class AlignRule:
    """Acts only on contradiction, and leaves a row alone whose picture makes no claim.

    With ``replace`` a word that is taken back always becomes its counterpart (see ``kernel.lift_replacements``).
    """

    needs_claim: ClassVar[bool] = True
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
        neutral_forms: Float[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.align_shift``."""
        return align_shift(alpha, s, direction, strength=self.strength, margin=self.margin)

    def replacements(
        self,
        counterparts: Bool[Tensor, "rows tokens"],
        neutral_forms: Bool[Tensor, "rows tokens"],  # noqa: ARG002
    ) -> Bool[Tensor, "rows tokens"] | None:
        """The drafted word's counterpart, where ``replace`` is on."""
        return counterparts if self.replace else None


@dataclass(frozen=True, slots=True)
class NeutralRule:
    """Weakens every group's words and strengthens the neutral forms of the drafted one.

    With ``replace`` a word that is taken back always becomes one of its neutral forms, where it has any.
    """

    needs_claim: ClassVar[bool] = False
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
        neutral_forms: Float[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows tokens"]:
        """See ``kernel.neutral_shift``."""
        return neutral_shift(alpha, direction, neutral_forms, strength=self.strength)

    def replacements(
        self,
        counterparts: Bool[Tensor, "rows tokens"],  # noqa: ARG002
        neutral_forms: Bool[Tensor, "rows tokens"],
    ) -> Bool[Tensor, "rows tokens"] | None:
        """The drafted word's neutral forms, where ``replace`` is on."""
        return neutral_forms if self.replace else None


def _check(strength: float, threshold: float) -> None:
    if not isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise BadInputError(f"strength: got {strength}; allowed: a number of nats in [0, {STRONGEST:g}].")
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise BadInputError(f"threshold: got {threshold}; allowed: a number in (0, 1], 0.1 by default.")
