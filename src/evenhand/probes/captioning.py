"""The captioning probe. In: a folder of pictures with ``labels.csv``. Out: one prompt per row.

``labels.csv`` has a column ``file`` (relative to the folder) and one named after the attribute, whose values are
the attribute's groups as the people in the picture are *perceived*. A column ``scene`` names pictures that belong
together; intervals then resample scenes. Other columns are kept. ``openpeople`` instead of a folder reads the
photographs of synthetic people of the PyPI package of that name.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath

from evenhand.errors import LabelsError, MissingExtraError
from evenhand.records import Attribute, Prompt

__all__ = ["captioning"]


def captioning(data: str, attribute: Attribute) -> tuple[Prompt, ...]:
    """One prompt per labelled picture, in the file's order.

    Raises:
        LabelsError: No folder, no ``labels.csv``, a missing column, a group that is not declared, a picture named
            twice or outside the folder.
        MissingExtraError: ``openpeople`` was asked for and is not installed.
    """
    rows, folder = (_openpeople(), _openpeople_folder()) if data == "openpeople" else (_rows(data), Path(data))
    prompts: list[Prompt] = []
    seen: set[PurePosixPath] = set()
    for number, row in rows:
        file = row["file"]
        where = f"labels.csv line {number}"
        inside = PurePosixPath(file)
        foreign = PureWindowsPath(file)
        outside = inside.is_absolute() or foreign.anchor or ".." in (*inside.parts, *foreign.parts)
        if not file or outside or "\0" in file:
            raise LabelsError(f"{where}: file {file!r}; give a path inside the folder, for example images/a.jpg.")
        if inside in seen:
            raise LabelsError(f"{where}: {file!r} stands there twice; keep one row per picture.")
        seen.add(inside)
        if attribute.name not in row:
            raise LabelsError(
                f"labels.csv: columns {list(row)}; needs one named {attribute.name} with the group perceived "
                f"in each picture: {', '.join(attribute.groups)}."
            )
        group = row[attribute.name]
        if group not in attribute.groups:
            raise LabelsError(
                f"{where}: {attribute.name} is {group!r}; declared groups are {', '.join(attribute.groups)}. "
                "Correct the row, or remove it where the picture shows nobody."
            )
        facts = {key: value for key, value in row.items() if key != "file"}
        prompts.append(Prompt(file, "captioning", "", str(folder / file), facts))
    if not prompts:
        raise LabelsError(f"{data}: labels.csv has no rows; give at least one picture per group.")
    return tuple(prompts)


def _rows(data: str) -> Iterable[tuple[int, Mapping[str, str]]]:
    folder = Path(data)
    path = folder / "labels.csv"
    if not folder.is_dir():
        raise LabelsError(f"data: {data!r} is not a folder; give a folder of pictures with labels.csv, or openpeople.")
    if not path.is_file():
        raise LabelsError(
            f"{data!r} has no labels.csv; write one with the columns file,gender (and scene where pictures belong "
            "together), one row per picture."
        )
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"{path.name} cannot be read as UTF-8: {error}; save it as UTF-8 CSV.") from error
    # Not splitlines(): a quoted value may hold a line break, and a file name any of its other separators.
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        if "file" not in columns or len(set(columns)) != len(columns):
            raise LabelsError(f"labels.csv: columns {columns}; needs file and the attribute's name, each once.")
        reader.fieldnames = columns
        return [(reader.line_num, _row(reader.line_num, row)) for row in reader]
    except csv.Error as error:
        raise LabelsError(f"labels.csv line {reader.line_num}: {error}; save it as plain CSV.") from error


def _row(number: int, row: Mapping[str | None, str | list[str] | None]) -> dict[str, str]:
    if None in row or any(value is None for value in row.values()):
        raise LabelsError(f"labels.csv line {number}: more or fewer values than columns; quote values with commas.")
    return {str(key): str(value).strip() for key, value in row.items()}


def _openpeople_folder() -> Path:
    spec = find_spec("openpeople")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("openpeople", "demo")
    return Path(spec.submodule_search_locations[0]) / "data" / "curated"


def _openpeople() -> Iterable[tuple[int, Mapping[str, str]]]:
    """Every photograph of every synthetic person; a person's six photographs are one scene."""
    rows: list[tuple[int, Mapping[str, str]]] = []
    folder = _openpeople_folder()
    for person in sorted(path for path in folder.iterdir() if (path / "metadata.json").is_file()):
        declared = json.loads((person / "metadata.json").read_text("utf-8"))["character_details"]["demographics"]
        for photo in sorted((person / "assets").glob("*.jpg")):
            facts = {
                "file": f"{person.name}/assets/{photo.name}",
                "gender": str(declared["sex"]).lower(),
                "scene": person.name,
                "photo": photo.stem,
            }
            rows.append((len(rows) + 2, facts))
    return rows
