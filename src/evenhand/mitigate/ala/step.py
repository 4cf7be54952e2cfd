"""One decode step as a rule sees it. In: scores, token weights, what text and picture carry. Out: a frozen view.

The processor fills it, a rule reads it; neither knows the other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["Move", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """Rows of one step, and the listed tokens that are at stake in each.

    A candidate is a gating token: under greedy decoding the drafted one alone, else the likeliest few.

    Attributes:
        weights: The listed tokens.
        listed: Their scores, nats; float32.
        state: Of the text so far, per row; a row of the weights' tables.
        columns: The candidates, as columns of ``listed``, unique in a row.
        entry: Their stand-in tables' rows, -1 for a candidate that carries nothing here.
        shares: What the text carries once a candidate is added, on the simplex.
        before: What it carries as it stands, where the rule needs it.
        wanted: The group the text should carry, by index; 0 where none is claimed.
        s: For two groups what it should carry, in [-1, 1]; 0 where nothing is claimed.
        claimed: Whether the row's picture makes a claim.
        log_z: log of the sum of the exponentials of the row's scores, where the rule or the decoding needs it.
    """

    weights: TokenWeights
    listed: Float[Tensor, "rows tokens"]
    state: Int[Tensor, " rows"]
    columns: Int[Tensor, "rows candidates"]
    entry: Int[Tensor, "rows candidates"]
    shares: Float[Tensor, "rows candidates groups"]
    wanted: Int[Tensor, " rows"]
    s: Float[Tensor, " rows"]
    claimed: Bool[Tensor, " rows"]
    before: Float[Tensor, "rows groups"] | None = None
    log_z: Float[Tensor, " rows"] | None = None

    @property
    def alpha(self) -> Float[Tensor, " rows"]:
        """First share minus second, of the first candidate: what the text carries with the drafted token."""
        return self.shares[:, 0, 0] - self.shares[:, 0, 1]


@dataclass(frozen=True, slots=True)
class Move:
    """Nats to add, per row.

    Attributes:
        columns: Of the listed tokens; None for all of them in order.
        shift: Nats; a row of zeros is left alone.
    """

    columns: Int[Tensor, "rows moved"] | None
    shift: Float[Tensor, "rows moved"]

    def dense(self, tokens: int) -> Float[Tensor, "rows {tokens}"]:
        """The shift of every listed token."""
        if self.columns is None:
            return self.shift
        zeros = torch.zeros(len(self.shift), tokens, dtype=self.shift.dtype, device=self.shift.device)
        return zeros.scatter_add(1, self.columns, self.shift)
