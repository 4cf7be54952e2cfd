"""What a model that writes codes draws under several prompts, and how likely each finds it. In: prompts. Out: numbers.

Codes are drawn from the distribution that is scored: every code, temperature 1, one guidance for both. Each prompt's
pictures are scored under every prompt; only their log-probabilities are kept, a number a picture and prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from evenhand.errors import ArtefactError, BadInputError
from evenhand.ledger import seed_of

if TYPE_CHECKING:
    from evenhand.models.protocol import CodeModel

__all__ = ["ConditionSamples", "draw_conditions"]


@dataclass(frozen=True, slots=True)
class ConditionSamples:
    """Pictures as codes, by the prompt that drew them.

    Attributes:
        conditions: Names of the prompts, the columns of ``log_probs``.
        codes: Of each prompt's pictures, (pictures, codes), 0-based, raster order.
        log_probs: Of each prompt's pictures under every prompt, (pictures, conditions), in nats, sums over codes.
    """

    conditions: tuple[str, ...]
    codes: Mapping[str, Int64[np.ndarray, "pictures codes"]]
    log_probs: Mapping[str, Float64[np.ndarray, "pictures conditions"]]

    def pair(self, drawn: str, first: str, second: str) -> Float64[np.ndarray, "pictures two"]:
        """Of one prompt's pictures the log-probabilities under two: what ``divergence.sequence_divergence`` takes."""
        columns = [self._place(first), self._place(second)]
        self._place(drawn)
        found: Float64[np.ndarray, "pictures two"] = self.log_probs[drawn][:, columns]
        return found

    def _place(self, name: str) -> int:
        if name not in self.conditions:
            raise BadInputError(f"condition: got {name!r}; allowed: {', '.join(self.conditions)}.")
        return self.conditions.index(name)


def draw_conditions(
    model: "CodeModel",
    texts: Mapping[str, str],
    *,
    pictures: int,
    seed: int,
    guidance: float = 1.0,
    batch_size: int = 16,
) -> ConditionSamples:
    """Draw each prompt's pictures and score them under every prompt.

    Args:
        model: Draws and scores.
        texts: Name of a condition -> prompt, for example ``neutral`` and each group; two or more, all different.
        pictures: Of each prompt.
        seed: With it the same prompts give the same pictures.
        guidance: w, of drawing and of scoring; 1 is the model as it was trained.
        batch_size: Pictures scored together; memory grows with it and not with ``pictures``.

    Raises:
        BadInputError: Fewer than two prompts, two the same, or a number out of range.
        ArtefactError: The model gives NaN.
    """
    import torch

    if len(texts) < 2 or len(set(texts.values())) < len(texts):
        raise BadInputError(
            f"texts: got {len(texts)}, {len(set(texts.values()))} different; allowed: 2 and more, all different."
        )
    if pictures < 1 or batch_size < 1:
        raise BadInputError(f"got pictures {pictures}, batch_size {batch_size}; allowed: 1 and more.")
    codes: dict[str, Int64[np.ndarray, "pictures codes"]] = {}
    scores: dict[str, Float64[np.ndarray, "pictures conditions"]] = {}
    for name, text in texts.items():
        seeds = [seed_of(f"locate-{seed}", text, k) for k in range(pictures)]
        drawn = model.generate([text] * pictures, seeds=seeds, guidance=guidance, temperature=1.0)
        columns = []
        for asked in texts.values():
            parts = []
            for start in range(0, pictures, batch_size):
                rows = drawn[start : start + batch_size]
                with torch.no_grad():
                    own = model.log_prob([asked] * len(rows), rows, guidance=guidance)
                parts.append(own.double().sum(-1).cpu())
            columns.append(torch.cat(parts).numpy())
        scores[name] = np.stack(columns, axis=1)
        if np.isnan(scores[name]).any():
            raise ArtefactError(f"{model.name}: the log-probabilities of pictures are NaN; load the model in float32.")
        codes[name] = drawn.cpu().numpy().astype(np.int64)
    return ConditionSamples(tuple(texts), codes, scores)
