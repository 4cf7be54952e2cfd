"""How much each token matters to a text classifier. In: a classifier and tokens, or texts. Out: importances (beta).

Integrated gradients on token embeddings, summed over the embedding's dimensions. Where one place of a text varies
and the rest stays, the sum equals the change of the output (completeness), so that a vocabulary needs one forward
pass a token and no gradient. In texts several tokens vary at once, and the integral is taken.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from evenhand.errors import BadInputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Baseline",
    "EmbeddingClassifier",
    "TokenImportance",
    "VocabularyPieces",
    "completeness_importance",
    "corpus_importance",
    "integrated_gradients",
    "pieces_of_vocabulary",
    "sequence_importance",
]

Baseline = Literal["zero", "pad"]
"""What stands in a token's place where it is absent: an embedding of zeros (ALA), or the padding token's."""


@runtime_checkable
class EmbeddingClassifier(Protocol):
    """A text classifier whose token embeddings can be given to it, for example ``PaperScorer``; no base class.

    One on a device moves the ids it is given there.
    """

    def embed(self, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens width"]:
        """The embeddings of tokens alone: what depends on their position is added by ``logits_from_embeddings``."""
        ...

    def logits_from_embeddings(
        self, embeddings: Float[Tensor, "rows tokens width"], mask: Bool[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows groups"]:
        """Logits per group; where ``mask`` is False a row is padded. No row depends on another."""
        ...


@dataclass(frozen=True, slots=True)
class TokenImportance:
    """Importances of the tokens of a corpus.

    Attributes:
        token_ids: Unique and ascending.
        beta: In [-1, 1], for each group; of two groups the second column is minus the first.
        count: Occurrences of each token.
        t: Student's t of the mean importance over occurrences; NaN where a token occurs once.
    """

    token_ids: Int[Tensor, " tokens"]
    beta: Float[Tensor, "tokens groups"]
    count: Int[Tensor, " tokens"]
    t: Float[Tensor, "tokens groups"]


def completeness_importance(
    classifier: EmbeddingClassifier,
    token_ids: Int[Tensor, " tokens"],
    *,
    baseline: Baseline = "zero",
    pad_id: int | None = None,
    batch_size: int,
) -> Float[Tensor, "tokens groups"]:
    """What each token alone changes in the classifier's logits: integrated gradients, without gradients.

    ``f(token) - f(baseline)`` per group, in logits. One forward pass a token.

    Args:
        classifier: In evaluation mode; on any device.
        token_ids: Of the classifier's vocabulary.
        baseline: What stands in the token's place where it is absent.
        pad_id: The padding token, for that baseline.
        batch_size: Tokens per forward pass.
    """
    rows = [(token,) for token in token_ids.tolist()]
    return sequence_importance(classifier, rows, baseline=baseline, pad_id=pad_id, batch_size=batch_size)


@torch.no_grad()
def sequence_importance(
    classifier: EmbeddingClassifier,
    sequences: Sequence[Sequence[int]],
    *,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    baseline: Baseline = "zero",
    pad_id: int | None = None,
    batch_size: int,
) -> Float[Tensor, "sequences groups"]:
    """What some pieces together change in the classifier's logits, ``f(before pieces after) - f(before 0 after)``.

    Integrated gradients of the pieces, summed over all of them (completeness, Sundararajan et al. 2017, axiom 3).
    Sequences of one length go through together, so that nothing is padded.

    Args:
        classifier: In evaluation mode; on any device.
        sequences: Ids of the classifier's vocabulary, each at least one.
        before: What every sequence stands after, for example ``[CLS]``; it never varies.
        after: What every sequence stands before, for example ``[SEP]``.
        baseline: What stands in the pieces' places where they are absent.
        pad_id: The padding token, for that baseline.
        batch_size: Sequences per forward pass.

    Raises:
        BadInputError: No sequences, an empty one, a classifier in training mode, or a baseline that needs ``pad_id``.
    """
    _check(classifier, sequences, batch_size)
    if (baseline == "pad") != (pad_id is not None):
        raise BadInputError(
            f"baseline {baseline!r} with pad_id {pad_id}; give pad_id with baseline 'pad', and only then."
        )
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    found: list[Tensor] = []
    absent: dict[int, Tensor] = {}
    for chunk in _chunks(order, [len(sequences[i]) for i in order], batch_size):
        ids = torch.tensor([[*before, *sequences[i], *after] for i in chunk])
        start, end = len(before), ids.shape[1] - len(after)
        if end not in absent:
            gone = classifier.embed(ids[:1]).clone()
            gone[:, start:end] = 0.0 if pad_id is None else classifier.embed(torch.full((1, end - start), pad_id))
            absent[end] = _logits(classifier, gone)
        found.append(_logits(classifier, classifier.embed(ids)) - absent[end])
    joined = torch.cat(found)
    back = torch.tensor(order, device=joined.device).argsort()
    return joined[back]


def integrated_gradients(
    classifier: EmbeddingClassifier,
    embeddings: Float[Tensor, "rows length width"],
    mask: Bool[Tensor, "rows length"],
    absent: Float[Tensor, "rows length width"],
    *,
    steps: int = 50,
) -> Float[Tensor, "rows length groups"]:
    r"""Integrated gradients of every token for every group, summed over the embedding's dimensions, in logits.

    .. math:: \sum_d (x_d - x'_d) \int_0^1 \frac{\partial f_k(x' + a (x - x'))}{\partial x_d}\, da

    by Gauss-Legendre quadrature, all steps in one batch. Over a row's tokens they sum to ``f(x) - f(x')``. A step
    costs one forward pass and a backward pass per group, on rows * steps rows.

    Args:
        classifier: In evaluation mode.
        embeddings: x.
        mask: False where a row is padded; nothing is attributed there.
        absent: x', the baseline.
        steps: Nodes of the quadrature.

    Source: Sundararajan, Taly and Yan, Axiomatic attribution for deep networks (2017), equation 1.
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    where = torch.from_numpy((nodes + 1) / 2).to(embeddings)[:, None, None, None]
    share = torch.from_numpy(shares / 2).to(embeddings)[:, None, None, None]
    change = embeddings - absent
    path = (absent + where * change).flatten(0, 1).detach().requires_grad_(True)
    with torch.enable_grad():
        logits = classifier.logits_from_embeddings(path, mask.repeat(steps, 1))
        totals = logits.sum(dim=0).unbind()
        slopes = [
            torch.autograd.grad(total, path, retain_graph=k + 1 < len(totals))[0] for k, total in enumerate(totals)
        ]
    means = [(share * slope.reshape(steps, *change.shape)).sum(dim=0) for slope in slopes]
    found = torch.stack([(change * mean).sum(dim=-1) for mean in means], dim=-1)
    return torch.where(mask[..., None], found, 0.0).detach()


def corpus_importance(
    classifier: EmbeddingClassifier,
    texts_ids: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    paper: bool = False,
    n0: float = 20.0,
    least_t: float = 3.0,
    skip: Collection[int] = (),
    steps: int = 50,
    batch_size: int = 800,
) -> TokenImportance:
    r"""Importances of the tokens of labelled texts, by integrated gradients from zero token embeddings.

    By default a token's importance is its mean over occurrences, of the logits less their mean over groups, shrunk
    toward 0 where it is rare and 0 where it is not told apart from noise; one scale for all:

    .. math:: \beta \propto \frac{n}{n + n_0} \bar{a}\,[\,|t| \ge 3\,], \qquad \max |\beta| = 1

    With ``paper`` as the released code of ALA has it (two groups): a text's importances for the logit of its own
    class are *summed* over occurrences, each class's sums divided by their total if that is positive, the second
    class subtracted from the first, and positive and negative values scaled apart to 1 and -1. Sums follow a token's
    frequency more than its meaning, which is why it is not the default.

    Args:
        classifier: In evaluation mode.
        texts_ids: Ids of the classifier's vocabulary, special tokens included as it wants them.
        labels: The index of each text's group; used with ``paper`` alone.
        paper: The published aggregation.
        n0: Occurrences at which a mean is halved.
        least_t: A token of smaller \|t\| counts 0; one that occurs once has none and counts 0.
        skip: Tokens that get no importance, for example special ones; they stay in the texts.
        steps: Nodes of the quadrature.
        batch_size: Rows per forward pass, each text taking ``steps`` of them.

    Raises:
        BadInputError: No texts, labels that do not fit, or ``paper`` with more than two groups.
    """
    _check(classifier, texts_ids, batch_size)
    if len(labels) != len(texts_ids):
        raise BadInputError(f"got {len(texts_ids)} texts and {len(labels)} labels; give one label per text.")
    tokens, owners, values = [], [], []
    for rows, ids, mask in _padded(texts_ids, max(1, batch_size // steps)):
        x = classifier.embed(ids).detach()
        found = integrated_gradients(classifier, x, mask.to(x.device), torch.zeros_like(x), steps=steps)
        tokens.append(ids[mask])
        owners.append(torch.tensor([labels[row] for row in rows])[:, None].expand_as(ids)[mask])
        values.append(found.cpu()[mask].double())
    token, owner, value = torch.cat(tokens), torch.cat(owners), torch.cat(values)
    groups = value.shape[1]
    if not bool(((owner >= 0) & (owner < groups)).all()) or (paper and groups != 2):
        raise BadInputError(
            f"the classifier has {groups} groups and labels are {sorted(set(labels))[:5]}; labels are indices of its "
            "groups, and paper=True needs two."
        )
    kept = ~torch.isin(token, torch.tensor(sorted(skip), dtype=token.dtype))
    ids, place = torch.unique(token[kept], return_inverse=True)
    value, owner = value[kept], owner[kept]
    count = torch.bincount(place, minlength=len(ids))
    centred = value - value.mean(dim=1, keepdim=True)
    mean, t = _means(place, centred, count)
    if paper:
        beta = _published(place, value.gather(1, owner[:, None])[:, 0], owner, len(ids))
    else:
        beta = torch.where(t.abs() >= least_t, mean * (count / (count + n0))[:, None], 0.0)
        beta = beta / beta.abs().max().clamp(min=torch.finfo(beta.dtype).tiny)
    return TokenImportance(ids, beta.float(), count, t.float())


@dataclass(frozen=True, slots=True)
class VocabularyPieces:
    """A language model's vocabulary in the pieces of a classifier of another tokenizer.

    Attributes:
        sequences: Unique.
        index: Per id of the language model, its sequence; -1 where the classifier cannot read the token.
    """

    sequences: tuple[tuple[int, ...], ...]
    index: Int[Tensor, " vocabulary"]


def pieces_of_vocabulary(
    tokenizer: "PreTrainedTokenizerBase", other: "PreTrainedTokenizerBase", *, size: int | None = None
) -> VocabularyPieces:
    """Each token of a language model, decoded and written in another tokenizer's pieces, each sequence once.

    Tokens that differ in a space or, where the classifier does not see it, in case share a sequence. Tokens without
    a letter or digit, special ones, and those with an unknown piece have none: their importance is 0.

    Args:
        tokenizer: The language model's.
        other: The classifier's.
        size: Only the first ids; by default all of them.
    """
    ids = range(len(tokenizer) if size is None else size)
    texts = [text.strip() for text in tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=True)]
    unique = sorted({text for text in texts if any(letter.isalnum() for letter in text) and "\ufffd" not in text})
    encoded = other(unique, add_special_tokens=False)["input_ids"] if unique else []
    place: dict[tuple[int, ...], int] = {}
    of_text: dict[str, int] = {}
    for text, pieces in zip(unique, encoded, strict=True):
        if pieces and other.unk_token_id not in pieces:
            of_text[text] = place.setdefault(tuple(pieces), len(place))
    return VocabularyPieces(tuple(place), torch.tensor([of_text.get(text, -1) for text in texts]))


def _check(classifier: EmbeddingClassifier, sequences: Sequence[Sequence[int]], batch_size: int) -> None:
    if getattr(classifier, "training", False):
        raise BadInputError("the classifier is in training mode, where its dropout is random; call its eval() first.")
    if not sequences or not all(len(ids) for ids in sequences) or batch_size < 1:
        raise BadInputError(
            f"got {len(sequences)} sequences at batch size {batch_size}; give at least one, none of them empty."
        )


def _logits(classifier: EmbeddingClassifier, embeddings: Float[Tensor, "rows length width"]) -> Tensor:
    """In floats of at least single precision: a difference of two near numbers is taken."""
    mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
    return classifier.logits_from_embeddings(embeddings, mask).float()


def _chunks(order: Sequence[int], lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """At most ``batch_size`` at a time, of one length each."""
    chunk: list[int] = []
    for i, (item, length) in enumerate(zip(order, lengths, strict=True)):
        if chunk and (len(chunk) == batch_size or lengths[i - 1] != length):
            yield chunk
            chunk = []
        chunk.append(item)
    yield chunk


def _padded(texts: Sequence[Sequence[int]], rows: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """``(which texts, ids, mask)``, the texts sorted by length; padding is id 0, which the mask hides."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        longest = len(texts[chosen[-1]])
        ids = torch.tensor([[*texts[i], *[0] * (longest - len(texts[i]))] for i in chosen])
        lengths = torch.tensor([len(texts[i]) for i in chosen])
        yield chosen, ids, torch.arange(longest) < lengths[:, None]


def _means(
    place: Int[Tensor, " occurrences"], value: Float[Tensor, "occurrences groups"], count: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, "tokens groups"], Float[Tensor, "tokens groups"]]:
    """Mean over occurrences, and its t; NaN where there is one occurrence."""
    n = count[:, None].double()
    empty = torch.zeros(len(count), value.shape[1], dtype=value.dtype)
    mean = empty.index_add(0, place, value) / n
    squares = empty.index_add(0, place, (value - mean[place]) ** 2)
    error = (squares / (n - 1) / n).sqrt()
    t = torch.where(mean == 0, 0.0, mean / error)
    return mean, torch.where(n > 1, t, torch.nan)


def _published(
    place: Int[Tensor, " occurrences"],
    value: Float[Tensor, " occurrences"],
    owner: Int[Tensor, " occurrences"],
    size: int,
) -> Float[Tensor, "tokens 2"]:
    sums = []
    for group in (0, 1):
        total = torch.zeros(size, dtype=value.dtype).index_add(0, place, torch.where(owner == group, value, 0.0))
        sums.append(total / total.sum() if total.sum() > 0 else total)
    raw = sums[0] - sums[1]
    scale = torch.where(raw > 0, raw.max(), raw.min().abs())
    beta = torch.where(raw == 0, 0.0, raw / scale)
    return torch.stack([beta, -beta], dim=1)
