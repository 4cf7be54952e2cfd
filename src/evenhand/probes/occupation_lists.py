"""Occupations to ask about. In: ``test``, ``train`` or a file. Out: one row per occupation and template, checked.

A file nobody vouches for: ``.txt`` with an occupation a line, ``.csv`` with a column ``occupation``, or ``.json``, a
list of texts or of objects with ``occupation``. A column ``template`` gives a row its own sentence; what else stands
there is kept as facts.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

from evenhand.errors import BadInputError

__all__ = ["LINE_BYTES", "ListedOccupation", "read_occupations", "readable_text"]

LINE_BYTES = 10_000
"""The longest line, occupation or template, in bytes of UTF-8."""

_FILE_BYTES = 16 * 2**20
_DATA = Path(__file__).parent / "data"
_SHIPPED = {name: _DATA / f"occupations_{name}.txt" for name in ("test", "train")}
_OWN = ("occupation", "template")


@dataclass(frozen=True, slots=True)
class ListedOccupation:
    """One row of a list.

    Attributes:
        occupation: As it is written, runs of spaces made one.
        template: The row's own sentence, or None.
        facts: What else stands in the row.
    """

    occupation: str
    template: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def read_occupations(data: str) -> tuple[ListedOccupation, ...]:
    """The rows of a list, in their order.

    Args:
        data: ``test`` (the 50 test occupations of Shen et al. 2024, arXiv 2311.07604), ``train`` (940 others), or a
            path that ends in ``.txt``, ``.csv`` or ``.json``.

    Raises:
        BadInputError: No such list or file; it is not UTF-8, not of its format, empty or larger than 16 MiB; an
            occupation is empty, longer than 10 kB, holds characters that cannot be printed, or stands there twice.
    """
    path = _SHIPPED.get(data, Path(data))
    content = _content(path, data)
    readers = {".txt": _from_lines, ".csv": _from_csv, ".json": _from_json}
    if path.suffix.lower() not in readers:
        raise BadInputError(f"{path.name}: ends in {path.suffix!r}; allowed: {', '.join(readers)}; rename the file.")
    seen: dict[tuple[str, str | None], str] = {}
    rows = []
    for where, row in readers[path.suffix.lower()](path.name, content):
        key = (row.occupation.casefold(), row.template)
        if key in seen:
            raise BadInputError(f"{where}: {_short(row.occupation)} stands in {seen[key]} already; keep one of them.")
        seen[key] = where
        rows.append(row)
    if not rows:
        raise BadInputError(f"{path.name}: got no occupations; give at least one.")
    return tuple(rows)


def _content(path: Path, data: str) -> str:
    if not isfile(path):
        raise BadInputError(
            f"occupations: {_short(data)} is neither {' nor '.join(_SHIPPED)} nor a file; give one of them, or a "
            ".txt, .csv or .json file."
        )
    try:
        if path.stat().st_size > _FILE_BYTES:
            raise BadInputError(f"{path.name}: {path.stat().st_size:,} bytes; allowed: {_FILE_BYTES:,}; split it.")
        return path.read_bytes().decode("utf-8-sig")
    except BadInputError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{_short(path.name)} cannot be read as UTF-8: {error}; save it as UTF-8.") from error


def _from_lines(name: str, content: str) -> Iterator[tuple[str, ListedOccupation]]:
    for number, line in _lines(name, content):
        where = f"{name} line {number}"
        yield where, ListedOccupation(readable_text(line, where, "an occupation"))


def _from_csv(name: str, content: str) -> Iterator[tuple[str, ListedOccupation]]:
    for _ in _lines(name, content):
        pass  # no line is too long
    reader = csv.DictReader(io.StringIO(content), skipinitialspace=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        if "occupation" not in columns or len(set(columns)) != len(columns):
            raise BadInputError(f"{name}: columns {columns}; needs occupation, and template where wanted, each once.")
        reader.fieldnames = columns
        for row in reader:
            where = f"{name} line {reader.line_num}"
            if None in row or None in row.values():
                raise BadInputError(f"{where}: more or fewer values than columns; quote values with commas.")
            yield where, _row(row, where)
    except csv.Error as error:
        raise BadInputError(f"{name} line {reader.line_num}: {error}; save it as plain CSV.") from error


def _from_json(name: str, content: str) -> Iterator[tuple[str, ListedOccupation]]:
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{name} cannot be read as JSON: {error}; save a list of texts or objects.") from error
    if not isinstance(rows, list):
        raise BadInputError(f"{name}: got {type(rows).__name__}; allowed: a list of texts, or of objects.")
    for number, row in enumerate(rows, start=1):
        where = f"{name} entry {number}"
        fields = {"occupation": row} if isinstance(row, str) else row
        if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
            raise BadInputError(f"{where}: got {_short(str(row))}; allowed: a text, or an object of texts.")
        yield where, _row(fields, where)


def _row(fields: Mapping[str, str], where: str) -> ListedOccupation:
    if "occupation" not in fields:
        raise BadInputError(f"{where}: has {', '.join(map(_short, fields)) or 'nothing'}; needs occupation.")
    template = fields.get("template")
    return ListedOccupation(
        readable_text(fields["occupation"], where, "an occupation"),
        readable_text(template, where, "a template") if template else None,
        {
            readable_text(key, where, "a name"): _printable(text, where, key)
            for key, text in fields.items()
            if key not in _OWN
        },
    )


def _lines(name: str, content: str) -> Sequence[tuple[int, str]]:
    """The numbered lines; only line feeds part lines, as in every text editor."""
    lines = content.removesuffix("\n").split("\n") if content else []
    for number, line in enumerate(lines, start=1):
        _limit(line, f"{name} line {number}", "a line")
    return list(enumerate(lines, start=1))


def readable_text(raw: str, where: str, what: str) -> str:
    """A text with runs of spaces made one.

    Args:
        raw: As it stands in a file.
        where: The file and the row, for the message.
        what: ``an occupation``, ``a template`` ...

    Raises:
        BadInputError: Empty, longer than 10 kB, or with characters that cannot be printed.
    """
    text = " ".join(_printable(raw, where, what).split())
    if not text:
        raise BadInputError(f"{where}: empty; give {what}, or take the line out.")
    return text


def _printable(raw: str, where: str, what: str) -> str:
    _limit(raw, where, what)
    wrong = next((one for one in raw if not (one.isprintable() or one.isspace())), None)
    if wrong is not None:
        raise BadInputError(f"{where}: {what} holds {wrong!a}, which cannot be printed; take it out.")
    return raw


def _limit(text: str, where: str, what: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > LINE_BYTES:
        raise BadInputError(f"{where}: {what} of {size:,} bytes; allowed: {LINE_BYTES:,}; give one occupation a line.")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:60] + "...")
