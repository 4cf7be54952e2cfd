"""What a model that writes codes draws under several prompts, and how likely each finds it. In: prompts. Out: numbers.

Codes are drawn from the distribution that is scored: every code, temperature 1, one guidance for both. Each prompt's
pictures are scored under every prompt; only their log-probabilities are kept, a number a code, picture and prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from evenhand.errors import ArtefactError, BadInputError
from evenhand.ledger import seed_of

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from evenhand.models.protocol import CodeModel

__all__ = ["ConditionSamples", "draw_conditions", "score_conditions"]


@dataclass(frozen=True, slots=True)
class ConditionSamples:
    """Pictures as codes, by the prompt that drew them.

    Attributes:
        conditions: Names of the prompts, the columns of ``log_probs``.
        codes: Of each prompt's pictures, (pictures, codes), 0-based, raster order.
        by_code: Of each prompt's pictures the log-probability of each code under every prompt, in nats.
    """

    conditions: tuple[str, ...]
    codes: Mapping[str, Int64[np.ndarray, "pictures codes"]]
    by_code: Mapping[str, Float64[np.ndarray, "pictures conditions codes"]]

    @property
    def log_probs(self) -> Mapping[str, Float64[np.ndarray, "pictures conditions"]]:
        """Of each prompt's pictures under every prompt, in nats: sums over codes."""
        return {name: scores.sum(-1) for name, scores in self.by_code.items()}

    def pair(self, drawn: str, first: str, second: str) -> Float64[np.ndarray, "pictures two"]:
        """Of one prompt's pictures the log-probabilities under two: what ``divergence.sequence_divergence`` takes."""
        columns = [self._place(first), self._place(second)]
        self._place(drawn)
        found: Float64[np.ndarray, "pictures two"] = self.by_code[drawn][:, columns].sum(-1)
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
        batch_size: Pictures scored together. Of each picture its codes and their numbers are kept, 8 bytes a code and
            prompt; all else grows with this alone.

    Raises:
        BadInputError: Fewer than two prompts, two the same, or a number out of range.
        ArtefactError: The model gives NaN.
    """
    if len(texts) < 2 or len(set(texts.values())) < len(texts):
        raise BadInputError(
            f"texts: got {len(texts)}, {len(set(texts.values()))} different; allowed: 2 and more, all different."
        )
    if pictures < 1 or batch_size < 1:
        raise BadInputError(f"got pictures {pictures}, batch_size {batch_size}; allowed: 1 and more.")
    codes: dict[str, Int64[np.ndarray, "pictures codes"]] = {}
    scores: dict[str, Float64[np.ndarray, "pictures conditions codes"]] = {}
    for name, text in texts.items():
        seeds = [seed_of(f"locate-{seed}", text, k) for k in range(pictures)]
        drawn = model.generate([text] * pictures, seeds=seeds, guidance=guidance, temperature=1.0)
        asked = list(texts.values())
        scores[name] = score_conditions(model, asked, drawn, guidance=guidance, batch_size=batch_size)
        codes[name] = drawn.cpu().numpy().astype(np.int64)
    return ConditionSamples(tuple(texts), codes, scores)


def score_conditions(
    model: "CodeModel",
    texts: Sequence[str],
    codes: "Int[Tensor, 'pictures codes']",
    *,
    guidance: float = 1.0,
    batch_size: int = 16,
) -> Float64[np.ndarray, "pictures texts codes"]:
    """Log-probability in nats of each code of each picture under each text.

    Args:
        model: Scores; one that is a ``ComparingModel`` reads each text once.
        texts: All pictures are scored under each.
        codes: Of the pictures.
        guidance: w, of drawing and of scoring.
        batch_size: Pictures scored together; memory grows with it and not with the pictures.

    Raises:
        BadInputError: No text or picture, or a number out of range.
        ArtefactError: The model gives NaN.
    """
    import torch

    from evenhand.models.protocol import ComparingModel

    if not len(texts) or not len(codes) or batch_size < 1:
        raise BadInputError(
            f"got {len(texts)} texts, {len(codes)} pictures, batch_size {batch_size}; allowed: 1 and more of each."
        )
    if isinstance(model, ComparingModel):
        found = model.log_probs_under(texts, codes, guidance=guidance, batch_size=batch_size).double().numpy()
    else:
        columns = []
        for text in texts:
            parts = []
            for start in range(0, len(codes), batch_size):
                rows = codes[start : start + batch_size]
                with torch.no_grad():
                    parts.append(model.log_prob([text] * len(rows), rows, guidance=guidance).double().cpu())
            columns.append(torch.cat(parts).numpy())
        found = np.stack(columns, axis=1)
    if np.isnan(found).any():
        raise ArtefactError(f"{model.name}: the log-probabilities of pictures are NaN; load the model in float32.")
    return found
