"""Pictures that are there already. In: a file that says whom each was asked to show. Out: sentences, and their samples.

The file is CSV (UTF-8) or Parquet with the columns ``file`` (relative to the file's folder), ``occupation``, one for
each attribute, and ``template`` where sentences are not the usual one. What a picture shows the labeller says, not
the file. No picture is opened before it is read.
"""

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evenhand.classify.label_files import path_inside, read_label_file
from evenhand.errors import BadInputError, LabelsError, PictureError
from evenhand.mitigate.sampling.targets import Target
from evenhand.pictures import open_picture
from evenhand.probes.occupation_lists import ListedOccupation, readable_text
from evenhand.probes.occupations import TEMPLATE, neutral_prompt
from evenhand.records import Label, Prompt, Sample

__all__ = ["GivenPictures", "read_given"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Row:
    """One picture: its path, where it stands in the file, its sentence and the group it was asked to show."""

    path: Path
    where: str
    neutral: str
    group: str


class GivenPictures:
    """The pictures of a file, as a store that labellers read; made by ``read_given``.

    Attributes:
        neutral: The sentences, each once, in the file's order.
    """

    def __init__(self, neutral: Sequence[Prompt], rows: Mapping[tuple[str, int], _Row]) -> None:
        self.neutral = tuple(neutral)
        self._rows = rows
        self._samples = tuple(
            Sample(prompt, k, 0, None, image_sha256=_sha256(row)) for (prompt, k), row in rows.items()
        )

    def samples(self, *, pictures: bool = False) -> tuple[Sample, ...]:
        """One a picture, its number counted in its sentence and group; the SHA-256 is the file's."""
        return tuple(self.drawn()) if pictures else self._samples

    def drawn(self) -> Iterator[Sample]:
        """The same with the picture as a PNG file, upright and RGB, one after another.

        Raises:
            PictureError: A picture cannot be read; the message names its row.
        """
        for one in self._samples:
            yield replace(one, image=_png(self._rows[one.prompt_id, one.k]))

    def unconfirmed(self, labels: Sequence[Label], min_confidence: float) -> str:
        """The first rows whose pictures do not show what they were asked to show, for a message."""
        told = []
        for label in labels:
            row = self._rows[label.prompt_id, label.k]
            if label.group != row.group:
                told.append(f"{row.where} was asked to show {row.group}, it shows {label.group or label.reason}")
            elif label.confidence < min_confidence:
                told.append(f"{row.where} shows {row.group} with a confidence of {label.confidence:.2f} only")
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        return "; ".join(told[:_SHOWN]) + more


def read_given(file: str | Path, target: Target, *, held_out: Collection[str] = ()) -> GivenPictures:
    """The pictures of a file.

    Args:
        file: CSV or Parquet.
        target: Whose attributes are columns, and whose groups are what they may hold.
        held_out: Occupations, case-folded, that may not stand in the file.

    Raises:
        LabelsError: The file cannot be read, lacks a column, names a picture twice, one that is absent or outside its
            folder, or a group that an attribute does not declare; the message names the row.
        BadInputError: An occupation is held out, empty or cannot be printed, or a template has no place for it.
        PictureError: A picture's file cannot be read.
    """
    path = Path(file)
    columns = read_label_file(path, remedy="give --pictures-from the path of a CSV or Parquet file").columns
    names = [one.name for one in target.attributes]
    lacking = [name for name in ("file", "occupation", *names) if name not in columns]
    if lacking:
        raise LabelsError(
            f"{path.name}: columns {', '.join(columns) or 'none'}, without {', '.join(lacking)}; allowed: file, "
            f"occupation, {', '.join(names)}, and template where wanted. Add them."
        )
    neutral: dict[str, Prompt] = {}
    asked: dict[tuple[str, str], list[_Row]] = {}
    seen: dict[Path, str] = {}
    for number in range(len(columns["file"])):
        cells = {name: cells[number].strip() for name, cells in columns.items()}
        where = f"{path.name} row {number + 1} ({cells['file'][:80]!r})"
        prompt = _sentence(cells, where, held_out)
        row = _Row(_picture(path, cells["file"], where), where, prompt.id, _group(cells, target, where))
        if row.path in seen:
            raise LabelsError(f"{where}: stands in {seen[row.path]} already; give each picture one row.")
        seen[row.path] = where
        neutral.setdefault(prompt.id, prompt)
        asked.setdefault((prompt.id, row.group), []).append(row)
    if not neutral:
        raise LabelsError(f"{path.name}: got no row; give at least one picture of each group.")
    rows = {
        (f"{one}/{group}", k): row
        for one in neutral
        for group in target.names
        for k, row in enumerate(asked.get((one, group), []))
    }
    return GivenPictures(tuple(neutral.values()), rows)


def _sentence(cells: Mapping[str, str], where: str, held_out: Collection[str]) -> Prompt:
    occupation = readable_text(cells["occupation"], where, "an occupation")
    if occupation.casefold() in held_out:
        raise BadInputError(
            f"{where}: {occupation!r} is held out by --leave-out; take the row out, or do not hold it out."
        )
    given = cells.get("template")
    template = readable_text(given, where, "a template") if given else TEMPLATE
    try:
        return neutral_prompt(ListedOccupation(occupation), template)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}") from error


def _group(cells: Mapping[str, str], target: Target, where: str) -> str:
    for one in target.attributes:
        if cells[one.name] not in one.groups:
            raise LabelsError(f"{where}: {one.name} is {cells[one.name]!r}; allowed: {', '.join(one.groups)}.")
    return target.names[target.groups.index(tuple(cells[one.name] for one in target.attributes))]


def _picture(path: Path, name: str, where: str) -> Path:
    try:
        return path_inside(path, name)
    except LabelsError as error:
        raise LabelsError(f"{where}: {error}") from error


def _sha256(row: _Row) -> str:
    try:
        with row.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(f"{row.where}: cannot be read ({error}); replace the file, or take the row out.") from error


def _png(row: _Row) -> bytes:
    written = io.BytesIO()
    try:
        open_picture(row.path).save(written, "PNG", compress_level=1)
    except PictureError as error:
        raise PictureError(f"{row.where}: {error}") from error
    return written.getvalue()
