"""Labelled texts. In: a CSV, JSON-lines or Parquet file. Out: texts and group indices, cut into three parts by hash.

Which part a text falls into is decided by a hash of its words, so that copies of it, in whatever case and spacing, are
never fitted on and measured on at once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.mitigate.ala.text.spelling import runs
from evenhand.records import Attribute

__all__ = ["Examples", "Split", "read_examples", "split_examples"]

_FEWEST = 50
_TRAIN, _CALIBRATION = 0.7, 0.85  # the rest is held out


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts with the index of each one's group.

    Attributes:
        texts: None is empty.
        labels: Index into the attribute's groups.
        units: What each text belongs to, for example its picture; texts of one unit stay together.
    """

    texts: tuple[str, ...]
    labels: Int[np.ndarray, " texts"]
    units: tuple[str, ...]

    def pick(self, places: Sequence[int]) -> "Examples":
        """Some of them, in that order."""
        return Examples(
            tuple(self.texts[i] for i in places), self.labels[list(places)], tuple(self.units[i] for i in places)
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts that share no text.

    Attributes:
        train: To fit on, about 70 %.
        calibration: To fit the temperature on, about 15 %.
        test: To measure on, the rest.
    """

    train: Examples
    calibration: Examples
    test: Examples


def read_examples(path: Path, attribute: Attribute) -> Examples:
    """The texts of a file with the columns ``text`` and ``label``, and perhaps ``unit``.

    A label is a group's name, or its index in the declared order; one file uses one of the two.

    Raises:
        BadInputError: The file cannot be read, lacks a column, or holds an empty text or an unknown label.
        TooFewSamplesError: A group has fewer than 50 texts.
    """
    rows = _rows(path)
    for number, row in enumerate(rows, 1):
        text = row.get("text")
        if not isinstance(text, str) or not any(is_word for _, is_word in runs(text)):
            raise BadInputError(f"{path.name}: row {number}: the text is empty or has no word; remove the row.")
    labels = _labels([row.get("label") for row in rows], attribute, path.name)
    counts = np.bincount(labels, minlength=len(attribute.groups))
    if counts.min() < _FEWEST:
        found = ", ".join(f"{group} {n}" for group, n in zip(attribute.groups, counts.tolist(), strict=True))
        raise TooFewSamplesError(f"{path.name}: got {found}; each group needs at least {_FEWEST} texts; add some.")
    texts = tuple(str(row["text"]) for row in rows)
    units = tuple(
        _normal(text) if row.get("unit") is None else f"unit {row['unit']}"
        for text, row in zip(texts, rows, strict=True)
    )
    return Examples(texts, labels, units)


def split_examples(examples: Examples, groups: Sequence[str], *, seed: int) -> Split:
    """Cut examples by a hash of seed and unit; the same text never lies in two parts.

    A text of the later parts that a unit of an earlier part holds too is left out.

    Raises:
        TooFewSamplesError: A group is absent from a part.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for place, unit in enumerate(examples.units):
        share = int.from_bytes(hashlib.sha256(f"{seed} {unit}".encode()).digest()[:8], "big") / 2**64
        parts[0 if share < _TRAIN else 1 if share < _CALIBRATION else 2].append(place)
    seen: set[str] = set()
    cut = []
    for name, part in zip(("fitting", "calibration", "measuring"), parts, strict=True):
        normal = {place: _normal(examples.texts[place]) for place in part}
        kept = examples.pick([place for place in part if normal[place] not in seen])
        seen |= set(normal.values())
        missing = [group for k, group in enumerate(groups) if not (kept.labels == k).any()]
        if missing:
            raise TooFewSamplesError(f"no text of {missing[0]!r} is left for {name}; add texts, or try another seed.")
        cut.append(kept)
    return Split(*cut)


def _normal(text: str) -> str:
    """A text's words and digits, lower-case, one space between them."""
    spaced = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return " ".join(spaced.split())


def _labels(raw: Sequence[object], attribute: Attribute, name: str) -> Int[np.ndarray, " texts"]:
    texts = [str(int(label)) if isinstance(label, float) and label.is_integer() else str(label) for label in raw]
    by_name: Mapping[str, int] = {group: i for i, group in enumerate(attribute.groups)}
    by_index = {str(i): i for i in range(len(attribute.groups))}
    known = by_name if texts and texts[0] in by_name else by_index
    unknown = sorted({text for text in texts if text not in known})
    if unknown:
        shown = ", ".join(repr(text[:40]) for text in unknown[:3])
        raise BadInputError(
            f"{name}: unknown labels {shown}; allowed: {', '.join(attribute.groups)}, or, in every row, their indices "
            f"0 to {len(attribute.groups) - 1} in this order."
        )
    return np.array([known[text] for text in texts], dtype=np.int64)


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix == ".jsonl":
            lines = path.read_text("utf-8").split("\n")
            rows = [json.loads(line) for line in lines if line.strip()]
        elif path.suffix == ".parquet":
            rows = parquet.read_table(path).to_pylist()
        elif path.suffix == ".csv":
            as_text = csv.ConvertOptions(column_types={c: pa.string() for c in ("text", "label", "unit")})
            parsing = csv.ParseOptions(newlines_in_values=True)
            rows = csv.read_csv(path, parse_options=parsing, convert_options=as_text).to_pylist()
        else:
            raise BadInputError(f"{path.name}: {path.suffix or 'no ending'}; allowed: .csv, .jsonl or .parquet.")
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, BadInputError):
            raise
        raise BadInputError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error
    if not rows or not all(isinstance(row, dict) and {"text", "label"} <= set(row) for row in rows):
        got = sorted(map(str, rows[0])) if rows and isinstance(rows[0], dict) else "nothing"
        raise BadInputError(f"{path.name}: got columns {got}; every row needs text and label.")
    return rows
