"""Labelled pictures of a folder. In: a folder with label files. Out: files with their group and their part.

Two layouts are read: ``labels.csv`` (``file``, a column named after the attribute, optionally ``person``), and
FairFace's (``fairface_label_train.csv`` and ``fairface_label_val.csv``). Pictures of one person, or of the same bytes,
fall into one part.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal

from evenhand.classify.encodings import FAIRFACE_COLUMNS, Encoding
from evenhand.errors import LabelsError
from evenhand.records import Attribute

__all__ = ["LabelledPicture", "Part", "labelled_pictures"]

Part = Literal["train", "calibration", "held_out"]
_FAIRFACE = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
_ENCODINGS = {"gender": Encoding.FAIRFACE_GENDER, "race": Encoding.FAIRFACE_RACE}


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture.

    Attributes:
        file: Its path.
        group: Index of its group among the attribute's.
        part: ``train`` to fit, ``calibration`` to set temperature and band, ``held_out`` to measure.
    """

    file: Path
    group: int
    part: Part


def labelled_pictures(
    data: Path, attribute: Attribute, *, seed: int, encoding: Encoding | None = None
) -> tuple[LabelledPicture, ...]:
    """The labelled pictures of a folder; rows whose label is empty are left out.

    ``labels.csv`` is split 3 : 1 : 1 by a hash of the person, or of the file's bytes. FairFace's training file is split
    4 : 1 into train and calibration the same way, and its validation file is held out.

    Args:
        data: The folder.
        attribute: Its name is the column, its groups are what the column may hold.
        seed: Of the split.
        encoding: What the column's values mean, where they are not group names.

    Raises:
        LabelsError: A label file is absent, lacks a column, names a file outside the folder or absent, or a group that
            the attribute does not declare.
    """
    if all((data / name).is_file() for name in _FAIRFACE.values()):
        return tuple(_fairface(data, attribute, seed, encoding))
    if not (data / "labels.csv").is_file():
        raise LabelsError(f"{data}: neither labels.csv nor {' and '.join(_FAIRFACE.values())} is there; add one.")
    rows = _rows(data / "labels.csv", ("file", attribute.name))
    meanings = None if encoding is None else encoding.groups
    return tuple(_pictures(data, rows, attribute, meanings, ("train",) * 3 + ("calibration", "held_out"), seed))


def _fairface(data: Path, attribute: Attribute, seed: int, encoding: Encoding | None) -> Iterator[LabelledPicture]:
    meant = encoding or _ENCODINGS.get(attribute.name)
    if meant is None:
        raise LabelsError(f"{data}: FairFace labels {', '.join(_ENCODINGS)}; attribute {attribute.name!r} is neither.")
    split: dict[str, tuple[Part, ...]] = {"train": ("train",) * 4 + ("calibration",), "val": ("held_out",)}
    for name, parts in split.items():
        rows = _rows(data / _FAIRFACE[name], FAIRFACE_COLUMNS)
        yield from _pictures(data, rows, attribute, meant.groups, parts, seed)


def _rows(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            lacks = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacks:
                raise LabelsError(f"{file}: has no column {', '.join(lacks)}; it has {reader.fieldnames}.")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{file}: cannot be read as CSV in UTF-8 ({error}).") from error


def _pictures(
    data: Path,
    rows: list[dict[str, str]],
    attribute: Attribute,
    meanings: Mapping[str, str] | None,
    parts: tuple[Part, ...],
    seed: int,
) -> Iterator[LabelledPicture]:
    for row in rows:
        cell = (row[attribute.name] or "").strip()
        if not cell:
            continue
        group = cell if meanings is None else meanings.get(cell)
        if group not in attribute.groups:
            allowed = ", ".join(attribute.groups if meanings is None else meanings)
            raise LabelsError(f"{row['file']}: {attribute.name} is {cell!r}; allowed: {allowed}, or empty.")
        file = _inside(data, row["file"])
        owner = row.get("person") or sha256(file.read_bytes()).hexdigest()
        place = int(sha256(f"{seed}/{owner}".encode()).hexdigest()[:15], 16) % len(parts)
        yield LabelledPicture(file, attribute.groups.index(group), parts[place])


def _inside(data: Path, name: str) -> Path:
    relative = PurePosixPath(name or "")
    if not name or relative.is_absolute() or ".." in relative.parts or not (data / relative).is_file():
        raise LabelsError(f"{data}: {name!r} is not a file in this folder; give paths relative to it.")
    return data / relative
