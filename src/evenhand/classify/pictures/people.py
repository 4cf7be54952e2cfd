"""Labels by people. In: a CSV of what each rater saw, samples. Out: one label per sample, disagreement counted.

One row is one rater's view of one picture: ``attribute``, ``group``, ``rater``, and either ``prompt_id`` and ``k`` or
``file``, a picture beside the CSV that is the sample's, byte for byte. ``group`` may also be ``no face``,
``several faces`` or ``uncertain``. More than half of a picture's raters make its label; where no view has that, it is
``uncertain``.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import combinations
from pathlib import Path, PurePosixPath, PureWindowsPath

from evenhand.errors import BadInputError, LabelsError
from evenhand.records import Attribute, Label, Sample

__all__ = ["SEEN", "Agreement", "PeopleLabels"]

SEEN = ("no face", "several faces", "uncertain")
"""What a rater may say besides a group."""

_FILE_BYTES = 256 * 2**20
_Key = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree.

    Attributes:
        pictures: Pictures with any view.
        several: Of these, with views of two raters and more.
        disagreed: Of these, where they are not all the same.
        alike: Mean share of pairs of raters who say the same of a picture, in [0, 1]; None where ``several`` is 0.
    """

    pictures: int
    several: int
    disagreed: int
    alike: float | None


class PeopleLabels:
    """Labels samples by what people saw.

    Args:
        path: The CSV, in UTF-8.
        attribute: Its name picks the rows, its groups are what they may say.

    Raises:
        LabelsError: The file cannot be read, lacks a column, names a group that is not declared, a file that is absent
            or outside its folder, or one rater twice for a picture; or no row is about the attribute.
    """

    name = "people"

    def __init__(self, path: str | Path, attribute: Attribute) -> None:
        self.attribute = attribute
        views: dict[_Key, dict[str, str]] = {}
        path = Path(path)
        for number, row in _rows(path):
            if row["attribute"].strip() != attribute.name:
                continue
            where = f"{path.name} line {number}"
            key, rater = _key(row, path.parent, where), row["rater"].strip()
            said = row["group"].strip()
            if said not in (*attribute.groups, *SEEN):
                raise LabelsError(f"{where}: group {said!r}; allowed: {', '.join((*attribute.groups, *SEEN))}.")
            if not rater or rater in views.setdefault(key, {}):
                raise LabelsError(f"{where}: rater {rater!r}; give each rater a name and one row for each picture.")
            views[key][rater] = said
        if not views:
            raise LabelsError(f"{path.name}: no row is about {attribute.name}; give rows with this attribute.")
        self._views = {key: tuple(said.values()) for key, said in views.items()}
        self.settings: Mapping[str, object] = {"kind": "people", "sha256": _digest(path)}

    def label(self, samples: Sequence[Sample]) -> tuple[Label, ...]:
        """One label per sample, same order; ``confidence`` is the share of raters who say so.

        A sample nobody rated is ``unlabelled``, one that failed is ``error``.

        Raises:
            BadInputError: Not one of the samples was rated: the file belongs to another run.
        """
        seen = [self._of(sample) for sample in samples]
        if samples and not any(seen):
            raise BadInputError(
                f"people: none of the {len(samples)} samples is among the {len(self._views)} pictures that were rated; "
                "give the labels of this run."
            )
        return tuple(self._label(sample, views) for sample, views in zip(samples, seen, strict=True))

    def agreement(self) -> Agreement:
        """How far the raters agree, over all pictures of the file."""
        several = [views for views in self._views.values() if len(views) > 1]
        alike = [[a == b for a, b in combinations(views, 2)] for views in several]
        return Agreement(
            len(self._views),
            len(several),
            sum(len(set(views)) > 1 for views in several),
            sum(sum(pairs) / len(pairs) for pairs in alike) / len(alike) if alike else None,
        )

    def _of(self, sample: Sample) -> tuple[str, ...]:
        digest = sample.image_sha256 or (sha256(sample.image).hexdigest() if sample.image is not None else "")
        return self._views.get((sample.prompt_id, sample.k)) or self._views.get(digest) or ()

    def _label(self, sample: Sample, views: tuple[str, ...]) -> Label:
        group, reason, confidence = self._decided(views)
        if sample.error is not None:
            group, reason, confidence = None, "error", 0.0
        return Label(sample.prompt_id, sample.k, self.attribute.name, group, reason, confidence)

    def _decided(self, views: tuple[str, ...]) -> tuple[str | None, str | None, float]:
        if not views:
            return None, "unlabelled", 0.0
        said, times = Counter(views).most_common(1)[0]
        if 2 * times <= len(views):
            return None, "uncertain", times / len(views)
        return (None, said, times / len(views)) if said in SEEN else (said, None, times / len(views))


def _rows(path: Path) -> Iterable[tuple[int, Mapping[str, str]]]:
    try:
        if path.stat().st_size > _FILE_BYTES:
            raise LabelsError(f"{path.name}: {path.stat().st_size:,} bytes; allowed: {_FILE_BYTES:,}; split it.")
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig")), skipinitialspace=True)
        columns = [column.strip() for column in reader.fieldnames or []]
        places = "file" in columns or {"prompt_id", "k"} <= set(columns)
        if not {"attribute", "group", "rater"} <= set(columns) or not places or len(set(columns)) != len(columns):
            raise LabelsError(
                f"{path.name}: columns {columns}; needs attribute, group, rater, and file or prompt_id and k, "
                "each once."
            )
        reader.fieldnames = columns
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise LabelsError(f"{path.name} line {reader.line_num}: more or fewer values than columns.")
            rows.append((reader.line_num, row))
    except LabelsError:
        raise
    except FileNotFoundError as error:
        raise LabelsError(f"{path}: no such file; a path is relative to where evenhand is run.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise LabelsError(f"{path.name}: cannot be read as CSV in UTF-8 ({error}); save it as such.") from error
    return rows


def _key(row: Mapping[str, str], folder: Path, where: str) -> _Key:
    """Which picture a row is about: a sample, or the SHA-256 of its file."""
    if row.get("prompt_id", "").strip():
        k = row["k"].strip()
        if not (k.isascii() and k.isdigit()):
            raise LabelsError(f"{where}: k is {k!r}; allowed: which of the prompt's samples it is, from 0.")
        return row["prompt_id"].strip(), int(k)
    name = row.get("file", "").strip()
    inside, foreign = PurePosixPath(name), PureWindowsPath(name)
    outside = inside.is_absolute() or foreign.anchor or ".." in (*inside.parts, *foreign.parts)
    if not name or outside or "\0" in name or not (folder / inside).is_file():
        raise LabelsError(f"{where}: {name!r} is no picture in the folder of the CSV; give its path relative to it.")
    return _digest(folder / inside)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
