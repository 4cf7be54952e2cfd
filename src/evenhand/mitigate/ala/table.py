"""Which words carry an attribute, for any tokenizer. In: an attribute, or fitted words. Out: a ``WordTable``; files.

A fitted table of words serves every language model; ``pieces`` writes it in a tokenizer's tokens at run time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from evenhand.errors import ArtefactError, BadInputError
from evenhand.records import Attribute

__all__ = ["WordTable", "WordWeight", "load_table", "save_table", "table_from_attribute", "table_from_importance"]

_FORMAT = "evenhand-word-table-1"


class WordWeight(NamedTuple):
    """What a word carries.

    Attributes:
        group: The group it stands for.
        weight: Absolute beta, in [0, 1].
    """

    group: str
    weight: float


@dataclass(frozen=True, slots=True)
class WordTable:
    """Lower-case words with the group each stands for, and how strongly.

    Attributes:
        attribute: Name of the attribute.
        groups: Its declared groups.
        words: Lower-case word -> group and weight.
        source: Where the weights come from.

    Raises:
        BadInputError: A word that can never be found, an undeclared group, or a weight outside [0, 1].
    """

    attribute: str
    groups: tuple[str, ...]
    words: Mapping[str, WordWeight]
    source: str

    def __post_init__(self) -> None:
        if not self.attribute or len(self.groups) < 2 or len(set(self.groups)) != len(self.groups):
            raise BadInputError(f"word table {self.attribute!r}: groups {self.groups}; give at least two, each once.")
        for word, (group, weight) in self.words.items():
            if word != word.lower().strip() or not any(letter.isalpha() for letter in word):
                raise BadInputError(f"word table {self.attribute!r}: {word!r}; words are lower-case and have letters.")
            if group not in self.groups:
                raise BadInputError(
                    f"word table {self.attribute!r}: {word!r} is of {group!r}; allowed: {', '.join(self.groups)}."
                )
            if not isfinite(weight) or not 0 <= weight <= 1:
                raise BadInputError(
                    f"word table {self.attribute!r}: {word!r} weighs {weight}; allowed: a number in [0, 1]."
                )


def table_from_attribute(attribute: Attribute) -> WordTable:
    """Every word an attribute steers by, of weight 1; no training and no text is needed."""
    words = {word: WordWeight(group, 1.0) for group in attribute.groups for word in attribute.steering_words[group]}
    return WordTable(attribute.name, attribute.groups, words, attribute.source)


def table_from_importance(
    attribute: Attribute,
    words: Sequence[str],
    beta: Float[ndarray, "words groups"],
    *,
    threshold: float = 0.1,
    source: str,
) -> WordTable:
    """Words with the group whose importance is largest, of that importance.

    Args:
        attribute: Gives name and groups.
        words: In any case; where two differ in case alone, the stronger one counts for both.
        beta: Importance of each word for each group, in [-1, 1], as ``importance.corpus_importance`` gives it.
        threshold: tau of the paper: words below it are left out.
        source: Where the figures come from.

    Raises:
        BadInputError: Sizes that do not agree, or importances that are not finite or outside [-1, 1].
    """
    if beta.shape != (len(words), len(attribute.groups)):
        raise BadInputError(
            f"got {len(words)} words, {len(attribute.groups)} groups and importances of shape {beta.shape}; "
            "give one row per word and one column per group."
        )
    if not bool((np.abs(beta) <= 1).all()):
        raise BadInputError("importances hold NaN or a number outside [-1, 1]; scale them by the largest of all.")
    found: dict[str, WordWeight] = {}
    for word, row in zip(words, beta, strict=True):
        best = int(row.argmax())
        key, fitted = word.strip().lower(), WordWeight(attribute.groups[best], float(row[best]))
        if fitted.weight >= threshold and any(letter.isalpha() for letter in key):
            found[key] = max(found.get(key, fitted), fitted, key=lambda entry: entry.weight)
    return WordTable(attribute.name, attribute.groups, found, source)


def save_table(table: WordTable, path: Path) -> None:
    """Write a table as safetensors; names and words are JSON in its metadata."""
    index = {group: i for i, group in enumerate(table.groups)}
    tensors: dict[str, ndarray[Any, Any]] = {
        "group": np.array([index[entry.group] for entry in table.words.values()], dtype=np.int8),
        "weight": np.array([entry.weight for entry in table.words.values()], dtype=np.float32),
    }
    metadata = {
        "format": _FORMAT,
        "attribute": table.attribute,
        "groups": json.dumps(table.groups),
        "words": json.dumps(list(table.words)),
        "source": table.source,
    }
    save_file(tensors, path, metadata=metadata)


def load_table(path: Path) -> WordTable:
    """Read a table.

    Raises:
        ArtefactError: Not a safetensors file of ours, inconsistent in itself, or not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, TypeError) as error:
        raise ArtefactError(f"{path.name}: {error}; give a file written by evenhand's save_table.") from error
    if metadata.get("format") != _FORMAT or set(tensors) != {"group", "weight"}:
        raise ArtefactError(
            f"{path.name}: format {metadata.get('format')!r} with {sorted(tensors)}; allowed: {_FORMAT!r}."
        )
    group, weight = tensors["group"], tensors["weight"]
    groups, words = (_names(metadata.get(field), field, path.name) for field in ("groups", "words"))
    sizes = {group.shape, weight.shape, (len(words),)}
    if len(sizes) != 1 or (group.dtype, weight.dtype) != (np.int8, np.float32) or len(set(words)) != len(words):
        raise ArtefactError(f"{path.name}: groups, weights and words do not agree; make it again with save_table.")
    if bool(((group < 0) | (group >= len(groups))).any()):
        raise ArtefactError(f"{path.name}: a group's index is not declared; make it again with save_table.")
    entries = [WordWeight(groups[g], w) for g, w in zip(group.tolist(), weight.tolist(), strict=True)]
    try:
        return WordTable(
            metadata.get("attribute", ""), groups, dict(zip(words, entries, strict=True)), metadata.get("source", "")
        )
    except BadInputError as error:
        raise ArtefactError(f"{path.name}: {error} Make it again with save_table.") from error


def _names(text: str | None, field: str, name: str) -> tuple[str, ...]:
    try:
        read: Any = json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{name}: {field} is not JSON ({error}); make it again.") from error
    if not isinstance(read, list) or not all(isinstance(item, str) for item in read):
        raise ArtefactError(f"{name}: {field} is not a list of words; make it again.")
    return tuple(read)
