"""What is trained on: one picture of every group for a prompt that asks for nobody. In: tuples. Out: a Parquet file.

The file says by itself what it holds, in its schema's metadata, and ``datasets.load_dataset("parquet", ...)`` reads it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int32

from evenhand.errors import ArtefactError, BadInputError, CorruptLedgerError

__all__ = ["FILE", "PictureTuple", "TupleSet", "check_tuples", "read_tuples", "write_tuples"]

FILE = "tuples.parquet"
"""The file's name in a folder."""

_FORMAT = 1
_META = b"evenhand"
_AT_ONCE = 64  # tuples of a row group where pictures are kept: a column of bytes holds 2 GiB at most
_IMAGES = pa.field("images", pa.list_(pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])))
_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("asked", pa.list_(pa.string())),
        pa.field("groups", pa.list_(pa.string())),
        pa.field("codes", pa.list_(pa.list_(pa.int32()))),
        pa.field("confidence", pa.list_(pa.float64())),
        pa.field("source", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class PictureTuple:
    """One prompt and one picture of each group.

    Attributes:
        prompt_id: Of the prompt that asks for nobody.
        prompt: Its text, shared by all pictures.
        asked: The text each picture was drawn from; empty where there was none.
        groups: One a picture, each of the set's groups once, in its order.
        codes: Of each picture, 0-based, raster order.
        confidence: The labeller's, in [0, 1].
        source: ``model``, ``source`` (another model) or ``folder``.
        images: Each picture as a PNG file's bytes; empty where they were not kept, or not read.
    """

    prompt_id: str
    prompt: str
    asked: tuple[str, ...]
    groups: tuple[str, ...]
    codes: Int32[np.ndarray, "groups codes"]
    confidence: tuple[float, ...]
    source: str
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TupleSet:
    """Tuples of the same groups and of one picture tokenizer.

    Attributes:
        attribute: ``gender``, or ``gender x skin_tone`` for a product.
        groups: Two or more.
        code_shape: Rows and columns of codes.
        codebook_size: Codes are below it.
        codebook_digest: ``UnifiedModel.codebook_digest`` of the model whose codes these are.
        tuples: In the order they were made.
    """

    attribute: str
    groups: tuple[str, ...]
    code_shape: tuple[int, int]
    codebook_size: int
    codebook_digest: str
    tuples: tuple[PictureTuple, ...]


@runtime_checkable
class _Tokenizing(Protocol):
    """What a model says of its picture tokenizer."""

    name: str
    code_shape: tuple[int, ...]
    codebook_size: int

    @property
    def codebook_digest(self) -> str: ...


def check_tuples(tuples: TupleSet, model: _Tokenizing | None = None) -> None:
    """Refuse a set that cannot be trained on.

    Args:
        tuples: What is to be trained on.
        model: What is to be trained; None checks the set alone.

    Raises:
        BadInputError: No tuple, fewer than two groups or one twice, a tuple that is not one picture of each group in
            the set's order, pictures of some tuples only, codes out of range or of another number, a prompt without
            text, a confidence outside [0, 1], a neutral prompt that is one of those that ask for a group, a text that
            asks for one group here and for another there.
        ArtefactError: The codes are another picture tokenizer's.
    """
    groups = tuples.groups
    if len(groups) < 2 or len(set(groups)) < len(groups):
        raise BadInputError(f"tuples: got the groups {groups}; allowed: two or more, none twice. Make the data anew.")
    if not tuples.tuples:
        raise BadInputError("tuples: got none; make the data anew, with more pictures of each group.")
    if model is not None:
        _check_tokenizer(tuples, model)
    asks_for: dict[str, int] = {}
    wanted = (len(groups), tuples.code_shape[0] * tuples.code_shape[1])
    for row, one in enumerate(tuples.tuples):
        _check_texts(row, one)
        if one.groups != groups or len(one.asked) != len(groups) or len(one.confidence) != len(groups):
            raise BadInputError(
                f"tuple {row} ({one.prompt[:60]!r}): got pictures of {', '.join(one.groups) or 'nobody'}; allowed: one "
                f"of each group, in this order: {', '.join(groups)}. Make the data anew."
            )
        if one.codes.shape != wanted or one.codes.min() < 0 or one.codes.max() >= tuples.codebook_size:
            span = f" from {one.codes.min()} to {one.codes.max()}" if one.codes.size else ""
            raise BadInputError(
                f"tuple {row} ({one.prompt[:60]!r}): got codes of shape {one.codes.shape}{span}; allowed: {wanted}, 0 "
                f"to {tuples.codebook_size - 1}. Make the data anew."
            )
        if len(one.images) not in (0, len(groups)) or bool(one.images) != bool(tuples.tuples[0].images):
            raise BadInputError(
                f"tuple {row} ({one.prompt[:60]!r}): got {len(one.images)} PNG files; allowed: {len(groups)}, one of "
                "each group, in every tuple, or none in any. Make the data anew."
            )
        told = [text for text in one.asked if text]
        if one.prompt in told or len(set(told)) < len(told):
            raise BadInputError(
                f"tuple {row}: the prompt {one.prompt[:60]!r} and those that ask for its groups are not all different; "
                "allowed: a prompt that asks for nobody, shared by all pictures, and another text for each group."
            )
        for place, text in enumerate(one.asked):
            if text and asks_for.setdefault(text, place) != place:
                raise BadInputError(
                    f"tuple {row}: {text[:60]!r} asks for {groups[place]!r} here and for {groups[asks_for[text]]!r} in "
                    "an earlier tuple; allowed: one group for each text, asked in the order of the groups. Make the "
                    "data anew."
                )


def write_tuples(folder: str | Path, tuples: TupleSet) -> Path:
    """Store a set as ``tuples.parquet``; an earlier one is replaced only when the new one is whole.

    Raises:
        BadInputError: As ``check_tuples``.
        OSError: The folder cannot be written to.
    """
    check_tuples(tuples)
    about = {
        "format": _FORMAT,
        "attribute": tuples.attribute,
        "groups": list(tuples.groups),
        "code_shape": list(tuples.code_shape),
        "codebook_size": tuples.codebook_size,
        "codebook_digest": tuples.codebook_digest,
    }
    rows = [
        {
            "prompt_id": one.prompt_id,
            "prompt": one.prompt,
            "asked": list(one.asked),
            "groups": list(one.groups),
            "codes": one.codes.tolist(),
            "confidence": list(one.confidence),
            "source": one.source,
            "images": [{"bytes": picture, "path": None} for picture in one.images],
        }
        for one in tuples.tuples
    ]
    pictures = bool(tuples.tuples[0].images)
    schema = _SCHEMA.append(_IMAGES) if pictures else _SCHEMA
    schema = schema.with_metadata({_META: json.dumps(about).encode()})
    step = _AT_ONCE if pictures else len(rows)
    place = Path(folder) / FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{FILE}.part")
    with pq.ParquetWriter(part, schema, compression="zstd", write_page_checksum=True) as file:
        for start in range(0, len(rows), step):
            file.write_table(pa.Table.from_pylist(rows[start : start + step], schema))
    os.replace(part, place)
    return place


def read_tuples(path: str | Path, *, pictures: bool = False) -> TupleSet:
    """A set that was stored, checked.

    Args:
        path: The folder or the file.
        pictures: Whether to read the pictures too, where the file holds them; training needs the codes alone.

    Raises:
        BadInputError: There is none, or as ``check_tuples``.
        CorruptLedgerError: The file is damaged, or not one of these.
    """
    place = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not place.is_file():
        raise BadInputError(f"data: {str(path)!r} has no {FILE}; make it with evenhand mitigate data.")
    try:
        file = pq.ParquetFile(place, page_checksum_verification=True)
        about = json.loads((file.schema_arrow.metadata or {})[_META])
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']!r}, allowed: {_FORMAT}")
        shown = pictures and _IMAGES.name in file.schema_arrow.names
        schema = _SCHEMA.append(_IMAGES) if shown else _SCHEMA
        table = file.read(columns=schema.names, use_threads=False).cast(schema)
        _refuse_missing(table)
        rows = table.to_pylist()
        found = TupleSet(
            str(about["attribute"]),
            tuple(map(str, about["groups"])),
            (int(about["code_shape"][0]), int(about["code_shape"][1])),
            int(about["codebook_size"]),
            str(about["codebook_digest"]),
            tuple(
                PictureTuple(
                    row["prompt_id"],
                    row["prompt"],
                    tuple(row["asked"]),
                    tuple(row["groups"]),
                    np.array(row["codes"], dtype=np.int32),
                    tuple(row["confidence"]),
                    row["source"],
                    tuple(one["bytes"] for one in row["images"]) if shown else (),
                )
                for row in rows
            ),
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptLedgerError(
            f"{str(place)!r} is no set of tuples ({type(error).__name__}: {error}); make it anew."
        ) from error
    check_tuples(found)
    return found


def _refuse_missing(table: pa.Table) -> None:
    for field in _SCHEMA:
        column, kind = table.column(field.name), field.type
        while not column.null_count and pa.types.is_list(kind):
            column, kind = pc.list_flatten(column), kind.value_type
        if column.null_count:
            raise ValueError(f"{field.name}: {column.null_count} values are missing")


def _check_texts(row: int, one: PictureTuple) -> None:
    if not one.prompt.strip() or not one.prompt_id.strip():
        raise BadInputError(
            f"tuple {row}: got the prompt {one.prompt[:60]!r} of identity {one.prompt_id[:60]!r}; allowed: texts that "
            "are not empty. Make the data anew."
        )
    if not all(0 <= value <= 1 for value in one.confidence):
        raise BadInputError(
            f"tuple {row} ({one.prompt[:60]!r}): got the confidences {one.confidence}; allowed: one number in [0, 1] "
            "for each picture. Make the data anew."
        )


def _check_tokenizer(tuples: TupleSet, model: _Tokenizing) -> None:
    own = (tuple(tuples.code_shape), tuples.codebook_size, tuples.codebook_digest)
    its = (tuple(model.code_shape), model.codebook_size, model.codebook_digest)
    if own != its:
        raise ArtefactError(
            f"tuples: their codes are of a picture tokenizer of shape {own[0]}, {own[1]} codes, {own[2]}; {model.name} "
            f"has {its[0]}, {its[1]}, {its[2]}. Make the data anew for this model."
        )
