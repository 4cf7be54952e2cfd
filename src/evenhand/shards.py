"""The Parquet files of a run. In: prompts and samples. Out: the bytes of their files, and the records back.

Knows nothing of folders: what is wrong with bytes is a ``CorruptLedgerError`` that says what, and
``RunFolder.load`` adds which file it is and what to do.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evenhand.errors import BadInputError, CorruptLedgerError, PictureError
from evenhand.pictures import preview
from evenhand.records import Claim, Edit, Prompt, Sample

__all__ = [
    "PromptRow",
    "prompt_file",
    "prompt_row",
    "read_previews",
    "read_prompt_rows",
    "read_prompts",
    "read_samples",
    "sample_file",
    "sha256_of",
    "storable_prompts",
    "utf8",
]

PromptRow = dict[str, str | None]

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRINGS = ("id", "probe", "text", "image_name", "image_sha256", "facts")
# The key that `datasets` reads to decode a column; without it the picture would be a struct of bytes.
_FEATURES = {name: {"dtype": "string", "_type": "Value"} for name in _STRINGS} | {"image": {"_type": "Image"}}
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PROMPT_SCHEMA = pa.schema(
    [*[pa.field(name, pa.string()) for name in _STRINGS], pa.field("image", _PICTURE)],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
_EDIT = pa.struct(
    [
        *[(name, pa.int64()) for name in ("position", "start", "end")],
        *[(name, pa.string()) for name in ("drafted", "emitted")],
        *[(name, pa.float64()) for name in ("alpha", "s", "shift_drafted", "shift_emitted")],
        ("attribute", pa.string()),
        ("kl", pa.float64()),
        ("why", pa.string()),
    ]
)
_CLAIM = pa.struct(
    [("s", pa.float64()), ("reason", pa.string()), ("faces", pa.int64()), ("shares", pa.list_(pa.float64()))]
)
_SAMPLE_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("k", pa.int64()),
        ("seed", pa.int64()),
        ("text", pa.string()),
        ("error", pa.string()),
        ("claim", _CLAIM),
        ("edits", pa.list_(_EDIT)),
        ("passed", pa.list_(_EDIT)),
        ("tokens", pa.int64()),
        ("image", _PICTURE),
        ("image_sha256", pa.string()),
        ("codes", pa.list_(pa.int32())),
    ]
)


def utf8(text: str) -> str:
    """The text with U+FFFD for each lone surrogate: it has a UTF-8, and every offset still holds."""
    return _SURROGATE.sub("\ufffd", text)


def _storable(value: object) -> object:
    match value:
        case str():
            return utf8(value)
        case dict():
            return {key: _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
    return value


def sha256_of(value: object) -> str:
    """The SHA-256, in hexadecimal, of a value's JSON: ASCII, keys sorted, without spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def storable_prompts(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The prompts with text that has a UTF-8, see ``utf8``.

    Raises:
        BadInputError: Two prompts have one id.
    """
    cleaned = tuple(
        replace(
            prompt,
            id=utf8(prompt.id),
            probe=utf8(prompt.probe),
            text=utf8(prompt.text),
            facts={utf8(key): utf8(value) for key, value in prompt.facts.items()},
        )
        for prompt in prompts
    )
    twice = [name for name, times in Counter(prompt.id for prompt in cleaned).items() if times > 1]
    if twice:
        raise BadInputError(f"prompts: got id {twice[0]!r} more than once; allowed: unique ids; do: rename one")
    return cleaned


def prompt_row(prompt: Prompt) -> PromptRow:
    """What is stored of a prompt apart from its preview; a picture that cannot be read has no hash."""
    digest = None
    if prompt.image is not None:
        with suppress(OSError, ValueError):
            if Path(prompt.image).is_file():
                with Path(prompt.image).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "id": prompt.id,
        "probe": prompt.probe,
        "text": prompt.text,
        "image_name": None if prompt.image is None else utf8(PurePath(prompt.image).name),
        "image_sha256": digest,
        "facts": json.dumps(dict(prompt.facts), sort_keys=True, ensure_ascii=False),
    }


def prompt_file(prompts: Sequence[Prompt], rows: Sequence[PromptRow]) -> bytes:
    """The bytes of ``prompts.parquet``; a picture that cannot be read has no preview.

    Args:
        prompts: In the order they are asked.
        rows: ``prompt_row`` of each, same order.
    """
    stored = []
    for prompt, row in zip(prompts, rows, strict=True):
        image = None
        if prompt.image is not None:
            with suppress(PictureError):
                image = {"bytes": preview(prompt.image), "path": row["image_name"]}
        stored.append({**row, "image": image})
    return _parquet(pa.Table.from_pylist(stored, schema=_PROMPT_SCHEMA))


def read_prompt_rows(content: bytes, *, sha256: str) -> list[PromptRow]:
    """The rows of ``prompts.parquet``, in their order, without the previews.

    Raises:
        CorruptLedgerError: The bytes are not such a file, or ``sha256_of`` its rows is not ``sha256``.
    """
    rows: list[PromptRow] = _read_table(content, _PROMPT_SCHEMA, list(_STRINGS)).to_pylist()
    if sha256_of(rows) != sha256:
        raise CorruptLedgerError("prompts do not match prompts_sha256 in the manifest")
    return rows


def read_prompts(content: bytes, *, sha256: str) -> tuple[Prompt, ...]:
    """The prompts of ``prompts.parquet``; ``image`` is the name of the picture without its folder.

    Raises:
        CorruptLedgerError: As ``read_prompt_rows``.
    """
    return tuple(
        Prompt(
            id=str(row["id"]),
            probe=str(row["probe"]),
            text=str(row["text"]),
            image=row["image_name"],
            facts=json.loads(str(row["facts"])),
        )
        for row in read_prompt_rows(content, sha256=sha256)
    )


def read_previews(content: bytes) -> dict[str, bytes]:
    """Prompt id -> JPEG bytes, from ``prompts.parquet``; prompts without a preview are absent.

    Raises:
        CorruptLedgerError: The bytes are not such a file.
    """
    table = _read_table(content, _PROMPT_SCHEMA, ["id", "image"])
    return {row["id"]: row["image"]["bytes"] for row in table.to_pylist() if row["image"]}


def sample_file(samples: Sequence[Sample]) -> bytes:
    """The bytes of one shard, with ``sha256_of`` its rows, pictures by their hash, in the metadata.

    Raises:
        BadInputError: A field of a sample has another type than the record declares, or ``image_sha256`` is given
            and is not the picture's.
    """
    try:
        rows = [_sample_row(sample) for sample in samples]
        table = pa.Table.from_pylist(rows, schema=_SAMPLE_SCHEMA)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise BadInputError(f"cannot store samples: got {error}; allowed: the types of Sample's fields") from error
    digest = sha256_of(table.drop_columns(["image"]).to_pylist())
    return _parquet(table.replace_schema_metadata({"rows_sha256": digest, "huggingface": _SAMPLE_FEATURES}))


def _sample_row(sample: Sample) -> dict[str, object]:
    row: dict[str, object] = {key: _storable(value) for key, value in asdict(sample).items()}
    digest = None if sample.image is None else hashlib.sha256(sample.image).hexdigest()
    if sample.image_sha256 not in (None, digest):
        raise BadInputError(
            f"cannot store sample {sample.k} of prompt {sample.prompt_id!r}: got image_sha256 {sample.image_sha256}, "
            f"the picture's is {digest}; leave it out, and read samples with their pictures to store them elsewhere."
        )
    image = None if sample.image is None else {"bytes": sample.image, "path": None}
    return {**row, "image": image, "image_sha256": digest}


def read_samples(content: bytes, *, pictures: bool = True) -> list[Sample]:
    """The samples of one shard, in the order they were written.

    Args:
        content: The shard.
        pictures: Whether to read the pictures; ``image`` is None where they are left.

    Raises:
        CorruptLedgerError: The bytes are not a shard, or its rows are not those that were written.
    """
    columns = [name for name in _SAMPLE_SCHEMA.names if pictures or name != "image"]
    table = _read_table(content, _SAMPLE_SCHEMA, columns)
    told = table.column("image").to_pylist() if pictures else [None] * len(table)
    table = table.drop_columns(["image"]) if pictures else table
    rows = table.to_pylist()
    if (table.schema.metadata or {}).get(b"rows_sha256") != sha256_of(rows).encode("ascii"):
        raise CorruptLedgerError("rows do not match rows_sha256")
    return [_sample(row, picture, check=pictures) for row, picture in zip(rows, told, strict=True)]


def _sample(row: dict[str, Any], picture: dict[str, Any] | None, *, check: bool) -> Sample:
    image = None if picture is None else picture["bytes"]
    if check and row["image_sha256"] != (None if image is None else hashlib.sha256(image).hexdigest()):
        raise CorruptLedgerError(f"the picture of sample {row['k']} of prompt {row['prompt_id']!r} has another hash")
    said = row["claim"]
    claim = None if said is None else Claim(**{**said, "shares": said["shares"] and tuple(said["shares"])})
    edits, passed = (tuple(Edit(**edit) for edit in row[name]) for name in ("edits", "passed"))
    codes = None if row["codes"] is None else tuple(row["codes"])
    return Sample(**{**row, "claim": claim, "edits": edits, "passed": passed, "image": image, "codes": codes})


def _features(kind: pa.DataType) -> object:
    """A column's type as `datasets` writes it."""
    if kind == _PICTURE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {field.name: _features(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_features(kind.value_type)]
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


_SAMPLE_FEATURES = json.dumps({"info": {"features": {field.name: _features(field.type) for field in _SAMPLE_SCHEMA}}})


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _read_table(content: bytes, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not file.schema_arrow.equals(schema):
            raise CorruptLedgerError("it has other columns")
        # In this thread: a program that ends while Arrow's pool still starts its own is ended by the system.
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)  # finds text that is not UTF-8
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise CorruptLedgerError(str(error)) from error
    return table
