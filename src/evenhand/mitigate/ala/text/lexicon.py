"""Log-odds of listed words. In: token weights, ids. Out: each group's share, without any training.

The scorer is additive, so its attributions are exact, and with no memory (``decay = 0``) a share depends on the
candidate and its state alone: it is a table, and no call is needed while a text is written.
"""

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WordScorer", "listed_log_odds"]

_MOST_CERTAIN = 100.0
"""Nats; alpha is 1 in float32 long before, and a sum of such words stays finite."""

_STATE = 32  # bits by which a state stands above a token id in a key of the token weights


class WordScorer:
    r"""Additive log-odds of the groups' words, with every earlier word's weight fading.

    .. math:: L_k = \sum_{j \le t} d^{\,t-j}\, w_k(y_j), \qquad \mathrm{share}_k = \mathrm{softmax}(L)_k

    w_k is ``log_odds`` times the token's weight in its state if it carries group k there, else 0; for two groups
    alpha = tanh((L_0 - L_1) / 2). With decay d = 1 the whole text counts (the paper's f_text reads the whole text),
    with d = 0 only the candidate, so that an early word cannot hide a later contradiction. A word of several pieces
    counts once, at its last piece: words that its first pieces alone would be (``hero`` in ``hero|ine``) are taken
    back.

    Args:
        log_odds: Nats a word of full weight gives for its group, in (0, 100].
        decay: d, per token, in [0, 1].

    Raises:
        BadInputError: A number is out of range.
    """

    def __init__(self, *, log_odds: float = 4.0, decay: float = 0.0) -> None:
        if not isfinite(log_odds) or not 0 < log_odds <= _MOST_CERTAIN:
            raise BadInputError(
                f"log_odds: got {log_odds}; allowed: a number of nats in (0, {_MOST_CERTAIN:g}], for example 4."
            )
        if not isfinite(decay) or not 0 <= decay <= 1:
            raise BadInputError(f"decay: got {decay}; allowed: a number in [0, 1].")
        self.log_odds, self.decay = log_odds, decay
        self.settings: Mapping[str, object] = {"kind": "words", "log_odds": log_odds, "decay": decay}

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "WordState":  # noqa: ARG002
        """Ready for one batch; the tokenizer is the one the weights were made for."""
        return WordState(weights, log_odds=self.log_odds, decay=self.decay)


class WordState:
    """A ``WordScorer`` at work on one batch; it keeps nothing between calls.

    Attributes:
        by_token: Shares of each state and listed token where only the candidate counts, else None.
    """

    def __init__(self, weights: TokenWeights, *, log_odds: float, decay: float) -> None:
        self._weights, self._decay = weights, decay
        self._log_odds = listed_log_odds(weights, log_odds)
        self._pieces_before = _pieces_before(weights) if decay > 0 and weights.depth else None
        self.by_token: Float[Tensor, "states tokens groups"] | None = None
        if decay == 0:
            self.by_token = torch.softmax(self._log_odds, dim=-1)

    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``."""
        state = self._weights.states(written)[:, None].expand_as(candidates)
        logits, taken_back = self._read(state, candidates)
        length = written.shape[1]
        if length and self._decay > 0:
            earlier, kept = self._earlier(written)
            age = torch.arange(length, 0, -1, device=written.device, dtype=logits.dtype)
            faded = earlier * (self._decay**age)[:, None]
            logits = logits + (faded * kept[..., None]).sum(dim=1)[:, None]
            for back in range(1, min(self._weights.depth, length) + 1):
                # The candidate ends a word whose earlier pieces counted as a word of their own.
                lost = (taken_back >= back).to(logits.dtype)[..., None]
                logits = logits - lost * (faded[:, -back] * kept[:, -back, None])[:, None]
        return torch.softmax(logits, dim=-1)

    def _earlier(
        self, written: Int[Tensor, "rows written"]
    ) -> tuple[Float[Tensor, "rows written groups"], Float[Tensor, "rows written"]]:
        """What each written token carries in its state, and 0 where a later piece took it back, else 1."""
        logits, taken_back = self._read(_states_before(self._weights, written), written)
        kept = torch.ones_like(logits[..., 0])
        for back in range(1, min(self._weights.depth, written.shape[1] - 1) + 1):
            kept[:, :-back] *= (taken_back[:, back:] < back).to(kept.dtype)
        return logits, kept

    def _read(
        self, states: Int[Tensor, "rows tokens"], ids: Int[Tensor, "rows tokens"]
    ) -> tuple[Float[Tensor, "rows tokens groups"], Int[Tensor, "rows tokens"]]:
        """Log-odds of tokens in their states, and how many pieces before each of them belong to the word it ends."""
        listed = self._weights.token_ids
        place = torch.searchsorted(listed, ids.contiguous()).clamp(max=listed.numel() - 1)
        found = listed[place] == ids
        logits = self._log_odds[states, place] * found[..., None]
        if self._pieces_before is None:
            return logits, torch.zeros_like(ids)
        entry = self._weights.entry
        ends = found & (entry[states, place] != entry[0, place])
        return logits, torch.where(ends, self._pieces_before[states], 0)


def listed_log_odds(weights: TokenWeights, log_odds: float) -> Float[Tensor, "states tokens groups"]:
    """Nats each listed token gives for each group in each state: ``log_odds * weight`` for its own, 0 for others."""
    groups = torch.arange(len(weights.groups), device=weights.group.device)
    own = weights.group[..., None] == groups
    return own * (log_odds * weights.weight)[..., None]


def _states_before(weights: TokenWeights, written: Int[Tensor, "rows written"]) -> Int[Tensor, "rows written"]:
    """The state in which each token was written: column j is ``weights.states(written[:, :j])``, all at once."""
    rows, length = written.shape
    columns = [torch.ones(rows, dtype=torch.int64, device=written.device)]
    for token in written[:, : min(weights.depth, length - 1)].to(torch.int64).unbind(dim=1):
        columns.append(_next(weights, (columns[-1] << _STATE) + token, _next(weights, token)))
    first = torch.stack(columns, dim=1)
    reach = weights.depth + 1  # one more id than matters says that the text did not begin there
    if length <= reach:
        return first
    windows = written[:, :-1].unfold(1, reach, 1)
    return torch.cat([first, weights.states(windows.reshape(-1, reach)).reshape(rows, -1)], dim=1)


def _next(
    weights: TokenWeights, key: Int[Tensor, " rows"], otherwise: Int[Tensor, " rows"] | int = 0
) -> Int[Tensor, " rows"]:
    place = torch.searchsorted(weights.keys, key.contiguous()).clamp(max=weights.keys.numel() - 1)
    return torch.where(weights.keys[place] == key, weights.nexts[place], otherwise)


def _pieces_before(weights: TokenWeights) -> Int[Tensor, " states"]:
    """How many pieces of a word were written in each state: 0 outside words."""
    pieces = torch.zeros(weights.group.shape[0], dtype=torch.int64, device=weights.keys.device)
    for _ in range(weights.depth):  # a state is one piece after the state that leads to it
        pieces[weights.nexts] = pieces[weights.keys >> _STATE] + 1
    return pieces
