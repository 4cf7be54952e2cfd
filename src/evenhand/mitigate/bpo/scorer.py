"""What is trained. In: prefixes and codes of tuples. Out: the log-probability of each code, through one forward call.

Training frameworks hook into the call of one module (gradients of several processes, sharded weights). A unified model
is several modules around its language model, so this one stands around them.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from evenhand.mitigate.bpo.adapters import train_language_model_alone
from evenhand.models.unified.family import Family
from evenhand.models.unified.mixture_pass import mixture_divergence
from evenhand.models.unified.tuple_pass import tuple_log_probs

__all__ = ["MixtureAsked", "TupleScorer"]


@dataclass(frozen=True, slots=True)
class MixtureAsked:
    """What the likelihood of the mixture is taken of.

    Attributes:
        mixed: For each tuple the prefixes that ask for each group.
        pictures: For each tuple which of its pictures are looked at; as many for each.
        anchored: For each tuple whether they are compared under the prompts that ask for them, with themselves before.
        guidance: For each tuple the weight of guidance at which the network is asked.
        mixed_guidance: For each tuple that at which the mixture is.
        shares: Of the groups.
    """

    mixed: Sequence[Sequence[tuple[int, ...]]]
    pictures: Sequence[Sequence[int]]
    anchored: Sequence[bool]
    guidance: Sequence[float]
    mixed_guidance: Sequence[float]
    shares: Sequence[float]


class TupleScorer(nn.Module):
    """The log-probabilities of tuples under a model.

    Args:
        family: Its language model reads.
        network: The family's model, or the adapter around it: what is trained and stored.
        guidance: Of log-probabilities, as ``tuple_log_probs``.
        one_at_a_time: As ``tuple_log_probs``.
    """

    def __init__(
        self, family: Family, network: nn.Module, *, guidance: float = 1.0, one_at_a_time: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self._family, self._guidance, self._one_at_a_time = family, guidance, one_at_a_time

    def train(self, mode: bool = True) -> "TupleScorer":
        """As every module's, for the language model alone."""
        super().train(mode)
        train_language_model_alone(self._family, mode)
        return self

    def forward(
        self,
        prefixes: Sequence[tuple[int, ...]],
        codes: Int[Tensor, "tuples groups codes"],
        *,
        scored: bool = True,
        mixture: MixtureAsked | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Log-probabilities (tuples, groups, codes), and divergences from the mixture (tuples, pictures, codes).

        Args:
            prefixes: One a tuple.
            codes: Of its pictures.
            scored: Whether log-probabilities are wanted, in nats, at most 0, float32.
            mixture: Where divergences are wanted, in nats, 0 or more, float32.
        """
        told = None
        if scored:
            told = tuple_log_probs(
                self._family, prefixes, codes, guidance=self._guidance, one_at_a_time=self._one_at_a_time
            )
        return told, None if mixture is None else self._divergence(prefixes, codes, mixture)

    def _divergence(self, prefixes: Sequence[tuple[int, ...]], codes: Tensor, mixture: MixtureAsked) -> Tensor:
        rows = [(one, picture) for one, chosen in enumerate(mixture.pictures) for picture in chosen]
        found = mixture_divergence(
            self._family,
            [mixture.mixed[one][k] if mixture.anchored[one] else prefixes[one] for one, k in rows],
            # A mixture of a prompt with itself is the prompt: what is compared is the network with itself before.
            [
                [mixture.mixed[one][k]] * len(mixture.shares) if mixture.anchored[one] else mixture.mixed[one]
                for one, k in rows
            ],
            torch.stack([codes[one, picture] for one, picture in rows]),
            shares=mixture.shares,
            guidance=[mixture.guidance[one] for one, _ in rows],
            mixed_guidance=[mixture.mixed_guidance[one] for one, _ in rows],
            reference=self._before,
        )
        return found.view(len(prefixes), -1, codes.shape[2])

    def _before(self) -> AbstractContextManager[None]:
        """The network before training: the adapter switched off."""
        adapted: Any = self.network
        off: AbstractContextManager[None] = adapted.disable_adapter()
        return off

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Make activations again in the backward pass; the trainer calls this."""
        self._family.model.activation_checkpointing_enable(
            activation_checkpointing_kwargs=activation_checkpointing_kwargs, **options
        )
