"""What alpha and s come from, as protocols. In: token ids; pictures. Out: shares of the groups; claims.

No base classes: any object with these members qualifies. ``text/`` and ``picture/`` hold what ships.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from evenhand.records import Claim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evenhand.mitigate.ala.weights import TokenWeights

__all__ = ["PictureSignal", "RowState", "TextScorer", "TextState"]


@runtime_checkable
class PictureSignal(Protocol):
    """Says what a text about a picture should carry.

    Attributes:
        settings: JSON values that say exactly what is asked.
    """

    settings: Mapping[str, object]

    def claim(self, picture: Callable[[], Image]) -> Claim:
        """The claim for one picture; the picture is opened only if it is looked at."""
        ...


@runtime_checkable
class TextState(Protocol):
    """A text scorer at work on one batch.

    Attributes:
        by_token: Where a share depends on the candidate alone: the shares of each state and listed token of the token
            weights, so that no call is needed; else None.
    """

    by_token: "Float[Tensor, 'states tokens groups'] | None"

    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: "Float[Tensor, 'rows hidden'] | None" = None,
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share, in [0, 1] and of sum 1, in each row's text once each candidate is added.

        For two groups alpha = first share - second share. A function of ``written`` alone (and ``hidden``): any
        cached state is keyed by it and made anew where it does not fit, so that rows may be reordered.

        Args:
            written: Vocabulary ids of the generated text so far; the prompt is not part of it. A row that ended
                repeats a stop token.
            candidates: Vocabulary ids.
            hidden: The language model's last hidden state of this step, where the host has it.
        """
        ...


@runtime_checkable
class RowState(TextState, Protocol):
    """A text scorer that can also be asked in Python's numbers, which for the few rows of a step on CPU cost less."""

    def shares_of(
        self,
        written: Sequence[Sequence[int]],
        candidates: Sequence[int],
        hidden: "Float[Tensor, 'rows hidden'] | None" = None,
    ) -> list[list[float]]:
        """``shares`` of one candidate a row: each row's shares of the groups."""
        ...


@runtime_checkable
class TextScorer(Protocol):
    """Says what a text carries.

    Attributes:
        settings: JSON values that say exactly how.
    """

    settings: Mapping[str, object]

    def start(self, weights: "TokenWeights", tokenizer: "PreTrainedTokenizerBase") -> TextState:
        """Ready for one batch.

        Raises:
            TokenizerMismatchError: The scorer was made for another tokenizer.
            BadInputError: The scorer has other groups than the weights.
        """
        ...
