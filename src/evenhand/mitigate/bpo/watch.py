"""A small audit while a model is trained. In: prompts that are held out, labellers. Out: disparity of what it draws.

Every audit draws with the same seeds, so that two of them differ by the model and not by luck.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from jaxtyping import Int64

from evenhand.classify.pictures.protocol import Labeller
from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.ledger import seed_of
from evenhand.metrics.distances import Distance, distance_floor, measure
from evenhand.metrics.tally import product_groups, product_labels, tally
from evenhand.mitigate.bpo.losses import check_target
from evenhand.models.protocol import ImageModel
from evenhand.records import Label, Prompt, Sample

__all__ = ["Audited", "HeldOutAudit"]

_RUN = "held-out"


@dataclass(frozen=True, slots=True)
class Audited:
    """What a model draws of prompts that ask for nobody.

    Attributes:
        disparity: Mean over prompts of RD to the target, as the sample shows it; 0 is the target.
        floor: What a model of the target's shares would show at this many pictures.
        shown: Share of pictures that show a declared group.
        pictures: How many were drawn.
    """

    disparity: float
    floor: float
    shown: float
    pictures: int

    def as_metrics(self, prefix: str) -> dict[str, float]:
        """As a trainer logs it."""
        told = {"disparity": self.disparity, "disparity_floor": self.floor, "shown": self.shown}
        return {f"{prefix}_{name}": value for name, value in told.items()}


class HeldOutAudit:
    """Draws prompts that are not trained on and counts who is shown.

    Args:
        prompts: That ask for nobody; none of them is trained on.
        labellers: One for each attribute, in the order of the data's groups; several are read as their product.
        groups: The data's, in order.
        pictures: Of each prompt, 1 or more.
        target: Wanted shares; even by default.
        seed: Of the pictures.

    Raises:
        BadInputError: No prompt or labeller, or groups that are not the labellers'.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        labellers: Sequence[Labeller],
        *,
        groups: Sequence[str],
        pictures: int = 20,
        target: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not prompts or not labellers or pictures < 1:
            raise BadInputError(
                f"audit: got {len(prompts)} prompts, {len(labellers)} labellers, {pictures} pictures of each; allowed: "
                "1 and more of each."
            )
        read: tuple[str, ...] = labellers[0].attribute.groups
        for one in labellers[1:]:
            read = product_groups(read, one.attribute.groups)
        if read != tuple(groups):
            raise BadInputError(
                f"audit: its labellers tell {', '.join(read)} apart; the data have {', '.join(groups)}. Give labellers "
                "of the data's attributes, in their order."
            )
        self.prompts, self.groups, self.pictures = tuple(prompts), read, pictures
        self._labellers, self._seed = tuple(labellers), seed
        self._distance = Distance("RD", check_target(target, len(read)))

    @property
    def digest(self) -> str:
        """SHA-256, 16 hex characters, of what is drawn and what reads it."""
        asked = [[one.id, one.text] for one in self.prompts]
        read = [[one.attribute.name, dict(one.settings)] for one in self._labellers]
        told = [asked, read, self.pictures, self._seed, self._distance.target]
        return sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def count(
        self, model: ImageModel, prompts: Sequence[Prompt] | None = None
    ) -> Int64[np.ndarray, "prompts groups_and_unknown"]:
        """Pictures of each prompt per group; the last column is those that show none.

        Args:
            model: Draws.
            prompts: Some of the audit's, so that several processes can share the work; all by default.
        """
        asked = self.prompts if prompts is None else tuple(prompts)
        if not asked:
            return np.zeros((0, len(self.groups) + 1), dtype=np.int64)
        pairs = [(prompt, k) for prompt in asked for k in range(self.pictures)]
        labels: list[Label] = []
        for start in range(0, len(pairs), model.batch_size):
            batch = pairs[start : start + model.batch_size]
            seeds = [seed_of(f"{_RUN}-{self._seed}", prompt.id, k) for prompt, k in batch]
            drawn = model.draw([prompt for prompt, _ in batch], seeds=seeds)
            labels += self._label([replace(one, k=k) for one, (_, k) in zip(drawn, batch, strict=True)])
        counted = tally(labels, groups=self.groups, denominator="all", prompts=[prompt.id for prompt in asked])
        unknown = self.pictures - counted.counts.sum(axis=1, keepdims=True)
        return np.concatenate([counted.counts, unknown], axis=1)

    def judge(self, counts: Int64[np.ndarray, "prompts groups_and_unknown"]) -> Audited:
        """What counts say, of all prompts together.

        Raises:
            TooFewSamplesError: No picture shows a group.
        """
        known = counts[:, :-1]
        base = known.sum(axis=1)
        defined = base > 0
        if not defined.any():
            raise TooFewSamplesError(
                f"audit: none of {int(counts.sum())} pictures shows a group; the model may have come apart. Use a "
                "smaller learning rate, or another classifier."
            )
        shares = known[defined] / base[defined, None]
        floors = [distance_floor(self._distance, int(one), int(one), seed=self._seed) for one in base[defined]]
        return Audited(
            float(measure(self._distance, shares).mean()),
            float(np.mean(floors)),
            float(base.sum() / counts.sum()),
            int(counts.sum()),
        )

    def __call__(self, model: ImageModel) -> Audited:
        """Draw, label, count and judge."""
        return self.judge(self.count(model))

    def _label(self, samples: Sequence[Sample]) -> Sequence[Label]:
        first, *others = (one.label(samples) for one in self._labellers)
        for other in others:
            first = product_labels(first, other)
        return first
