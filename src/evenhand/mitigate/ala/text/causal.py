"""A small recurrent text classifier. In: labelled texts, a tokenizer. Out: a scorer that reads each token once.

A GRU of 128 units over the tokens seen in training (at most 6,000; every other token is one and the same), and the
largest value each unit has had so far. Stored in half precision: less than 2 MB for every tokenizer.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from evenhand.classify.calibration import FitReport
from evenhand.errors import ArtefactError
from evenhand.mitigate.ala.text.artefact import ScorerRecord, check_start, read_folder, settings_of, take
from evenhand.mitigate.ala.text.prefix import PrefixStates
from evenhand.mitigate.ala.text.training import Schedule, logits_of, train_network
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CausalNetwork", "CausalScorer", "causal_logits", "fit_causal"]

_WIDTH = 128
_MOST_TOKENS = 6_000
_LEAST_SEEN = 2
_HIDDEN_TOKENS = 0.03  # share of training tokens replaced by the unknown one, so that it learns something
_LONGEST = 256  # tokens of a training text


class CausalNetwork(nn.Module):
    """Embedding of known tokens, GRU, running maximum, linear.

    Row 0 of the embedding is every unknown token.

    Args:
        token_ids: Ascending ids of the known tokens.
        groups: Number of logits.
    """

    token_ids: Tensor

    def __init__(self, token_ids: Int[Tensor, " tokens"], groups: int) -> None:
        super().__init__()
        self.register_buffer("token_ids", token_ids)
        self.token = nn.Embedding(token_ids.numel() + 1, _WIDTH)
        self.gru = nn.GRU(_WIDTH, _WIDTH, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * _WIDTH, groups)

    def rows_of(self, ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Rows of the embedding; 0 for unknown ids."""
        place = torch.searchsorted(self.token_ids, ids.contiguous()).clamp(max=self.token_ids.numel() - 1)
        return torch.where(self.token_ids[place] == ids, place + 1, 0)

    def from_embeddings(self, embeddings: Float[Tensor, "rows tokens 128"]) -> Float[Tensor, "rows tokens groups"]:
        """Logits after every token, from token embeddings."""
        hidden, _ = self.gru(embeddings)
        logits: Tensor = self.head(self.dropout(torch.cat([hidden, hidden.cummax(dim=1).values], dim=-1)))
        return logits

    def forward(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens groups"]:
        """Logits after every token."""
        rows = self.rows_of(ids)
        if self.training:
            rows = torch.where(torch.rand(rows.shape, device=rows.device) < _HIDDEN_TOKENS, 0, rows)
        return self.from_embeddings(self.token(rows))


class CausalScorer:
    r"""What a GRU says after the text and the candidate: share = softmax(logits / T).

    .. math:: h_t = \mathrm{GRU}(h_{t-1}, e(y_t)), \quad m_t = \max(m_{t-1}, h_t), \quad \ell = W [h_t, m_t] + b

    A token costs one step, whatever the length of the text; a candidate half of one.

    Args:
        record: What it is.
        network: Trained.
    """

    def __init__(self, record: ScorerRecord, network: CausalNetwork) -> None:
        self.record, self._network = record, network.eval()
        self.settings: Mapping[str, object] = settings_of(record, self.tensors())

    @classmethod
    def from_tensors(cls, record: ScorerRecord, tensors: Mapping[str, Tensor]) -> "CausalScorer":
        """A stored scorer.

        Raises:
            ArtefactError: Tensors of other names or shapes, or ids that do not ascend.
        """
        ids = tensors.get("token_ids")
        known = ids.to(torch.int64) if ids is not None and ids.ndim == 1 and ids.numel() else torch.zeros(1).long()
        network = CausalNetwork(known, len(record.groups))
        take(tensors, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, "causal")
        if bool((known[1:] <= known[:-1]).any()) or int(known[0]) < 0:
            raise ArtefactError("causal text scorer: token ids are not ascending and unique; fit it again.")
        network.load_state_dict({k: known if k == "token_ids" else v.float() for k, v in tensors.items()})
        return cls(record, network)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "CausalScorer":
        """The scorer of a folder; see ``load_scorer`` for what is refused."""
        return cls.from_tensors(*read_folder(folder, "causal"))

    def tensors(self) -> dict[str, Tensor]:
        """The network's weights in half precision, and the known ids."""
        state = self._network.state_dict()
        return {k: v.detach().to(torch.int32 if k == "token_ids" else torch.float16) for k, v in state.items()}

    def with_report(self, report: FitReport) -> "CausalScorer":
        """The same scorer, measured."""
        return CausalScorer(replace(self.record, report=report), self._network)

    def embed(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens 128"]:
        """Token embeddings."""
        found: Tensor = self._network.token(self._network.rows_of(ids))
        return found

    def logits_from_embeddings(
        self, embeddings: Float[Tensor, "rows tokens 128"], mask: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows groups"]:
        """Logits after each row's last token, with gradients.

        Args:
            embeddings: From ``embed``.
            mask: True where a token is the row's own, which must be a row's first ones; all by default.
        """
        every = self._network.from_embeddings(embeddings)
        if mask is None:
            return every[:, -1]
        return _last(every, mask)

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "CausalState":  # noqa: ARG002
        """Ready for one batch."""
        check_start(self.record, weights)
        return CausalState(self._network.to(weights.token_ids.device), temperature=self.record.temperature)


class CausalState:
    """A ``CausalScorer`` at work on one batch; states are kept by what was written, see ``PrefixStates``.

    Attributes:
        by_token: None: a share depends on the whole text.
    """

    def __init__(self, network: CausalNetwork, *, temperature: float) -> None:
        self._network, self._temperature = network, temperature
        self.by_token: Float[Tensor, "states tokens groups"] | None = None
        parameters = {name: tensor.detach() for name, tensor in network.gru.named_parameters()}
        self._hidden_weight, self._hidden_bias = parameters["weight_hh_l0"], parameters["bias_hh_l0"]
        # What each token gives the gates, once: a step is then a look-up and one product.
        gates = network.token.weight.detach() @ parameters["weight_ih_l0"].T
        self._gates = gates + parameters["bias_ih_l0"]
        start = torch.cat([torch.zeros(_WIDTH), torch.full((_WIDTH,), -1.0)])  # a GRU's values lie in (-1, 1)
        self.prefixes = PrefixStates(start.to(self._gates.device), self._step)

    @torch.no_grad()
    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``."""
        state = self.prefixes.at(written)
        value = self._advance(state[:, None, :_WIDTH], self._network.rows_of(candidates))
        logits = self._network.head(torch.cat([value, torch.maximum(value, state[:, None, _WIDTH:])], dim=-1))
        return torch.softmax(logits / self._temperature, dim=-1)

    @torch.no_grad()
    def _step(self, states: Float[Tensor, "rows size"], ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows size"]:
        value = self._advance(states[:, None, :_WIDTH], self._network.rows_of(ids)[:, None])[:, 0]
        return torch.cat([value, torch.maximum(value, states[:, _WIDTH:])], dim=-1)

    def _advance(
        self, hidden: Float[Tensor, "rows 1 128"], rows: Int[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows tokens 128"]:
        """One step of the GRU from each row's state for each of some tokens (Cho et al. 2014, reset after)."""
        before = hidden @ self._hidden_weight.T + self._hidden_bias
        reset_h, update_h, new_h = torch.split(before, _WIDTH, dim=-1)
        reset_x, update_x, new_x = torch.split(self._gates[rows], _WIDTH, dim=-1)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        update = torch.sigmoid(update_x + update_h)
        return (1 - update) * new + update * hidden


def fit_causal(
    record: ScorerRecord,
    rows: Sequence[Sequence[int]],
    labels: Int[np.ndarray, " texts"],
    *,
    schedule: Schedule,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> CausalScorer:
    """Train with cross-entropy after the last token, and a third of it after every token; not measured yet.

    Args:
        record: What it will be.
        rows: Ids of each text, no special tokens; the first 256 are used.
        labels: Index of each text's group.
        schedule: How.
        seed: Of the first weights, the batches and the dropout.
        progress: Called with (texts seen, texts to see).
    """
    cut = [row[:_LONGEST] for row in rows]
    spread = Counter(token for row in cut for token in set(row))
    often = sorted((-n, token) for token, n in spread.items() if n >= _LEAST_SEEN)[:_MOST_TOKENS]
    known = torch.tensor(sorted(token for _, token in often) or [0], dtype=torch.int64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CausalNetwork(known, len(record.groups))

    def loss(ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        every = network(ids)
        each = nn.functional.cross_entropy(every.transpose(1, 2), wanted[:, None].expand(mask.shape), reduction="none")
        last = nn.functional.cross_entropy(_last(every, mask), wanted)
        return last + (each * mask).sum() / mask.sum() / 3

    train_network(network, loss, cut, labels, schedule=schedule, seed=seed, progress=progress)
    with torch.no_grad():  # what is measured is what is stored
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    options = {"epochs": schedule.epochs, "learning_rate": schedule.learning_rate, "batch_size": schedule.batch_size}
    return CausalScorer(replace(record, options={**record.options, **options, "tokens": known.numel()}), network)


def causal_logits(scorer: CausalScorer, rows: Sequence[Sequence[int]]) -> Float[np.ndarray, "texts groups"]:
    """Logits after the last token of whole texts, before the temperature."""
    return logits_of(lambda ids, mask: scorer.logits_from_embeddings(scorer.embed(ids), mask), rows)


def _last(
    every: Float[Tensor, "rows tokens groups"], mask: Bool[Tensor, "rows tokens"]
) -> Float[Tensor, "rows groups"]:
    """The values after each row's last token."""
    return every[torch.arange(len(every), device=every.device), mask.sum(dim=1) - 1]
