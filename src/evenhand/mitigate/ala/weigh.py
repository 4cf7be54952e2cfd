"""Token weights from a fitted text scorer. In: its folder, labelled texts, a tokenizer. Out: weights and a table.

What ``evenhand mitigate ala-importance`` does: an additive scorer's words weigh what they weigh in it; a network's
tokens are weighed by integrated gradients over the texts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.importance import corpus_importance
from evenhand.mitigate.ala.pieces import weights_from_words
from evenhand.mitigate.ala.table import WordTable, WordWeight
from evenhand.mitigate.ala.text.additive import AdditiveScorer
from evenhand.mitigate.ala.text.artefact import load_scorer
from evenhand.mitigate.ala.text.examples import read_examples
from evenhand.mitigate.ala.weights import TokenWeights, save_weights, weights_from_tokens
from evenhand.records import Attribute

__all__ = ["Weighed", "weigh_tokens"]

_FILES = ("weights.safetensors", "importance.json", "importance.svg")
"""The last is the plot, which the command line draws."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """One row of the table of importances.

    Attributes:
        word: A word, or a token as text.
        group: The group it stands for.
        weight: |beta| in (0, 1].
        count: Occurrences it was measured on, or None for a word of an additive scorer.
    """

    word: str
    group: str
    weight: float
    count: int | None


def weigh_tokens(
    scorer: Path,
    *,
    attribute: Attribute,
    tokenizer: Any,
    out: Path,
    texts: Path | None = None,
    paper: bool = False,
    most: int = 2000,
) -> tuple[Weighed, ...]:
    """Weigh what a fitted scorer reads, and store token weights and a table, the strongest first.

    Args:
        scorer: Folder of ``ala-fit``: ``additive``, ``paper`` or ``causal``.
        attribute: The scorer's.
        tokenizer: A transformers tokenizer, the language model's.
        out: Folder for weights.safetensors and importance.json.
        texts: CSV, JSON lines or Parquet with text and label; for a network.
        paper: The published aggregation instead of the mean per occurrence.
        most: Texts looked at, from the first.

    Raises:
        BadInputError: The scorer is of another kind or attribute, texts are lacking, or the folder holds other files.
    """
    if out.exists() and (not out.is_dir() or not {path.name for path in out.iterdir()} <= set(_FILES)):
        raise BadInputError(f"{out} holds something else than {', '.join(_FILES)}; give another folder.")
    read: Any = load_scorer(scorer)
    if read.record.attribute != attribute.name:
        raise BadInputError(
            f"the scorer is of {read.record.attribute!r}, got attribute {attribute.name!r}; name its own."
        )
    if isinstance(read, AdditiveScorer):
        weights, rows = _of_words(read, attribute, tokenizer)
    elif hasattr(read, "logits_from_embeddings") and texts is not None:
        weights, rows = _of_tokens(read, texts, attribute, tokenizer, paper=paper, most=most)
    else:
        raise BadInputError(
            f"a scorer of kind {read.record.kind!r}: additive needs nothing else, paper and causal need texts; the "
            "others have no token embeddings to weigh."
        )
    rows = tuple(sorted(rows, key=lambda row: (-row.weight, row.word)))
    out.mkdir(parents=True, exist_ok=True)
    save_weights(weights, out / _FILES[0])
    listed = [{"word": r.word, "group": r.group, "weight": r.weight, "count": r.count} for r in rows]
    (out / _FILES[1]).write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return rows


def _of_words(scorer: AdditiveScorer, attribute: Attribute, tokenizer: Any) -> tuple[TokenWeights, tuple[Weighed, ...]]:
    found = scorer.word_table()
    words = {word: WordWeight(attribute.groups[group], weight) for word, (group, weight) in found.items()}
    table = WordTable(attribute.name, attribute.groups, words, "additive scorer")
    rows = tuple(Weighed(word, attribute.groups[group], weight, None) for word, (group, weight) in found.items())
    return weights_from_words(attribute, tokenizer, table=table), rows


def _of_tokens(
    scorer: Any, texts: Path, attribute: Attribute, tokenizer: Any, *, paper: bool, most: int
) -> tuple[TokenWeights, tuple[Weighed, ...]]:
    examples = read_examples(texts, attribute)
    examples = examples.pick(range(min(most, len(examples.texts))))
    ids = tokenizer(list(examples.texts), add_special_tokens=False)["input_ids"]
    found = corpus_importance(scorer, ids, examples.labels.tolist(), paper=paper)
    beta = found.beta[:, 0]
    weights = weights_from_tokens(attribute.name, attribute.groups, found.token_ids, beta, tokenizer)
    names = tokenizer.convert_ids_to_tokens(found.token_ids.tolist())
    rows = tuple(
        Weighed(str(name), attribute.groups[int(value < 0)], abs(value), count)
        for name, value, count in zip(names, beta.tolist(), found.count.tolist(), strict=True)
        if value
    )
    return weights, rows
