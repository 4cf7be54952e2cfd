"""Additive log-odds of fitted words. In: labelled texts. Out: a scorer for every tokenizer, exact to the word.

A multinomial logistic regression on word counts. Its words are those of the text, not of a tokenizer, so that one
artefact serves every language model, and what a word contributes is its weight: attributions are exact.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evenhand.classify.calibration import FitReport
from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.ala.numbers import softmax
from evenhand.mitigate.ala.text.artefact import ScorerRecord, check_start, read_folder, settings_of, take
from evenhand.mitigate.ala.text.running import Reading, TokenByToken, WordReader
from evenhand.mitigate.ala.text.spelling import spelled, words_of
from evenhand.mitigate.ala.weights import TokenWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AdditiveScorer", "fit_additive"]

_KEPT = 1 << 17
"""Ids of texts whose reading is remembered; then it begins anew."""
_TRIED = 4
"""Lengths at which a text's beginning is looked for; reading it from the start costs as much as a few of them."""


class AdditiveScorer:
    r"""Each group's log-odds are a sum over the words of the text.

    .. math:: L_k = b_k + \sum_{j \le t} d^{\,t-j}\, w_k(\mathrm{words\ that\ end\ at\ token\ } j),
              \qquad \mathrm{share} = \mathrm{softmax}(L / T)

    With decay d = 1, the default, this is the logistic regression on the decoded text: the word a text ends with
    counts as it stands. d below 1 lets early words fade, token by token. Unknown words give nothing.

    Args:
        record: What it is.
        words: Lower-case, each once.
        weights: w, in nats.
        bias: b, in nats.
        decay: d, in [0, 1].

    Raises:
        BadInputError: ``decay`` is out of range, or sizes do not agree.
    """

    def __init__(
        self,
        record: ScorerRecord,
        words: Sequence[str],
        weights: Float[Tensor, "words groups"],
        bias: Float[Tensor, " groups"],
        *,
        decay: float = 1.0,
    ) -> None:
        if not isfinite(decay) or not 0 <= decay <= 1:
            raise BadInputError(f"decay: got {decay}; allowed: a number in [0, 1].")
        groups = len(record.groups)
        if weights.shape != (len(words), groups) or bias.shape != (groups,) or len(set(words)) != len(words):
            raise BadInputError(
                f"got {len(words)} words, weights {tuple(weights.shape)}, bias {tuple(bias.shape)}, {groups} groups; "
                "give each word once, with a row of weights."
            )
        self.record, self._words, self._weights, self._bias = record, tuple(words), weights.float(), bias.float()
        self._decay = decay
        self.settings: Mapping[str, object] = {**settings_of(record, self.tensors()), "decay": decay}
        self._readers: dict[str, tuple[WordReader, TokenByToken]] = {}

    @classmethod
    def from_tensors(cls, record: ScorerRecord, tensors: Mapping[str, Tensor]) -> "AdditiveScorer":
        """A stored scorer.

        Raises:
            ArtefactError: Tensors of other names or shapes.
        """
        groups = len(record.groups)
        take(tensors, {"words": (None,), "weights": (None, groups), "bias": (groups,)}, "additive")
        try:
            words = bytes(tensors["words"].to(torch.uint8).tolist()).decode("utf-8").split("\n")
            return cls(record, words, tensors["weights"], tensors["bias"])
        except (UnicodeDecodeError, BadInputError) as error:
            raise ArtefactError(f"additive text scorer: {error} Fit it again.") from error

    @classmethod
    def from_pretrained(cls, folder: Path, *, decay: float = 1.0) -> "AdditiveScorer":
        """The scorer of a folder; see ``load_scorer`` for what is refused."""
        stored = cls.from_tensors(*read_folder(folder, "additive"))
        return cls(stored.record, stored._words, stored._weights, stored._bias, decay=decay)

    def tensors(self) -> dict[str, Tensor]:
        """The words as UTF-8 bytes, one a line, their weights, and the bias."""
        raw = "\n".join(self._words).encode("utf-8")
        return {
            "words": torch.frombuffer(bytearray(raw), dtype=torch.uint8),
            "weights": self._weights,
            "bias": self._bias,
        }

    def with_report(self, report: FitReport) -> "AdditiveScorer":
        """The same scorer, measured."""
        return AdditiveScorer(
            replace(self.record, report=report), self._words, self._weights, self._bias, decay=self._decay
        )

    def word_table(self) -> dict[str, tuple[int, float]]:
        r"""What each word stands for: word -> (index of the group, weight).

        The group is that of the largest w_k; the weight is :math:`w_k - \mathrm{mean}_{j \ne k} w_j`, divided by the
        largest of all, in (0, 1]. Integrated gradients of this scorer give the same, exactly.
        """
        weights = self._weights.double()
        top, group = weights.max(dim=1)
        size = (top - weights.mean(dim=1)) * (weights.shape[1] / (weights.shape[1] - 1))
        scaled = (size / size.max().clamp(min=torch.finfo(size.dtype).tiny)).tolist()
        return {
            word: (place, weight)
            for word, place, weight in zip(self._words, group.tolist(), scaled, strict=True)
            if weight > 0
        }

    def logits(self, texts: Sequence[str]) -> Float[np.ndarray, "texts groups"]:
        """L of whole texts, read as words (d = 1), before the temperature."""
        place = {word: i for i, word in enumerate(self._words)}
        rows = [[place[word] for word in words_of(text) if word in place] for text in texts]
        total = torch.stack([self._bias + self._weights[row].sum(dim=0) for row in rows])
        return np.asarray(total.double().numpy())

    def start(self, weights: TokenWeights, tokenizer: "PreTrainedTokenizerBase") -> "AdditiveState":
        """Ready for one batch; a tokenizer's vocabulary is read once."""
        check_start(self.record, weights)
        if weights.tokenizer not in self._readers:
            given = dict(zip(self._words, self._weights.tolist(), strict=True))
            reader = WordReader.of(spelled(tokenizer), given, len(self.record.groups))
            self._readers[weights.tokenizer] = reader, TokenByToken(reader)
        reader, by_token = self._readers[weights.tokenizer]
        return AdditiveState(
            reader.to(weights.token_ids.device),
            by_token,
            self._bias.to(weights.token_ids.device),
            temperature=self.record.temperature,
            decay=self._decay,
        )


class AdditiveState:
    """An ``AdditiveScorer`` at work on one batch.

    ``shares`` reads all ids at every call, with elementwise operations that wait for no device. ``shares_of`` reads
    token by token, and finds what was read again by the text's ids: rows may be reordered, or left out for some steps.

    Attributes:
        by_token: None: a share depends on the whole text.
    """

    def __init__(
        self,
        reader: WordReader,
        by_token: TokenByToken,
        bias: Float[Tensor, " groups"],
        *,
        temperature: float,
        decay: float,
    ) -> None:
        self._reader, self._by_token, self._temperature, self._decay = reader, by_token, temperature, decay
        self._bias, self._biases = bias, bias.tolist()
        self._texts: dict[tuple[int, ...], Reading] = {}
        self._lengths: list[int] = []  # of the texts, ascending
        self._ids = 0
        self.by_token: Float[Tensor, "states tokens groups"] | None = None

    def shares(
        self,
        written: Int[Tensor, "rows written"],
        candidates: Int[Tensor, "rows candidates"],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "rows candidates groups"]:
        """Each group's share once each candidate is added; see ``TextState``."""
        read = self._reader.read(written)
        earlier = self._reader.given(written, read)
        if self._decay < 1:
            age = torch.arange(written.shape[1], 0, -1, device=written.device, dtype=earlier.dtype)
            earlier = earlier * (self._decay**age)[:, None]
        logits = self._bias + earlier.sum(dim=1)[:, None] + self._reader.add(read.open, candidates)
        return torch.softmax(logits / self._temperature, dim=-1)

    def shares_of(
        self,
        written: Sequence[Sequence[int]],
        candidates: Sequence[int],
        hidden: Float[Tensor, "rows hidden"] | None = None,  # noqa: ARG002
    ) -> list[list[float]]:
        """The same of one candidate a row; see ``RowState``."""
        shares = []
        for row, candidate in zip(written, candidates, strict=True):
            text = self._read(row)
            added = self._by_token.add(text.open, candidate)
            logits = zip(self._biases, text.total, added, strict=True)
            shares.append(softmax([sum(parts) / self._temperature for parts in logits]))
        return shares

    def _read(self, row: Sequence[int]) -> Reading:
        """A text, from the longest beginning of it that was read before."""
        ids, text, known = tuple(row), self._by_token.start, 0
        if ids in self._texts:
            return self._texts[ids]
        shorter = self._lengths[: bisect_left(self._lengths, len(ids))]
        for length in reversed(shorter[-_TRIED:]):
            if ids[:length] in self._texts:
                text, known = self._texts[ids[:length]], length
                break
        for token in ids[known:]:
            text = self._by_token.read(text, token, decay=self._decay)
        self._keep(ids, text)
        return text

    def _keep(self, ids: tuple[int, ...], text: Reading) -> None:
        if self._ids + len(ids) > _KEPT:
            self._texts.clear()
            self._lengths.clear()
            self._ids = 0
        self._texts[ids] = text
        self._ids += len(ids)
        place = bisect_left(self._lengths, len(ids))
        if place == len(self._lengths) or self._lengths[place] != len(ids):
            self._lengths.insert(place, len(ids))


def fit_additive(
    record: ScorerRecord,
    texts: Sequence[str],
    labels: Int[np.ndarray, " texts"],
    *,
    least_texts: int = 3,
    most_words: int = 20_000,
    inverse_penalty: float = 1.0,
) -> AdditiveScorer:
    """Fit the words' weights: logistic regression on word counts with an L2 penalty; no chance is involved.

    Args:
        record: What it will be; not measured yet.
        texts: At least one per group.
        labels: Index of each text's group.
        least_texts: A word must be in so many texts.
        most_words: Only the words that are in the most texts, this many.
        inverse_penalty: C of scikit-learn's ``LogisticRegression``.

    Raises:
        BadInputError: No word is in enough texts.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    counts = [Counter(words_of(text)) for text in texts]
    spread = Counter(word for row in counts for word in row)
    kept = sorted((-n, word) for word, n in spread.items() if n >= least_texts)[:most_words]
    if not kept:
        raise BadInputError(f"no word is in {least_texts} of the {len(texts)} texts; give more texts.")
    place = {word: i for i, (_, word) in enumerate(kept)}
    cells = [(row, place[word], n) for row, found in enumerate(counts) for word, n in found.items() if word in place]
    rows, columns, values = (np.array(column, dtype=np.int64) for column in zip(*cells, strict=True))
    matrix = csr_matrix((values.astype(np.float64), (rows, columns)), shape=(len(texts), len(place)))
    model = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(matrix, labels)
    weights, bias = model.coef_.T, model.intercept_
    if len(record.groups) == 2:  # scikit-learn gives the second group's log-odds; half to each is the same model
        weights, bias = np.hstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    options = {"words": len(place), "least_texts": least_texts, "inverse_penalty": inverse_penalty}
    return AdditiveScorer(
        replace(record, options={**record.options, **options}),
        tuple(place),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(bias, dtype=torch.float32),
    )
