"""A linear probe on the language model's own state. In: labelled texts, a causal LM. Out: a scorer of its states.

The state is there at every step, so reading it costs one small product. It is the state before the candidate; what the
candidate itself carries is added from the word list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.classify.calibration import FitReport
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.numbers import softmax
from evenhand.mitigate.ala.states import States
from evenhand.mitigate.ala.text.artefact import ScorerRecord, check_start, read_folder, settings_of, take
from evenhand.mitigate.ala.text.lexicon import listed_log_odds
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ProbeScorer", "fit_probe", "hidden_states"]


class ProbeScorer:
    r"""What the language model's state says, and what the candidate adds.

    .. math:: \mathrm{share} = \mathrm{softmax}\big( (W h + b) / T + \lambda\, w(c) \big)

    h is the last hidden state of the step, after the model's last norm: the state from which the candidate c is
    predicted. w(c) has the candidate's listed weight for its group and 0 elsewhere; lambda is ``log_odds``.

    Args:
        record: What it is.
        weight: W.
        bias: b.
        log_odds: Nats a listed candidate of full weight adds, in [0, 100]; 0 reads the state alone.

    Raises:
        BadInputError: ``log_odds`` is out of range, or sizes do not agree.
    """

    wants_hidden = True
    """Hosts hand the state over."""

    def __init__(
        self,
        record: ScorerRecord,
        weight: Float[Tensor, "groups hidden"],
        bias: Float[Tensor, " groups"],
        *,
        log_odds: float = 4.0,
    ) -> None:
        if not isfinite(log_odds) or not 0 <= log_odds <= 100:
            raise BadInputError(f"log_odds: got {log_odds}; allowed: a number of nats in [0, 100], for example 4.")
        if weight.shape[0] != len(record.groups) or bias.shape != weight.shape[:1]:
            raise BadInputError(
                f"got W of {tuple(weight.shape)} and b of {tuple(bias.shape)} for {len(record.groups)} groups."
            )
        self.record, self._weight, self._bias = record, weight.float(), bias.float()
        self.log_odds = log_odds
        self.settings: Mapping[str, object] = {**settings_of(record, self.tensors()), "log_odds": log_odds}

    @classmethod
    def from_tensors(cls, record: ScorerRecord, tensors: Mapping[str, Tensor]) -> "ProbeScorer":
        """A stored scorer.

        Raises:
            ArtefactError: Tensors of other names or shapes.
        """
        take(tensors, {"weight": (len(record.groups), None), "bias": (len(record.groups),)}, "probe")
        return cls(record, tensors["weight"], tensors["bias"])

    @classmethod
    def from_pretrained(cls, folder: Path, *, log_odds: float = 4.0) -> "ProbeScorer":
        """The scorer of a folder; see ``load_scorer`` for what is refused."""
        stored = cls.from_tensors(*read_folder(folder, "probe"))
        return cls(stored.record, stored._weight, stored._bias, log_odds=log_odds)

    def tensors(self) -> dict[str, Tensor]:
        """W and b."""
        return {"weight": self._weight, "bias": self._bias}

    def with_report(self, report: FitReport) -> "ProbeScorer":
        """The same scorer, measured."""
        return ProbeScorer(replace(self.record, report=report), self._weight, self._bias, log_odds=self.log_odds)

    def logits(self, hidden: Float[np.ndarray, "texts hidden"]) -> Float[np.ndarray, "texts groups"]:
        """W h + b, before the temperature."""
        return np.asarray(hidden @ self._weight.double().numpy().T + self._bias.double().numpy())

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "ProbeState":  # noqa: ARG002
        """Ready for one batch."""
        check_start(self.record, weights)
        device = weights.token_ids.device
        return ProbeState(
            weights,
            self._weight.to(device) / self.record.temperature,
            self._bias.to(device) / self.record.temperature,
            log_odds=self.log_odds,
        )


class ProbeState:
    """A ``ProbeScorer`` at work on one batch; it keeps nothing between calls.

    Attributes:
        by_token: None: a share depends on the model's state.
    """

    def __init__(
        self,
        weights: TokenWeights,
        weight: Float[Tensor, "groups hidden"],
        bias: Float[Tensor, " groups"],
        *,
        log_odds: float,
    ) -> None:
        self._token_ids, self._states = weights.token_ids, States(weights)
        self._weight, self._bias = weight.T.contiguous(), bias
        self._listed = listed_log_odds(weights, log_odds)
        self._column = {token: column for column, token in enumerate(weights.token_ids.tolist())}
        self._nothing = [0.0] * len(weights.groups)
        self.by_token: Float[Tensor, "states tokens groups"] | None = None

    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``.

        Raises:
            BadInputError: ``hidden`` is absent or of another width.
        """
        logits = self._read(hidden)
        ids = self._token_ids
        place = torch.searchsorted(ids, candidates.contiguous()).clamp(max=ids.numel() - 1)
        listed = (ids[place] == candidates)[..., None]
        state = self._states.of(written)[:, None]
        return torch.softmax(logits[:, None] + self._listed[state, place] * listed, dim=-1)

    def shares_of(
        self,
        written: Sequence[Sequence[int]],
        candidates: Sequence[int],
        hidden: Float[Tensor, "rows hidden"] | None = None,
    ) -> list[list[float]]:
        """The same of one candidate a row; see ``RowState``."""
        states, shares = self._states.listed(written), []
        for logits, state, candidate in zip(self._read(hidden).tolist(), states, candidates, strict=True):
            column = self._column.get(candidate)
            added = self._nothing if column is None else self._listed[state, column].tolist()
            shares.append(softmax([one + other for one, other in zip(logits, added, strict=True)]))
        return shares

    def _read(self, hidden: Float[Tensor, "rows hidden"] | None) -> Float[Tensor, "rows groups"]:
        """What the model's state says."""
        width = self._weight.shape[0]
        if hidden is None or hidden.shape[1] != width:
            got = "none" if hidden is None else f"width {hidden.shape[1]}"
            raise BadInputError(
                f"the probe reads the language model's last hidden state, width {width}; got {got}. Start the hook "
                "with hidden=, from the model the probe was fitted on, or use another text scorer."
            )
        return torch.addmm(self._bias, hidden.float(), self._weight)


@torch.inference_mode()
def hidden_states(
    lm: Any,
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "rows hidden"]:
    """The last hidden state at the last token of each text, after the model's last norm.

    Args:
        lm: A transformers causal LM; its body is run without the vocabulary's product.
        rows: Ids of each text with the special tokens the model expects before a text.
        batch_size: Texts at once.
        progress: Called with (texts done, texts).
    """
    body = lm.base_model
    order = np.argsort([len(row) for row in rows], kind="stable")
    found: list[Float[np.ndarray, "batch hidden"]] = []
    for first in range(0, len(rows), batch_size):
        batch = [list(rows[i]) for i in order[first : first + batch_size]]
        width = max(map(len, batch))
        # Padded at the right: a causal model's earlier positions do not see what follows.
        ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in batch], device=lm.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=lm.device)
        states = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = states[torch.arange(len(batch)), mask.sum(dim=1) - 1]
        found.append(last.double().cpu().numpy())
        if progress is not None:
            progress(min(first + batch_size, len(rows)), len(rows))
    states_of = np.empty((len(rows), found[0].shape[1]))
    states_of[order] = np.concatenate(found)
    return states_of


def fit_probe(
    record: ScorerRecord,
    hidden: Float[np.ndarray, "texts hidden"],
    labels: Int[np.ndarray, " texts"],
    *,
    inverse_penalty: float = 0.01,
) -> ProbeScorer:
    """Fit W and b: logistic regression on standardised states, the scale then put into W; no chance is involved.

    Args:
        record: What it will be; not measured yet.
        hidden: From ``hidden_states``.
        labels: Index of each text's group.
        inverse_penalty: C of scikit-learn's ``LogisticRegression``.

    Raises:
        BadInputError: The states hold NaN or infinity.
    """
    from sklearn.linear_model import LogisticRegression

    if not np.isfinite(hidden).all():
        raise BadInputError("the language model's hidden states hold NaN or infinity; load it in float32 or bfloat16.")
    mean, spread = hidden.mean(axis=0), hidden.std(axis=0) + 1e-6
    model = LogisticRegression(C=inverse_penalty, max_iter=2000).fit((hidden - mean) / spread, labels)
    weight, bias = model.coef_, model.intercept_
    if len(record.groups) == 2:  # scikit-learn gives the second group's log-odds; half to each is the same model
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    bias = bias - weight @ mean
    options = {"inverse_penalty": inverse_penalty, "hidden_size": int(hidden.shape[1])}
    return ProbeScorer(
        replace(record, options={**record.options, **options}),
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor(bias, dtype=torch.float32),
    )
