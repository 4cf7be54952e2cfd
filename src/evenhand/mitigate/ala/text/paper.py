"""The paper's text classifier. In: labelled texts, the language model's tokenizer. Out: a scorer, or its logits.

ALA (ICLR 2026) and its released code: an embedding of the language model's own vocabulary, a small bidirectional
encoder, a masked mean, a linear layer. One departs from the release on purpose: only generated text is read, and an
untrained network is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from evenhand.classify.calibration import FitReport
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, check_start, read_folder, settings_of, take
from evenhand.mitigate.ala.text.training import Schedule, idle_decay, logits_of, train_network
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WINDOW", "PaperNetwork", "PaperScorer", "fit_paper", "paper_logits"]

WINDOW = 128
"""Tokens the network reads."""

_WIDTH, _HEADS, _FEED_FORWARD, _LAYERS, _DROPOUT = 128, 4, 2048, 2, 0.1
_AT_ONCE = 256  # texts in one forward pass


class PaperNetwork(nn.Module):
    """Token and learned position embeddings of 128, two post-norm ReLU encoder layers of 4 heads, masked mean, linear.

    Ids beyond the vocabulary are read as its last one, as in the release.

    Args:
        vocabulary: Number of token ids.
        groups: Number of logits.
    """

    def __init__(self, vocabulary: int, groups: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, _WIDTH)
        self.position = nn.Embedding(WINDOW, _WIDTH)
        self.dropout = nn.Dropout(_DROPOUT)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, _FEED_FORWARD, _DROPOUT, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(_WIDTH, groups)

    def embed(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens 128"]:
        """Token embeddings, positions not included."""
        found: Tensor = self.token(ids.clamp(max=self.token.num_embeddings - 1))
        return found

    def from_embeddings(
        self, embeddings: Float[Tensor, "rows tokens 128"], mask: Bool[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows groups"]:
        """Logits from token embeddings; positions are added here, so they stay where a baseline is all zeros."""
        place = torch.arange(embeddings.shape[1], device=embeddings.device)
        encoded = self.encoder(self.dropout(embeddings + self.position(place)), src_key_padding_mask=~mask)
        own = mask[..., None].to(encoded.dtype)
        logits: Tensor = self.head((encoded * own).sum(dim=1) / own.sum(dim=1))
        return logits

    def forward(
        self, ids: Int[Tensor, "rows tokens"], mask: Bool[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows groups"]:
        """Logits from ids."""
        return self.from_embeddings(self.embed(ids), mask)


class PaperScorer:
    r"""What the text so far and the candidate carry, as the paper's classifier reads them.

    By default the last 128 tokens are read and share = softmax(logits / T), so for two groups
    :math:`\alpha = \tanh((\ell_0 - \ell_1) / 2T)`. With ``paper=True`` it is as released: the first 128 tokens, and
    :math:`\alpha = 2\sigma(\ell_0) - 1` with the first group's logit alone, which cross-entropy does not identify (a
    constant added to both logits changes it).

    Args:
        record: What it is.
        network: Trained.
        paper: As released.

    Raises:
        BadInputError: ``paper`` with more than two groups.
    """

    def __init__(self, record: ScorerRecord, network: PaperNetwork, *, paper: bool = False) -> None:
        if paper and len(record.groups) != 2:
            raise BadInputError(
                f"paper=True is defined for two groups, got {len(record.groups)} ({', '.join(record.groups)}); "
                "use paper=False."
            )
        self.record, self._network, self._paper = record, network.eval(), paper
        self.settings: Mapping[str, object] = {**settings_of(record, self.tensors()), "paper": paper}

    @classmethod
    def from_tensors(cls, record: ScorerRecord, tensors: Mapping[str, Tensor]) -> "PaperScorer":
        """A stored scorer.

        Raises:
            ArtefactError: Tensors of other names or shapes.
        """
        found = tensors.get("token.weight")
        vocabulary = found.shape[0] if found is not None and found.ndim == 2 and found.shape[0] else 1
        with torch.device("meta"):
            network = PaperNetwork(vocabulary, len(record.groups))
        take(tensors, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, "paper")
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        return cls(record, network)

    @classmethod
    def from_pretrained(cls, folder: Path, *, paper: bool = False) -> "PaperScorer":
        """The scorer of a folder; see ``load_scorer`` for what is refused."""
        stored = cls.from_tensors(*read_folder(folder, "paper"))
        return cls(stored.record, stored._network, paper=paper)

    def tensors(self) -> dict[str, Tensor]:
        """The network's weights."""
        return {name: tensor.detach() for name, tensor in self._network.state_dict().items()}

    def with_report(self, report: FitReport) -> "PaperScorer":
        """The same scorer, measured."""
        return PaperScorer(replace(self.record, report=report), self._network, paper=self._paper)

    def embed(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens 128"]:
        """Token embeddings, without positions."""
        return self._network.embed(ids)

    def logits_from_embeddings(
        self, embeddings: Float[Tensor, "rows tokens 128"], mask: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows groups"]:
        """Logits from token embeddings, with gradients: what integrated gradients are taken through.

        Args:
            embeddings: At most 128 tokens; positions are added inside.
            mask: True where a token counts; all by default.
        """
        if mask is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        return self._network.from_embeddings(embeddings, mask)

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "PaperState":  # noqa: ARG002
        """Ready for one batch."""
        check_start(self.record, weights)
        network = self._network.to(weights.token_ids.device)
        return PaperState(network, temperature=self.record.temperature, paper=self._paper)


class PaperState:
    """A ``PaperScorer`` at work on one batch; it keeps nothing between calls.

    Attributes:
        by_token: None: a share depends on the whole text.
    """

    def __init__(self, network: PaperNetwork, *, temperature: float, paper: bool) -> None:
        self._network, self._temperature, self._paper = network, temperature, paper
        self.by_token: Float[Tensor, "states tokens groups"] | None = None

    @torch.no_grad()
    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``. One text per row and candidate."""
        rows, each = candidates.shape
        earlier = written[:, None].expand(-1, each, -1)
        texts = torch.cat([earlier, candidates[..., None]], dim=-1)
        texts = (texts[..., :WINDOW] if self._paper else texts[..., -WINDOW:]).reshape(rows * each, -1)
        parts = [self._network(part, torch.ones_like(part, dtype=torch.bool)) for part in torch.split(texts, _AT_ONCE)]
        logits = torch.cat(parts).reshape(rows, each, -1)
        if self._paper:
            first = torch.sigmoid(logits[..., 0])
            return torch.stack([first, 1 - first], dim=-1)
        return torch.softmax(logits / self._temperature, dim=-1)


def fit_paper(
    record: ScorerRecord,
    rows: Sequence[Sequence[int]],
    labels: Int[np.ndarray, " texts"],
    *,
    vocabulary: int,
    schedule: Schedule,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> PaperScorer:
    """Train the network with cross-entropy; not measured yet.

    Args:
        record: What it will be.
        rows: Ids of each text, no special tokens: what a generated text looks like.
        labels: Index of each text's group.
        vocabulary: Number of token ids.
        schedule: The release uses AdamW at 2e-5, batches of 16, 3 to 10 epochs on 100,000 texts and more.
        seed: Of the first weights, the batches and the dropout.
        progress: Called with (texts seen, texts to see).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PaperNetwork(vocabulary, len(record.groups))
    windows = [row[-WINDOW:] for row in rows]
    # Rows of the vocabulary that no text uses only decay: trained without them, a large vocabulary costs no more.
    used = torch.tensor(sorted({token for row in windows for token in row}), dtype=torch.int64)
    whole = network.token.weight.detach() * idle_decay(schedule, len(rows))
    network.token = nn.Embedding(used.numel(), _WIDTH, _weight=network.token.weight.detach()[used])
    place = {token: i for i, token in enumerate(used.tolist())}
    compact = [[place[token] for token in row] for row in windows]

    def loss(ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(ids, mask), wanted)

    train_network(network, loss, compact, labels, schedule=schedule, seed=seed, progress=progress)
    whole[used] = network.token.weight.detach()
    network.token = nn.Embedding(vocabulary, _WIDTH, _weight=whole)
    options = {"epochs": schedule.epochs, "learning_rate": schedule.learning_rate, "batch_size": schedule.batch_size}
    return PaperScorer(replace(record, options={**record.options, **options}), network)


def paper_logits(scorer: PaperScorer, rows: Sequence[Sequence[int]]) -> Float[np.ndarray, "texts groups"]:
    """Logits of whole texts, their last 128 tokens read, before the temperature."""
    return logits_of(
        lambda ids, mask: scorer.logits_from_embeddings(scorer.embed(ids), mask), [r[-WINDOW:] for r in rows]
    )
