"""Visual contrastive decoding (VDD). In: logits with the picture and without it. Out: logits that lean on the picture.

Zhang et al. 2024, "Debiasing Multimodal Large Language Models", arXiv 2403.05262: what a model would say without
seeing anything is its prior, and is subtracted. Every step runs the model a second time on a reference input, here
with its own KV cache. ``ContrastiveHook`` goes into our own loop and into transformers' ``generate``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from evenhand.records import Claim, Edit

__all__ = ["ContrastRule", "ContrastiveHook", "ReferencePass", "contrast_logits"]


def contrast_logits(
    logits: Float[Tensor, "rows vocab"],
    reference: Float[Tensor, "rows vocab"],
    *,
    strength: float,
    plausibility: float,
) -> Float[Tensor, "rows vocab"]:
    r"""Subtract the reference's logits, among the tokens that are plausible with the picture.

    .. math:: z' = (1 + a) z - a z_{ref}, \quad z'_i = -\infty \text{ where } z_i < \max z + \ln b

    The likeliest token with the picture is always left. ``-inf`` stays ``-inf``; inputs are not modified. Source:
    section 4.2 of the paper; b is the cut of Li et al. (arXiv 2210.15097).

    Args:
        logits: With the picture, in nats.
        reference: Without it.
        strength: a >= 0; 0 and b = 0 is the identity.
        plausibility: b in [0, 1]; 0 cuts nothing, 1 leaves the likeliest token only.
    """
    least = logits.amax(dim=-1, keepdim=True) + (math.log(plausibility) if plausibility else -math.inf)
    out = torch.where(logits == -torch.inf, logits, torch.lerp(logits, reference, -strength))
    return out if not plausibility else out.masked_fill(logits < least, -torch.inf)


@dataclass(frozen=True, slots=True)
class ContrastRule:
    """How much of the reference is subtracted.

    Attributes:
        strength: a, at least 0; the paper's scripts use 1, its function's default is 0.5.
        plausibility: b, in [0, 1]; the paper uses 0.1, and 0.2 on one benchmark.
    """

    strength: float = 1.0
    plausibility: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf or not 0 <= self.plausibility <= 1:
            raise BadInputError(
                f"strength {self.strength}, plausibility {self.plausibility}; allowed: 0 or more, and [0, 1]."
            )


class ReferencePass:
    """A model at work on a reference input, one step behind the answer, with its own KV cache.

    Args:
        model: A causal LM or vision-language model of transformers.
        inputs: Keyword arguments of its first call, one row per answer: ``input_ids`` or ``inputs_embeds``, and where
            rows are padded (on the left) an ``attention_mask``.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Tensor]) -> None:
        self._model, self._inputs = model, dict(inputs)
        self._cache: Any = None
        # Qwen-VL remembers on itself how far its positions are ahead of its tokens: another number for another prompt.
        self._owner = next((m for m in model.modules() if hasattr(m, "rope_deltas")), None)
        self._deltas: Any = None
        self._mask = self._inputs.get("attention_mask")
        if self._mask is None and self._owner is not None:
            self._mask = torch.ones_like(self._inputs["input_ids"])

    @torch.no_grad()
    def logits(self, fed: Int[Tensor, " rows"] | None) -> Float[Tensor, "rows vocab"]:
        """The next token's logits; ``fed`` is the token each row has gone on with, None at the first step."""
        if fed is None:
            given: dict[str, Any] = dict(self._inputs)
        else:
            given = {"input_ids": fed[:, None], "past_key_values": self._cache}
        if self._mask is not None:
            if fed is not None:
                self._mask = torch.cat([self._mask, self._mask.new_ones(len(fed), 1)], dim=1)
            given["attention_mask"] = self._mask
            given |= self._positions(self._mask, first=fed is None)
        with self._own_positions():
            step = self._model(**given, use_cache=True)
        self._cache = step.past_key_values
        last: Tensor = step.logits[:, -1].float()
        return last

    def _positions(self, mask: Tensor, *, first: bool) -> dict[str, Tensor]:
        """Where the step's tokens stand, padding not counted; nothing where the model knows best."""
        if self._owner is None and bool(mask.all()):
            return {}
        if self._owner is not None and first and "pixel_values" in self._inputs:
            return {}
        positions = (mask.long().cumsum(dim=1) - 1).clamp_min(0)
        positions = positions if first else positions[:, -1:]
        if self._owner is None:
            return {"position_ids": positions}
        ahead = 0 if self._deltas is None else self._deltas.to(positions)
        return {"position_ids": (positions + ahead).expand(3, -1, -1)}

    @contextmanager
    def _own_positions(self) -> Iterator[None]:
        if self._owner is None:
            yield
            return
        theirs, self._owner.rope_deltas = self._owner.rope_deltas, self._deltas
        try:
            yield
        finally:
            self._deltas, self._owner.rope_deltas = self._owner.rope_deltas, theirs


class ContrastiveHook:
    """Contrasts every step of one batch with its references; see ``models.protocol.LogitsHook``.

    Hand it to ``decode_greedily(hook=...)``, or to ``generate(logits_processor=[...])`` with greedy decoding or
    sampling. Beams reorder rows, which a cache per row cannot follow; they are refused.

    Args:
        references: Passes of the same model, one or more; their logits are averaged.
        rule: How much is subtracted.
    """

    def __init__(self, references: Sequence[ReferencePass], rule: ContrastRule) -> None:
        if not references:
            raise BadInputError("references: got none; give at least one ReferencePass.")
        self._references, self._rule = tuple(references), rule
        self._seen: Tensor | None = None
        self._last: tuple[Tensor, Tensor] | None = None
        self._rows = 0

    def __call__(self, input_ids: Int[Tensor, "rows ids"], scores: Float[Tensor, "rows vocab"]) -> Tensor:
        """New scores; every reference is run one step.

        Raises:
            BadInputError: The ids are not those of the last step with one token added.
        """
        fed = None
        if self._seen is not None:
            grown = input_ids.shape == (self._seen.shape[0], self._seen.shape[1] + 1)
            if not grown or not torch.equal(input_ids[:, :-1], self._seen):
                raise BadInputError(
                    "contrastive decoding was given other rows than at the last step; it follows greedy decoding and "
                    "sampling, one hook per batch. Use num_beams=1, and a new hook for every call."
                )
            fed = input_ids[:, -1]
        self._seen, self._rows = input_ids.clone(), len(input_ids)
        passes = [reference.logits(fed).to(scores.device) for reference in self._references]
        mean = passes[0] if len(passes) == 1 else torch.stack(passes).mean(dim=0)
        moved = contrast_logits(
            scores, mean.to(scores.dtype), strength=self._rule.strength, plausibility=self._rule.plausibility
        )
        self._last = (scores, moved)
        return moved

    def drafted(self) -> Tensor | None:
        """The model's own choice in the rows whose likeliest token changed in the step just done, else -1."""
        if self._last is None:
            return None
        plain, moved = (scores.argmax(dim=-1) for scores in self._last)
        changed = plain != moved
        return torch.where(changed, plain, -1) if bool(changed.any()) else None

    def foresee(self, upcoming: Tensor) -> None:
        """Nothing is held back for the next token."""

    def claims(self) -> tuple["Claim | None", ...]:
        """None per row: the picture is not asked about anyone."""
        return (None,) * self._rows

    def edits(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple["Edit", ...], ...]:
        """None per row: every logit moves at every step, so no token is singled out."""
        return ((),) * len(emitted)

    def passed(self, emitted: Sequence[Sequence[int]]) -> tuple[tuple["Edit", ...], ...]:
        """None per row."""
        return ((),) * len(emitted)
