"""Several attributes on one row of logits. In: one processor per attribute. Out: logits, within one KL budget."""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.proximal import divergence, largest_scale
from evenhand.models.protocol import Decoding
from evenhand.records import Claim, Edit

__all__ = ["SeveralProcessor"]


class SeveralProcessor(LogitsProcessor):
    """Runs one processor after the other; scales a step back that spends more than the budget.

    Args:
        processors: In order of precedence.
        budget: Largest KL divergence of a step from the model's distribution, in nats; None for no limit.
        decoding: How the loop turns scores into tokens.
    """

    supports_continuous_batching = False

    def __init__(
        self, processors: Sequence[AlaLogitsProcessor], *, budget: float | None, decoding: Decoding = "greedy"
    ) -> None:
        self._processors, self._budget, self._decoding = tuple(processors), budget, decoding

    def __call__(
        self, input_ids: Int[Tensor, "rows written"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """New scores; see ``AlaLogitsProcessor``."""
        given, locked = scores, None
        for processor in self._processors:
            processor.lock(locked if self._decoding == "greedy" else None)
            scores = processor(input_ids, scores)
            drafted = processor.drafted()
            if drafted is not None:
                locked = drafted >= 0 if locked is None else locked | (drafted >= 0)
        if self._budget is None or scores is given:
            return scores
        shift = torch.where(given > -torch.inf, scores - given, 0.0).double()
        probability = given.double().softmax(dim=1)
        scale = largest_scale(probability, shift, cap=self._budget)
        kept = scale[:, None] * shift
        spent = divergence(probability, kept).float()
        for processor in self._processors:
            processor.scale_last(scale.float(), spent)
        moved = given + kept.to(given.dtype)
        if self._decoding != "beams":
            return moved
        grown = moved.float().logsumexp(dim=1) - given.float().logsumexp(dim=1)
        return moved - grown[:, None].to(moved.dtype)

    def foresee(self, upcoming: Int[Tensor, " rows"]) -> None:
        """Tell which ids the model would choose after its drafts of the step that is called next."""
        for processor in self._processors:
            processor.foresee(upcoming)

    def drafted(self) -> Int[Tensor, " rows"] | None:
        """The ids the model alone would have chosen: what the first processor that acted took back, per row."""
        found: Tensor | None = None
        for processor in self._processors:
            drafted = processor.drafted()
            if drafted is not None:
                found = drafted if found is None else torch.where(found >= 0, found, drafted)
        return found

    def claims(self) -> tuple[Claim | None, ...]:
        """The first attribute's claims, or the first that were made."""
        every = [processor.claims() for processor in self._processors]
        return tuple(
            next((claim for claim in claims if claim is not None), None) for claims in zip(*every, strict=True)
        )

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per answer, the edits of all attributes in order; ``Edit.attribute`` says whose."""
        return _joined([processor.edits(emitted) for processor in self._processors])

    def passed(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple[Edit, ...], ...]:
        """Per answer, the tokens that were looked at and left alone, of all attributes in order."""
        return _joined([processor.passed(emitted) for processor in self._processors])


def _joined(every: Sequence[tuple[tuple[Edit, ...], ...]]) -> tuple[tuple[Edit, ...], ...]:
    return tuple(
        tuple(sorted(chain.from_iterable(answer), key=lambda edit: edit.position))
        for answer in zip(*every, strict=True)
    )
