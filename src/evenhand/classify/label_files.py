"""Files that say what pictures show. In: a path nobody vouches for. Out: columns of texts; paths inside its folder.

CSV (UTF-8) or Parquet, told by the contents. No picture is opened here.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath

from evenhand.errors import LabelsError

__all__ = ["LabelFile", "path_inside", "read_label_file"]

_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What stands in a file.

    Attributes:
        columns: Name -> a text each row, equally many; a Parquet file's nested and binary columns are left out.
        sha256: Of the file, in hexadecimal.
    """

    columns: Mapping[str, list[str]]
    sha256: str


def read_label_file(path: Path, *, remedy: str) -> LabelFile:
    """The columns of a file.

    Args:
        path: CSV or Parquet.
        remedy: What to do where there is none, for the message.

    Raises:
        LabelsError: There is none, it is larger than 256 MiB, or it is neither CSV in UTF-8 nor Parquet.
    """
    content = _content(path, remedy)
    columns = _parquet(path, content) if content[:4] == b"PAR1" else _csv(path, content)
    return LabelFile(columns, sha256(content).hexdigest())


def path_inside(path: Path, name: str) -> Path:
    """A picture's path from its name in a file.

    Raises:
        LabelsError: It leads out of the file's folder, or nothing is there.
    """
    inside, foreign = PurePosixPath(name.strip()), PureWindowsPath(name)
    outside = inside.is_absolute() or foreign.anchor or ".." in (*inside.parts, *foreign.parts)
    if not name.strip() or outside or "\0" in name or not (path.parent / inside).is_file():
        raise LabelsError(
            f"{path.name}: {name!r} is no picture in the folder of the file; give its path relative to it."
        )
    return path.parent / inside


def _content(path: Path, remedy: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > _FILE_BYTES:
            raise LabelsError(f"{path.name}: {size:,} bytes; allowed: {_FILE_BYTES:,}; split it.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LabelsError(f"{path}: no such file; {remedy}.") from error
    except (OSError, ValueError) as error:
        raise LabelsError(f"{path}: cannot be read ({error}); give a CSV or Parquet file.") from error


def _csv(path: Path, content: bytes) -> dict[str, list[str]]:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), skipinitialspace=True)
        names = [name.strip() for name in next(reader, [])]
        lines = [line for line in reader if line]
    except (ValueError, csv.Error) as error:
        raise LabelsError(f"{path.name}: cannot be read as CSV in UTF-8 ({error}); save it as such.") from error
    uneven = next((line for line in lines if len(line) != len(names)), None)
    if uneven is not None or len(set(names)) != len(names):
        raise LabelsError(f"{path.name}: columns {names} and a line {uneven}; give each column once, each a value.")
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


def _parquet(path: Path, content: bytes) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        wanted = [one for one in file.schema_arrow if not pa.types.is_nested(one.type)]
        names = [one.name for one in wanted if not pa.types.is_binary(one.type)]
        table = file.read(names, use_threads=False).to_pydict()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise LabelsError(f"{path.name}: cannot be read as Parquet ({error}); save it as such.") from error
    return {name: ["" if cell is None else str(cell) for cell in cells] for name, cells in table.items()}
